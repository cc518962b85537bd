"""The button that buys, and its presses."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets

from blockrun_magic.notebook.subshells import route_to_subshell
from blockrun_magic.notebook.web.module import script

__all__ = ["GoButton", "Press"]

_REMEMBERED = 100
_MAX_PROMPT = 40_000


@dataclass(frozen=True, slots=True)
class Press:
    """One press of a button.

    `id` is unique, and `at` is the time of the press in the browser (Unix seconds). `changed` is true if the page's
    form has changed since the last press. `agreed` is the price on the button, in micro-USDC, or None. `prompt` is the
    text in the prompt.
    """

    id: str
    at: float
    changed: bool = False
    agreed: int | None = None
    prompt: str | None = None


class GoButton(anywidget.AnyWidget):
    """A button whose presses carry its price: `agreed` is the most that is signed."""

    _esm = script("go.js")

    description = traitlets.Unicode().tag(sync=True)
    tooltip = traitlets.Unicode().tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    agreed = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, description: str, tooltip: str) -> None:
        self._known: deque[str] = deque(maxlen=_REMEMBERED)
        super().__init__(description=description, tooltip=tooltip)
        route_to_subshell(self)

    def on_press(self, do: Callable[[Press], None]) -> None:
        """Call `do` with every press, on the kernel's thread; the same press never counts twice."""

        def receive(_: object, content: Any, _buffers: object) -> None:
            press = _press(content)
            if press is not None and press.id not in self._known:
                self._known.append(press.id)
                do(press)

        self.on_msg(receive)


def _press(content: Any) -> Press | None:
    """Return the press in a message from the page, or None for any other message."""
    if not isinstance(content, dict) or content.get("type") != "press":
        return None
    name, at, agreed, prompt = (content.get(part) for part in ("id", "at", "agreed", "prompt"))
    return Press(
        id=str(name)[:40],
        at=at / 1000 if isinstance(at, int | float) else time.time(),
        changed=content.get("changed") is True,
        agreed=agreed if isinstance(agreed, int) and not isinstance(agreed, bool) else None,
        prompt=prompt if isinstance(prompt, str) and len(prompt) <= _MAX_PROMPT else None,
    )
