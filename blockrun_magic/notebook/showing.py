"""A result on the screen: the picture, and its caption below it; in a terminal, words and a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blockrun_magic.notebook.cards import Card, caption_of

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.notebook.live import LiveLine
    from blockrun_magic.studio import ImageResult

__all__ = ["Showing", "show"]


class Showing:
    """Shows results, and keeps a cell from showing its own result a second time as its value."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._shown: tuple[int, int] | None = None
        # By name: the result's class is not imported before there is one.
        self._formatter = shell.display_formatter.ipython_display_formatter  # type: ignore[union-attr]
        self._formatter.for_type_by_name("blockrun_magic.studio.result", "ImageResult", self._as_value)

    def close(self) -> None:
        """Let IPython show results in its own way again."""
        formatter = self._formatter
        formatter.deferred_printers.pop(("blockrun_magic.studio.result", "ImageResult"), None)
        for kind in [kind for kind, printer in formatter.type_printers.items() if printer == self._as_value]:
            formatter.pop(kind)

    def show(self, live: LiveLine, result: ImageResult, saved: Sequence[str], *, full: bool, quiet: bool) -> None:
        """Put the picture in the place of the cell's live line, and the caption under it."""
        self._shown = (id(result), self._shell.execution_count)
        if quiet:
            live.end()
            return
        if self._in_terminal:
            where = saved or [str(path) for path in result.files]
            live.end(caption_of(result, where).text)
            return
        live.end(_Original(result) if full else _Picture(result))
        show(caption_of(result, saved))

    @property
    def _in_terminal(self) -> bool:
        return not hasattr(self._shell, "kernel")

    def _as_value(self, result: ImageResult) -> None:
        """Show a result that is a cell's value or was given to `display`.

        In the cell that made it, it stands there already.
        """
        shown, self._shown = self._shown, None
        if self._in_terminal:
            print(repr(result))  # noqa: T201  a terminal has no other display
        elif shown != (id(result), self._shell.execution_count):
            show(_Picture(result))
            show(caption_of(result))


class _Picture:
    """The preview of a result, for display."""

    def __init__(self, result: ImageResult) -> None:
        self._result = result

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._result._repr_mimebundle_()


class _Original(_Picture):
    """The original bytes of a result's one picture, for `--full`."""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        result = self._result
        kept = result.pictures[0]
        if len(result.pictures) > 1 or kept.media_type == "image/webp":
            return result._repr_mimebundle_()
        shape = {"width": min(kept.width, 1024), "alt": result.prompt}
        data = {kept.media_type: result.files[0].read_bytes(), "text/plain": repr(result)}
        return data, {kept.media_type: shape}


def show(content: Card | _Picture) -> None:
    """Display `content` under the running cell."""
    from IPython.display import display

    display(content)
