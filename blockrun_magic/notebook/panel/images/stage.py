"""The stage: one large image, or up to four compared, and the chain of edits below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from blockrun_magic.notebook.display.cards import format_amount, short
from blockrun_magic.notebook.panel.images.serving import Answer, ImageWidget
from blockrun_magic.notebook.web.module import script
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from blockrun_magic.notebook.panel.dispatcher import Dispatcher
    from blockrun_magic.payments.ledger.records import ListedImage
    from blockrun_magic.studio.gallery import ImageIndex, Step

__all__ = ["MAX_COMPARED", "Stage", "caption"]

MAX_COMPARED = 4
_EMPTY = "Your image appears here. Describe it on the left, and press the button."


class Stage(ImageWidget):
    """Shows up to four images; `choose` is called when a step of the chain is clicked, `drop` with a dropped file."""

    _esm = script("stage.js")
    _MESSAGES: ClassVar[tuple[str, ...]] = ("choose", "drop")

    _shown: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _before = traitlets.Bool(False).tag(sync=True)
    _chain: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _waiting = traitlets.Unicode(_EMPTY).tag(sync=True)

    def __init__(
        self,
        index: Callable[[], ImageIndex],
        dispatcher: Dispatcher,
        choose: Callable[[str], Awaitable[None]],
        drop: Callable[[str, bytes], Awaitable[None]],
    ) -> None:
        self._choose = choose
        self._drop = drop
        super().__init__(index, dispatcher)

    async def show(self, entries: Sequence[ListedImage], *, before: bool = False) -> None:
        """Show `entries`: one alone, two with a slider (with `before`, an image and its edit), or a grid."""
        steps = await run_io(self._index().chain, entries[0]) if entries else []
        with self.hold_sync():  # the page gets all changes at once
            self._before = before
            self._chain = _steps(steps)
            self._shown = [
                {
                    "key": entry.key,
                    "alt": entry.prompt,
                    "caption": caption(entry),
                    "width": entry.image.width,
                    "height": entry.image.height,
                }
                for entry in entries[:MAX_COMPARED]
            ]

    async def _on_choose(self, content: dict[str, Any], _: list[bytes]) -> Answer | None:
        await self._choose(str(content.get("key")))
        return None

    async def _on_drop(self, content: dict[str, Any], buffers: list[bytes]) -> Answer | None:
        await self._drop(str(content.get("name"))[:200], buffers[0] if buffers else b"")
        return None


def caption(entry: ListedImage) -> str:
    """Return the facts about an image and the beginning of its prompt, as one line."""
    purchase, image = entry.purchase, entry.image
    seconds = "" if purchase.seconds is None else f"{purchase.seconds:.1f} s"
    paid = format_amount(entry.paid, purchase.realm)
    facts = (str(purchase.request["model"]), f"{image.width}x{image.height}", paid, seconds)
    return f"{' · '.join(filter(None, facts))} · {short(entry.prompt, 120)}"


def _steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return a chain as the page shows it: each step with its depth, so that branches are apart."""
    depths: dict[str, int] = {}
    shown = []
    for step in steps:
        depths[step.entry.key] = 0 if step.parent is None else depths[step.parent] + 1
        shown.append(
            {
                "key": step.entry.key,
                "parent": step.parent,
                "depth": depths[step.entry.key],
                "label": short(step.entry.prompt, 80),
                "cost": format_amount(step.entry.paid, step.entry.purchase.realm),
            }
        )
    return shown
