"""The form of one tab: prompt, model, size and the rest, and the button with its price."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from functools import partial
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
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.form.choices import BatchChoices
from blockrun_magic.notebook.panel.form.helpers import PromptHelp, check_words
from blockrun_magic.notebook.panel.form.offer import Offer
from blockrun_magic.notebook.panel.form.plan_table import plan_html
from blockrun_magic.notebook.panel.form.prices import Prices, price_keys
from blockrun_magic.notebook.panel.widgets import Notice, close_tree, field, html, row, section, show_if
from blockrun_magic.payments.money import format_usd
from blockrun_magic.threads import run_foreign

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog, Model

__all__ = ["Form"]

_EXAMPLES = {
    "imagegen": "a lighthouse on a cliff at dawn, long shadows, watercolor",
    "img2img": "replace the sky with an aurora",
}
_VERBS = {"imagegen": "Generate", "img2img": "Edit"}
_CELL_ONLY = ("background", "dry_run", "quiet", "full", "gateway")
_DEFAULTS = Flags("")


class Form:
    """The inputs for `magic`; `flags()` returns their values together."""

    def __init__(self, magic: str, context: Context, prices: Prices, dispatcher: Dispatcher, home: Path) -> None:
        self.magic = magic
        self._context = context
        self._prices = prices
        self._home = home
        self._refreshing = 0
        self._refused: Hashable = None
        self.with_sources: Callable[[Flags], Flags] = lambda flags: flags
        """Adds the sources to the flags, as a cell would; the Edit tab sets it."""
        self.sources: Callable[[], Hashable] = tuple
        """Returns the sources and the mask, to be compared; the Edit tab sets it."""
        self.notice = Notice()
        self.offer = Offer(_VERBS[magic], "Shift-Enter in the prompt does the same", context, prices)
        self._add_inputs(context.catalog, home, dispatcher)
        self._cell = html("", "brm-cell")
        self._plan = html("", "brm-plan")
        self.box = light.VBox(self._rows())
        self._choose_sizes()
        self._connect(dispatcher)

    def _rows(self) -> list[widgets.Widget]:
        helping = self.helping
        choices = [helping.style, row(self.model, self.size, self.count, self.quality)]
        buying = [row(self.offer.button, self.offer.price, classes=("brm-buy",)), self.notice.box, self._plan]
        # On the Edit tab, the sources are above the prompt: the button comes first, so that it needs no scrolling.
        middle = [*choices, *buying] if self.magic == "imagegen" else [*buying, *choices]
        return [
            self.prompt,
            helping.fields_box,
            *middle,
            section("Several models or sizes", self.choices.box),
            section("Prompts, name, flags", row(helping.recent, helping.template), row(self.name, self.line)),
            section("The same as a cell", self._cell),
        ]

    def _add_inputs(self, catalog: Catalog, home: Path, dispatcher: Dispatcher) -> None:
        self.prompt = field(
            light.Textarea(description="Prompt", placeholder=_EXAMPLES[self.magic], rows=3, continuous_update=False),
            "brm-prompt",
        )
        self._models = self._offered(catalog)
        self.model = field(
            light.Dropdown(
                description="Model", options=_model_options(self._models), value=self._default_model(catalog)
            ),
            "brm-model",
        )
        self.size = field(light.Dropdown(description="Size"), "brm-size")
        self.count = field(light.BoundedIntText(description="Images", value=1, min=1, max=MAX_N), "brm-short")
        self.quality = field(light.Dropdown(description="Quality"), "brm-short")
        self.helping = PromptHelp(self.prompt, list(load_styles(home).values()))
        self.choices = BatchChoices(dispatcher, self._choices_changed)
        self.choices.offer_models(self._models)
        self.name = field(light.Text(description="Variable", placeholder="img", continuous_update=False), "brm-short")
        self.line = field(light.Text(description="Flags (they override the form)", placeholder="--max-price 0.10"))
        self.line.continuous_update = False

    def _offered(self, catalog: Catalog) -> list[Model]:
        """Return the models to choose from: on the Edit tab, those that edit, or all if none does."""
        fitting = [model for model in catalog.models if self.magic == "imagegen" or model.edits]
        return [model for model in fitting if model in catalog.offered] or fitting

    def _offer_models(self) -> None:
        """Offer the models of the gateway in use, which may have changed; a choice that is still possible remains."""
        catalog, chosen = self._context.catalog, self.model.value
        models = self._offered(catalog)
        if models != self._models:
            self._models = models
            self.model.options = _model_options(models)
            offered = {model.id for model in models}
            self.model.value = next(
                (name for name in (chosen, self._default_model(catalog)) if name in offered), models[0].id
            )
            self.choices.offer_models(models)

    def _default_model(self, catalog: Catalog) -> str:
        settings = self._context.session.settings
        chosen = settings.model if self.magic == "imagegen" else settings.edit_model
        entry = catalog.find(chosen) if chosen else None
        if entry is not None and (self.magic == "imagegen" or entry.edits):
            return entry.id
        return catalog.default_model("generate" if self.magic == "imagegen" else "edit")

    def _connect(self, dispatcher: Dispatcher) -> None:
        dispatcher.on_change(self.model, self._model_changed)
        dispatcher.on_change(self.prompt, lambda: self._prompt_changed(dispatcher))
        self._others = (self.size, self.count, self.quality, self.helping.style, self.name, self.line)
        for widget in self._others:
            dispatcher.on_change(widget, self.refresh)
        for choice in (self.helping.recent, self.helping.template):
            dispatcher.on_change(choice, partial(self.helping.take, choice))

    # -- contents

    def words(self) -> Hashable:
        """Return everything in the form, to be compared."""
        values = tuple(widget.value for widget in (self.model, self.prompt, *self._others))
        return values, self.helping.values, self.choices.models, self.choices.sizes, self.sources()

    def flags(self) -> Flags:
        """Return the flags of the form and the flags line, which overrides the form. Raises FlagError."""
        typed = parse_flags(self.magic, self.line.value)
        if typed.prompt:
            raise FlagError(f"{typed.prompt[:60]!r} in the flags line is not a flag.", "Write the prompt in its field.")
        for name in _CELL_ONLY:
            if getattr(typed, name):
                raise FlagError(f"--{name.replace('_', '-')} is for cells.", "Remove it from the flags line.")
        catalog, prompts = self._context.catalog, self.helping.prompts()
        models = tuple(dict.fromkeys((_shortest(catalog, self.model.value), *self.choices.models)))
        several = len(prompts) > 1
        chosen = Flags(
            prompt="\n".join(" ".join(prompt.split()) for prompt in prompts) if several else prompts[0],
            each=several,
            models=models,
            # A typed model has its own sizes.
            sizes=() if typed.models else self._sizes(catalog, models),
            n=self.count.value if self.count.value > 1 else None,
            quality=None if typed.models else self.quality.value,
            name=_variable(self.name.value),
            style=self.helping.style.value or None,
        )
        given = {f.name: getattr(typed, f.name) for f in fields(Flags)}
        return replace(chosen, **{name: value for name, value in given.items() if value != getattr(_DEFAULTS, name)})

    def _sizes(self, catalog: Catalog, models: Sequence[str]) -> tuple[str, ...]:
        """Return the sizes that every model makes; without any, each model uses its default."""
        sizes = dict.fromkeys(filter(None, (self.size.value, *self.choices.sizes)))
        entries = [model for name in models if (model := catalog.find(name)) is not None]
        return tuple(size for size in sizes if all(model.allows_size(size) for model in entries))

    def refuse(self, error: BlockrunError) -> None:
        """Show why a press was refused, until the form has changed."""
        self._refused = self.words()
        self.notice.error(error, error.hint)

    def plan(self, *, priced_only: bool = False) -> tuple[Flags, RequestPlan]:
        """Return the flags and their plan; raises FlagError, RequestError or SourceError.

        It may read files and wait for variables: call it on a thread. With `priced_only`, sources are left out,
        because the price does not depend on them, and the prompt may be empty.
        """
        flags = self.flags()
        if not priced_only and not (flags.prompt or flags.prompts or flags.vary):
            raise FlagError("The prompt is empty.", "Describe the image in the field above.")
        if not priced_only and self.line.value.split()[-1:] != ["--"]:
            check_words(self.magic, flags.prompt, advice=" To send it as words, write -- in the Flags field.")
        asked = replace(flags, images=(), mask=None) if priced_only else flags
        namespace = self._context.shell.user_ns
        return flags, plan_requests(self.magic, asked, self._context.catalog, namespace, self._home)

    # -- display

    async def _model_changed(self) -> None:
        self._choose_sizes()
        await self.refresh()

    async def _choices_changed(self) -> None:
        self.choices.offer_sizes(self._context.catalog, self.model.value)
        await self.refresh()

    async def _prompt_changed(self, dispatcher: Dispatcher) -> None:
        for text in self.helping.new_fields():
            dispatcher.on_change(text, self.refresh)
        await self.refresh()

    def _choose_sizes(self) -> None:
        model = self._context.catalog.find(self.model.value)
        sizes = model.sizes if model else ()
        if tuple(self.size.options) != sizes:
            current = self.size.value
            self.size.options = sizes
            self.size.value = current if current in sizes else next(iter(sizes), None)
        qualities = model.qualities if model else ()
        self.quality.options = qualities
        show_if(self.quality, bool(qualities))
        self.choices.offer_sizes(self._context.catalog, self.model.value)

    async def refresh(self, *, again: bool = False) -> None:
        """Show the price of the form's current contents; with `again`, ask the gateway again."""
        self._refreshing = number = self._refreshing + 1
        self._offer_models()
        try:
            flags, plan = await run_foreign(self.plan, priced_only=True)
        except BlockrunError as error:
            self.offer.withdraw()
            self._refused = None
            self.notice.error(error, error.hint)
            return
        if number != self._refreshing:
            return
        if self._refused != self.words():  # the refused form has changed
            self.notice.clear()
        self._show_cell(self.with_sources(flags))
        await self.offer.show(plan, again=again)
        self._show_plan(plan)

    def _show_plan(self, plan: RequestPlan) -> None:
        studio, gateway = self._context.session.studio_and_gateway()
        prices, _ = self._prices.known(studio, gateway, price_keys(plan))
        self._plan.value = plan_html(plan, prices, gateway.realm)
        show_if(self._plan, len(plan.variants) > 1)

    def _show_cell(self, flags: Flags) -> None:
        text = render(self.magic, flags)
        self._cell.value = f'<pre class="brm-code" tabindex="0">{escape(text)}</pre>'

    def close(self) -> None:
        """Remove the form's widgets."""
        close_tree(self.box)


def _model_options(models: Sequence[Model]) -> list[tuple[str, str]]:
    return [(_model_label(model), model.id) for model in models]


def _model_label(model: Model) -> str:
    prices = sorted({price for size in model.sizes if (price := model.price(size)) is not None})
    if not prices:
        return f"{model.name} · price on request · {model.good_for}"
    cost = " to ".join(dict.fromkeys(format_usd(price) for price in (prices[0], prices[-1])))
    return f"{model.name} · {cost} · {model.good_for}"


def _shortest(catalog: Catalog, model: str) -> str:
    entry = catalog.find(model)
    return entry.name if entry else model


def _variable(text: str) -> str | None:
    """Return the variable's name as `--as` takes it; raises FlagError for a bad name."""
    return str(CONVERTERS["name"](text.strip())) if text.strip() else None
