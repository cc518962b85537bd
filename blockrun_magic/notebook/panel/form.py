"""The form of one tab: what the picture shall show, how, and the button with its price."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError, FlagError
from blockrun_magic.gateway.catalog.catalog import MAX_N
from blockrun_magic.notebook.cells.flag_values import CONVERTERS
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.parser import parse_flags, render
from blockrun_magic.notebook.cells.plan import RequestPlan, plan_requests
from blockrun_magic.notebook.cells.styles import load_styles
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.prices import LISTED, Prices, price_keys, price_words
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, field, html, row, show_if
from blockrun_magic.payments.money import format_usd

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog, Model

__all__ = ["Form"]

_EXAMPLES = {
    "imagegen": "a lighthouse on a cliff at dawn, long shadows, watercolour",
    "img2img": "replace the sky with an aurora",
}
_VERBS = {"imagegen": "Generate", "img2img": "Edit"}
_NOT_HERE = ("background", "dry_run", "quiet", "full", "gateway")
_DEFAULTS = Flags("")
_PAUSE = 0.3
"""Seconds of rest before the gateway is asked for a price: a person is still choosing."""


class Form:
    """Prompt, model, size and the rest for `magic`; `flags()` is what they say together."""

    def __init__(self, magic: str, context: Context, prices: Prices, dispatcher: Dispatcher, home: Path) -> None:
        self.magic = magic
        self._context = context
        self._prices = prices
        self._home = home
        self._asking = 0
        self._add_inputs(context.catalog, home)
        self.named: Callable[[Flags], Flags] = lambda flags: flags
        """Adds to the flags what a cell would say about the sources; the Edit tab sets it."""
        self.notice = Notice()
        self._price = html("", "brm-price")
        self.go = button(_VERBS[magic], "Shift-Enter in the prompt does the same", "brm-go")
        self.go.button_style = "primary"
        self._cell = html("", "brm-cell")
        self._cell_box = widgets.Accordion([self._cell], titles=("The same as a cell",), selected_index=None)
        self.box = widgets.VBox(
            [
                self.prompt,
                row(self.model, self.size, self.count, self.quality),
                row(self.style, self.name, self.line),
                row(self.go, self._price),
                self.notice.box,
                self._cell_box,
            ]
        )
        self._choose_sizes()
        dispatcher.on_change(self.model, self._model_changed)
        self._others = (self.prompt, self.size, self.count, self.quality, self.style, self.name, self.line)
        for widget in self._others:
            dispatcher.on_change(widget, self.refresh)

    def _add_inputs(self, catalog: Catalog, home: Path) -> None:
        self.prompt = field(
            widgets.Textarea(description="Prompt", placeholder=_EXAMPLES[self.magic], rows=3, continuous_update=False),
            "brm-prompt",
        )
        models = [model for model in catalog.models if self.magic == "imagegen" or model.edits]
        self.model = field(
            widgets.Dropdown(
                description="Model",
                options=[(_model_words(model), model.id) for model in models],
                value=self._default_model(catalog),
            ),
            "brm-model",
        )
        self.size = field(widgets.Dropdown(description="Size"))
        self.count = field(widgets.BoundedIntText(description="Pictures", value=1, min=1, max=MAX_N), "brm-short")
        self.quality = field(widgets.Dropdown(description="Quality"), "brm-short")
        styles = [("none", ""), *((f"{style.name}: {style.look}", style.name) for style in load_styles(home).values())]
        self.style = field(widgets.Dropdown(description="Style", options=styles))
        self.name = field(widgets.Text(description="Variable", placeholder="img", continuous_update=False), "brm-short")
        self.line = field(
            widgets.Text(
                description="Flags, if you like to type", placeholder="--max-price 0.10", continuous_update=False
            )
        )

    def _default_model(self, catalog: Catalog) -> str:
        settings = self._context.session.settings
        chosen = settings.model if self.magic == "imagegen" else settings.edit_model
        known = catalog.find(chosen) if chosen else None
        if known is not None and (self.magic == "imagegen" or known.edits):
            return known.id
        return catalog.default_model("generate" if self.magic == "imagegen" else "edit")

    # -- what was said

    def words(self) -> Hashable:
        """Return all that stands in the form now, to be compared."""
        return tuple(widget.value for widget in (self.model, *self._others))

    def flags(self) -> Flags:
        """Return what form and flags line say together, the line having the last word; raises FlagError."""
        typed = parse_flags(self.magic, self.line.value)
        if typed.prompt:
            raise FlagError(
                f"The flags line holds {typed.prompt[:60]!r}, which is no flag.", "Write the prompt in the field above."
            )
        for name in _NOT_HERE:
            if getattr(typed, name):
                raise FlagError(
                    f"--{name.replace('_', '-')} is for cells.",
                    "The panel works in the background, shows the price first, and has a menu of gateways.",
                )
        chosen = Flags(
            prompt=self.prompt.value.strip(),
            models=(_shortest(self._context.catalog, self.model.value),),
            # A model that is typed makes sizes of its own.
            sizes=() if typed.models or not self.size.value else (self.size.value,),
            n=self.count.value if self.count.value > 1 else None,
            quality=None if typed.models else self.quality.value,
            name=_variable(self.name.value),
            style=self.style.value or None,
        )
        said = {f.name: getattr(typed, f.name) for f in fields(Flags)}
        return replace(chosen, **{name: value for name, value in said.items() if value != getattr(_DEFAULTS, name)})

    def wish(self, *, prompt_needed: bool = True) -> tuple[Flags, RequestPlan]:
        """Return the flags, and what they ask for; raises FlagError, RequestError or SourceError."""
        flags = self.flags()
        if prompt_needed and not (flags.prompt or flags.prompts or flags.vary):
            raise FlagError("There is no prompt.", "Say in the field above what the picture shall show.")
        return flags, plan_requests(self.magic, flags, self._context.catalog, self._context.shell.user_ns, self._home)

    # -- what is shown

    async def _model_changed(self) -> None:
        self._choose_sizes()
        await self.refresh()

    def _choose_sizes(self) -> None:
        model = self._context.catalog.find(self.model.value)
        sizes = model.sizes if model else ()
        if tuple(self.size.options) != sizes:
            kept = self.size.value
            self.size.options = sizes
            self.size.value = kept if kept in sizes else next(iter(sizes), None)
        qualities = model.qualities if model else ()
        self.quality.options = qualities
        show_if(self.quality, bool(qualities))

    async def refresh(self) -> None:
        """Show the price of what the form says now: the list price at once, then the gateway's."""
        self._asking = asking = self._asking + 1
        try:
            # On a thread: a variable may stand for a picture that is still on its way.
            flags, wish = await asyncio.to_thread(self.wish, prompt_needed=False)
        except BlockrunError as error:
            self._show_price((), "")
            self.notice.error(error)
            return
        self.notice.clear()
        self._show_cell(self.named(flags))
        keys = price_keys(wish)
        studio, gateway = self._context.session.studio_and_gateway()
        prices, note = self._prices.known(studio, gateway, keys)
        self._show_price(prices, note, wish.n)
        if note != LISTED:
            return
        await asyncio.sleep(_PAUSE)
        if asking != self._asking:
            return  # the form has changed again
        try:
            await self._prices.ask(studio, gateway, keys)
        except BlockrunError as error:
            note = f"{LISTED}; {error.message}"
        else:
            prices, note = self._prices.known(studio, gateway, keys)
        if asking == self._asking:
            self._show_price(prices, note, wish.n)

    def _show_price(self, prices: Sequence[int | None], note: str, n: int = 1) -> None:
        words = price_words(n, prices, self._context.session.gateway.realm)
        small = f' <span class="brm-quiet">{escape(note)}</span>' if note else ""
        self._price.value = f'<span role="status">{escape(words)}</span>{small}'
        total = "" if None in prices or not prices else f" · {format_usd(sum(price or 0 for price in prices))}"
        self.go.description = _VERBS[self.magic] + total

    def _show_cell(self, flags: Flags) -> None:
        text = render(self.magic, flags)
        self._cell.value = f'<pre class="brm-code" tabindex="0">{escape(text)}</pre>'

    def close(self) -> None:
        """Take the form's widgets away."""
        close_tree(self.box)


def _model_words(model: Model) -> str:
    prices = sorted({price for size in model.sizes if (price := model.price(size)) is not None})
    cost = (
        " to ".join(dict.fromkeys(format_usd(price) for price in (prices[0], prices[-1]))) if prices else "price asked"
    )
    return f"{model.name} · {cost} · {model.good_for}"


def _shortest(catalog: Catalog, model: str) -> str:
    known = catalog.find(model)
    return known.name if known else model


def _variable(text: str) -> str | None:
    """Return the variable's name as `--as` takes it; raises FlagError for a name that is none."""
    return str(CONVERTERS["name"](text.strip())) if text.strip() else None
