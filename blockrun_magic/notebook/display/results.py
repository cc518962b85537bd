"""Results on the screen: the image and its caption; in a terminal, text and a path.

Loading the extension imports this module, so heavy imports are inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from blockrun_magic.notebook.display.output import show

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.notebook.display.cards import Card
    from blockrun_magic.notebook.display.progress import ProgressLine
    from blockrun_magic.notebook.settings import Settings
    from blockrun_magic.studio import ImageResult, ImageResults

__all__ = ["ResultDisplay"]

_RESULTS = (
    ("blockrun_magic.studio.results.result", "ImageResult"),
    ("blockrun_magic.studio.results.batch", "ImageResults"),
)


class ResultDisplay:
    """Shows results, and keeps a cell from showing its own result a second time as its value."""

    def __init__(self, shell: InteractiveShell, settings: Settings) -> None:
        self._shell = shell
        self._settings = settings
        self._shown: tuple[int, int] | None = None
        self._formatter = shell.display_formatter.ipython_display_formatter  # type: ignore[union-attr]
        for module, name in _RESULTS:
            # Registered by name: the class is not imported before there is a result.
            self._formatter.for_type_by_name(module, name, self._as_value)

    def close(self) -> None:
        """Restore IPython's own display of results."""
        for place in _RESULTS:
            self._formatter.deferred_printers.pop(place, None)
        kinds = [kind for kind, printer in self._formatter.type_printers.items() if printer == self._as_value]
        for kind in kinds:
            self._formatter.pop(kind)

    def show(
        self, live: ProgressLine, result: ImageResult | ImageResults, saved: Sequence[str], *, full: bool, quiet: bool
    ) -> None:
        """Replace the cell's live line with the image and its caption."""
        if not live.detached:
            self._shown = (id(result), self._shell.execution_count)
        if quiet:
            live.finish()
        elif self._in_terminal:
            live.finish(_caption(result, saved or _files(result), live.note).text)
        else:
            live.finish(_Original(result, self._settings) if full else _Image(result, self._settings))
            live.show_below(_caption(result, saved, live.note))

    def drawing(self, count: int) -> Callable[[ImageResult], None] | None:
        """Return a function that draws one of `count` previews, for a worker; None if no image is shown."""
        if self._in_terminal:
            return None
        side, form = self._settings.preview_side, self._settings.preview_format
        return lambda result: result.draw(side, form, count)

    @property
    def _in_terminal(self) -> bool:
        return not hasattr(self._shell, "kernel")

    def _as_value(self, result: ImageResult | ImageResults) -> None:
        """Show a result that is the value of a cell or was passed to `display`.

        The cell that made it already shows it.
        """
        if self._in_terminal:
            print(repr(result))  # noqa: T201  a terminal has no other display
        elif self._shown == (id(result), self._shell.execution_count):
            self._shown = None
        else:
            show(_Image(result, self._settings))
            show(_caption(result, ()))


def _caption(result: ImageResult | ImageResults, saved: Sequence[str], note: str = "") -> Card:
    from blockrun_magic.notebook.display.captions import caption_of, results_card
    from blockrun_magic.studio.results.batch import ImageResults

    return results_card(result, note) if isinstance(result, ImageResults) else caption_of(result, saved, note)


def _files(result: ImageResult | ImageResults) -> list[str]:
    return [str(path) for path in getattr(result, "files", ())]


class _Image:
    """The preview of a result, for display."""

    def __init__(self, result: ImageResult | ImageResults, settings: Settings) -> None:
        self._result = result
        self._settings = settings

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._result.mimebundle(self._settings.preview_side, self._settings.preview_format)


class _Original(_Image):
    """The original bytes of a result's one image, for `--full`."""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        result: Any = self._result
        images = getattr(result, "stored", [])
        # A sheet of several images has no original, and nbconvert does not show WebP.
        if len(images) != 1 or images[0].media_type == "image/webp":
            return super()._repr_mimebundle_()
        image, file = images[0], result.files[0]
        shape = {"width": min(image.width, 1024), "alt": result.prompt}
        return {image.media_type: file.read_bytes(), "text/plain": repr(result)}, {image.media_type: shape}
