"""Batches by mouse: several models and sizes as checkboxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.widgets import close_tree, html, row

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog, Model
    from blockrun_magic.notebook.panel.dispatcher import Callback, Dispatcher

__all__ = ["BatchChoices"]


class BatchChoices:
    """Checkboxes for more models than the one in the menu, and for sizes that all of them make."""

    def __init__(self, models: Sequence[Model], dispatcher: Dispatcher, changed: Callback) -> None:
        self._dispatcher = dispatcher
        self._changed = changed
        self._models = {model.name: _checkbox(model.name) for model in models}
        self._sizes: dict[str, widgets.Checkbox] = {}
        self._size_row = row(classes=("brm-checks",))
        for box in self._models.values():
            dispatcher.on_change(box, changed)
        self.box = light.VBox(
            [
                html('<div class="brm-quiet">Also with these models:</div>'),
                row(*self._models.values(), classes=("brm-checks",)),
                html('<div class="brm-quiet">Also in these sizes:</div>'),
                self._size_row,
            ]
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that are checked."""
        return tuple(name for name, box in self._models.items() if box.value)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes that are checked."""
        return tuple(size for size, box in self._sizes.items() if box.value)

    def offer(self, catalog: Catalog, model: str) -> None:
        """Offer the sizes that `model` and all checked models make."""
        chosen = [known for name in (model, *self.models) if (known := catalog.find(name)) is not None]
        sizes = [size for size in (chosen[0].sizes if chosen else ()) if all(m.allows_size(size) for m in chosen)]
        if sizes == list(self._sizes):
            return
        for size in sizes:
            if size not in self._sizes:
                self._sizes[size] = _checkbox(size)
                self._dispatcher.on_change(self._sizes[size], self._changed)
        for size in set(self._sizes) - set(sizes):
            close_tree(self._sizes.pop(size))
        self._sizes = {size: self._sizes[size] for size in sizes}
        self._size_row.children = tuple(self._sizes.values())


def _checkbox(text: str) -> widgets.Checkbox:
    return light.Checkbox(description=text, indent=False)
