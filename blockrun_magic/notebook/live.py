"""What a waiting cell shows: one line that changes, and then becomes the picture.

The whole cell has one display id, updated from the cell's own thread while it waits. A terminal
gets a line that is overwritten, and nothing at all when nobody looks at it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blockrun_magic.notebook.cards import Card, Message, money_words
from blockrun_magic.studio.progress import Progress

if TYPE_CHECKING:
    from IPython.core.display_functions import DisplayHandle

__all__ = ["LiveLine"]

_SHOW_AFTER = 0.25


class LiveLine:
    """The line of one cell; `label` says what is being made, `realm` whose money it costs."""

    def __init__(self, label: str, progress: Progress, realm: str, *, terminal: bool, quiet: bool) -> None:
        self._label = label
        self._progress = progress
        self._realm = realm
        self._terminal = terminal
        self._quiet = quiet or (terminal and not sys.stdout.isatty())
        self._handle: DisplayHandle | None = None
        self._shown = ""

    def tick(self) -> None:
        """Show how far it is, if that has changed since the last time."""
        if self._quiet or self._progress.elapsed < _SHOW_AFTER:
            return
        text = self._text()
        if text == self._shown:
            return
        self._shown = text
        if self._terminal:
            sys.stdout.write(f"\r\x1b[K{text}")
            sys.stdout.flush()
            return
        self._update(Message(text))

    def end(self, final: Any = None) -> None:
        """Put `final` in the place of the line, or nothing."""
        if self._terminal:
            if self._shown:
                sys.stdout.write("\r\x1b[K")
                sys.stdout.flush()
            if final is not None:
                print(final)  # noqa: T201  a terminal has no other display
            return
        if final is not None:
            self._update(final)
        elif self._handle is not None:
            self._handle.update(_NOTHING, raw=True)

    def stopped(self) -> None:
        """Say what Stop did and did not undo."""
        paid = ""
        if self._progress.price is not None:
            paid = f"{money_words(self._progress.price, self._realm)} "
        if self._progress.sent:
            words = (
                f"Stopped after {self._progress.elapsed:.0f} s. The payment of {paid}had been sent already;"
                " run the cell again to collect the picture, it is not paid twice."
            )
        else:
            words = f"Stopped after {self._progress.elapsed:.0f} s. Nothing was signed, nothing is charged."
        self.end(Message(words))

    def _text(self) -> str:
        price = self._progress.price
        cost = "" if price is None else f" · {money_words(price, self._realm)}"
        return f"{self._label}{cost} · {self._progress.stage} · {self._progress.elapsed:.0f} s"

    def _update(self, content: Card | Any) -> None:
        from IPython.display import DisplayHandle

        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(content)
        else:
            self._handle.update(content)


_NOTHING: Mapping[str, str] = {"text/plain": ""}
