"""The limits of the Wallet tab: sliders for one image, the session and the day; in a class, a student's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import ipywidgets as widgets

from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.widgets import field, html
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, NO_CAPS, Caps
from blockrun_magic.payments.money import format_usd
from blockrun_magic.threads import run_io

__all__ = ["LimitSliders"]

_STEPS = {
    "image": ("At most for one image", (50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000)),
    "session": ("At most in this session", (500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 50_000_000)),
    "day": ("At most in a day (UTC)", (1_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000, 200_000_000)),
}
_NOTE = "The limits of your class are above. These are your own, and apply as well."
_NOT_SET = "not set"


class LimitSliders:
    """Three sliders; `changed` is called when a limit has changed.

    A class has limits of its own, so there the sliders show only limits that the student has set: at first, none.
    """

    def __init__(self, context: Context, dispatcher: Dispatcher, changed: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._changed = changed
        self._note = html("", "brm-quiet")
        self._sliders = {name: self._slider(name, dispatcher) for name in _STEPS}
        self.parts = (self._note, *self._sliders.values())
        self._show(context.session.studio.records.limits(self._defaults))

    @property
    def _in_class(self) -> bool:
        return self._context.session.gateway.paid_by is Payer.CLASSROOM

    @property
    def _defaults(self) -> Caps:
        return NO_CAPS if self._in_class else DEFAULT_CAPS

    async def refresh(self) -> None:
        """Show the limits as they are now."""
        self._show(await run_io(self._context.session.studio.records.limits, self._defaults))

    def _slider(self, name: str, dispatcher: Dispatcher) -> widgets.SelectionSlider:
        label, steps = _STEPS[name]
        options = [(format_usd(value), value) for value in steps]
        slider = field(light.SelectionSlider(description=label, options=options, continuous_update=False), "brm-limit")
        dispatcher.on_change(slider, partial(self._set, name))
        return slider

    def _show(self, caps: Caps) -> None:
        self._note.value = _NOTE if self._in_class else ""
        for name, slider in self._sliders.items():
            none, current = getattr(NO_CAPS, name), getattr(caps, name)
            values = sorted({*_STEPS[name][1], current, *((none,) if self._in_class else ())})
            options = [(_NOT_SET if value == none else format_usd(value), value) for value in values]
            if list(slider.options) != options:
                slider.options = options
            slider.value = current

    async def _set(self, name: str) -> None:
        records, value = self._context.session.studio.records, self._sliders[name].value
        if getattr(await run_io(records.limits, self._defaults), name) != value:
            await run_io(partial(records.set_limits, **{name: None if value == getattr(NO_CAPS, name) else value}))
            await self._changed()
