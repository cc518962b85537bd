"""Checkboxes for batches: several models and sizes."""

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

    def __init__(self, dispatcher: Dispatcher, changed: Callback) -> None:
        self._dispatcher = dispatcher
        self._changed = changed
        self._models: dict[str, widgets.Checkbox] = {}
        self._sizes: dict[str, widgets.Checkbox] = {}
        self._model_row, self._size_row = row(classes=("brm-checks",)), row(classes=("brm-checks",))
        self.box = light.VBox(
            [
                html('<div class="brm-quiet">Also with these models:</div>'),
                self._model_row,
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

    def offer_models(self, models: Sequence[Model]) -> None:
        """Offer these models."""
        self._models = self._changed_boxes(self._models, [model.name for model in models])
        self._model_row.children = tuple(self._models.values())

    def offer_sizes(self, catalog: Catalog, model: str) -> None:
        """Offer the sizes that `model` and all checked models make."""
        chosen = [entry for name in (model, *self.models) if (entry := catalog.find(name)) is not None]
        sizes = [size for size in (chosen[0].sizes if chosen else ()) if all(m.allows_size(size) for m in chosen)]
        if sizes == list(self._sizes):
            return
        self._sizes = self._changed_boxes(self._sizes, sizes)
        self._size_row.children = tuple(self._sizes.values())

    def _changed_boxes(self, boxes: dict[str, widgets.Checkbox], names: Sequence[str]) -> dict[str, widgets.Checkbox]:
        """Return a box for each name in `names`: existing boxes are kept, the others are closed."""
        for text in names:
            if text not in boxes:
                boxes[text] = _checkbox(text)
                self._dispatcher.on_change(boxes[text], self._changed)
        for text in set(boxes) - set(names):
            close_tree(boxes.pop(text))
        return {text: boxes[text] for text in names}


def _checkbox(text: str) -> widgets.Checkbox:
    return light.Checkbox(description=text, indent=False)
