"""Progress of a waiting cell: one line that changes, and is replaced by the image.

The whole cell has one display id, updated from the cell's own thread while it waits. A terminal gets a line that is
overwritten; output that is not a terminal gets none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blockrun_magic.notebook.display.cards import Card, Message, bar, format_amount
from blockrun_magic.notebook.display.output import active_capture, is_terminal, show
from blockrun_magic.studio.batch import BatchProgress
from blockrun_magic.studio.progress import Progress

if TYPE_CHECKING:
    from IPython.core.display_functions import DisplayHandle
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["BatchProgressLine", "ProgressLine"]

_SHOW_DELAY = 0.25
_NOTHING: Mapping[str, str] = {"text/plain": ""}


class ProgressLine:
    """The line of one cell; `label` names the image being made, `realm` the kind of money.

    `usual` is the number of seconds that such images took before.
    """

    def __init__(
        self,
        label: str,
        progress: Progress | BatchProgress,
        realm: str,
        shell: InteractiveShell,
        *,
        quiet: bool = False,
        usual: float | None = None,
    ) -> None:
        self.label = label
        self._usual = usual
        self._progress = progress
        self._realm = realm
        self._terminal = is_terminal(shell)
        self._quiet = quiet or (self._terminal and not sys.stdout.isatty())
        self._capture = active_capture(shell)
        self._handle: DisplayHandle | None = None
        self._foot: DisplayHandle | None = None
        self._shown = ""
        self.note = ""
        """A line to add to the caption."""
        self.detached = False
        """Whether the cell has ended before its image arrived."""

    def detach(self) -> None:
        """Show the line now, with room for a caption: the image arrives after the cell has ended."""
        self.detached = True
        self._quiet = self._quiet or self._terminal
        if self._quiet or self._capture:
            return
        from IPython.display import DisplayHandle

        self._update(self.card())
        self._foot = DisplayHandle()
        self._foot.display(_NOTHING, raw=True)

    def show_below(self, card: Card) -> None:
        """Show `card` below the image."""
        if self._foot is not None:
            self._foot.update(card)
        else:
            self._show_once(card)

    def update(self) -> None:
        """Show the progress, if it has changed and the cell has been waiting long enough for a line."""
        if self._quiet or self._capture or self._progress.elapsed < _SHOW_DELAY:
            return
        card = self.card()
        if card.text == self._shown:
            return
        self._shown = card.text
        if self._terminal:
            sys.stdout.write(f"\r\x1b[K{card.text}")
            sys.stdout.flush()
            return
        self._update(card)

    def finish(self, final: Any = None) -> None:
        """Replace the line by `final`, or remove it."""
        if self._terminal:
            if self.detached:
                return
            if self._shown:
                sys.stdout.write("\r\x1b[K")
                sys.stdout.flush()
            if final is not None:
                print(final)  # noqa: T201  a terminal has no other display
            return
        if final is not None and self._capture:
            self._show_once(final)
        elif final is not None:
            self._update(final)
        elif self._handle is not None:
            self._handle.update(_NOTHING, raw=True)

    def interrupted_text(self) -> str:
        """Return a sentence about what Stop did and did not undo."""
        return f"Stopped after {self._progress.elapsed:.0f} s. {self.payment_status_text()}"

    def card(self) -> Card:
        """Return the current line."""
        progress = self._progress
        assert isinstance(progress, Progress)  # noqa: S101  a batch has a line of its own
        cost = "" if progress.price is None else f" · {format_amount(progress.price, self._realm)}"
        usually = "" if self._usual is None or self._usual < 1 else f" of usually {self._usual:.0f}"
        return Message(f"{self.label}{cost} · {progress.stage} · {progress.elapsed:.0f}{usually} s")

    def payment_status_text(self) -> str:
        """Return a sentence about what a stop at this moment does and does not undo."""
        progress = self._progress
        assert isinstance(progress, Progress)  # noqa: S101  a batch has a line of its own
        if progress.cancelled:
            return "The order was cancelled, nothing is charged."
        if not progress.sent and progress.running:
            return "The work has not ended yet: see `%blockrun jobs` for the outcome of the payment."
        if not progress.sent:
            return "Nothing was sent, nothing is charged."
        paid = "" if progress.price is None else f" of {format_amount(progress.price, self._realm)}"
        return (
            f"The payment{paid} had been sent already; run the cell again to collect the image; it is not paid twice."
        )

    def _show_once(self, content: Any) -> None:
        """Show `content` as a separate display in the cell's output."""
        if self._capture is not None and self.detached:
            self._capture.append(content)
        else:
            show(content)

    def _update(self, content: Card | Any) -> None:
        from IPython.display import DisplayHandle

        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(content)
        else:
            self._handle.update(content)


class BatchProgressLine(ProgressLine):
    """The line of a batch: a bar with the count, the spend and the remaining time."""

    _progress: BatchProgress

    def card(self) -> Card:
        """Return the current bar."""
        progress = self._progress
        if progress.total is None:
            return Message(f"{progress.count} requests to {self.label} · {progress.stage}")
        ended = progress.done + progress.failed
        facts = [
            f"{ended} of {progress.count}",
            f"{format_amount(progress.spent, self._realm)} of {format_amount(progress.total, self._realm)}",
            f"{progress.elapsed:.0f} s",
        ]
        if progress.eta is not None:
            facts.append(f"about {progress.eta:.0f} s to go")
        if progress.failed:
            facts.append(f"{progress.failed} failed")
        if progress.hint:
            facts.append(progress.hint)
        return bar(ended / progress.count, " · ".join(facts))

    def payment_status_text(self) -> str:
        """Return sentences about the progress of the batch and the payments that were sent."""
        progress = self._progress
        in_flight = sum(part.price or 0 for part in progress.in_flight)
        words = [
            f"{progress.done} of {progress.count} are done and paid ({format_amount(progress.spent, self._realm)})."
        ]
        if in_flight:
            words.append(
                f"{format_amount(in_flight, self._realm)} was sent for others, which are stored when they arrive."
            )
        if progress.failed_at_risk:
            words.append(f"{format_amount(progress.failed_at_risk, self._realm)} was sent for requests that failed.")
        if progress.undecided:
            words.append(f"{progress.undecided} have not ended yet: see `%blockrun jobs` for their outcome.")
        return " ".join([*words, "Run the cell again to make the missing images; nothing is paid twice."])
