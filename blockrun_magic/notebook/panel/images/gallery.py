"""The gallery: pages of thumbnails over all sessions and gateways."""

from __future__ import annotations

import calendar
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.panel.images.serving import Answer, ImageWidget
from blockrun_magic.notebook.panel.images.stage import caption
from blockrun_magic.notebook.web.module import script
from blockrun_magic.payments.ledger.records import ImageFilter
from blockrun_magic.payments.realm import Realm
from blockrun_magic.threads import run_cpu, run_io

if TYPE_CHECKING:
    from blockrun_magic.notebook.panel.dispatcher import Dispatcher
    from blockrun_magic.payments.ledger.records import ListedImage
    from blockrun_magic.studio.gallery import ImageIndex

__all__ = ["Gallery"]

_PAGE = 24
_DAY = 86_400
_IS_PRACTICE = {str(Realm.PRACTICE): True, str(Realm.REAL): False}
_MAX_WORDS = 500


class Gallery(ImageWidget):
    """All images, a page at a time.

    `choose` is called with a key and whether to add it to the stage, `hidden` with a key to hide, and `starred` after a
    star was set or removed.
    """

    _esm = script("gallery.js")
    _MESSAGES: ClassVar[tuple[str, ...]] = ("page", "choose", "star", "hide")

    _revision = traitlets.Int(0).tag(sync=True)
    _chosen: traitlets.List[Any] = traitlets.List().tag(sync=True)
    _page_size = traitlets.Int(_PAGE).tag(sync=True)

    def __init__(
        self,
        index: Callable[[], ImageIndex],
        dispatcher: Dispatcher,
        choose: Callable[[str, bool], Awaitable[None]],
        hidden: Callable[[str], Awaitable[None]],
        starred: Callable[[], Awaitable[None]],
    ) -> None:
        self._choose = choose
        self._hidden = hidden
        self._starred = starred
        super().__init__(index, dispatcher)

    def refresh(self) -> None:
        """Make every page that shows the gallery request its images again."""
        self._revision += 1

    def mark(self, keys: list[str]) -> None:
        """Mark the images that are on the stage."""
        self._chosen = keys

    async def _on_page(self, content: dict[str, Any], _: list[bytes]) -> Answer:
        return await run_cpu(self._page, content)

    def _page(self, content: dict[str, Any]) -> Answer:
        index, starred = self._index(), content.get("starred") is True
        images, offset = _filter(content), content.get("offset")
        offset = offset if isinstance(offset, int) and offset > 0 else 0
        entries, total = index.page(images, _PAGE, offset, starred=starred)
        if not entries and offset:
            offset = max(0, (total - 1) // _PAGE * _PAGE)
            entries, total = index.page(images, _PAGE, offset, starred=starred)
        stars = index.starred
        answer = {
            "entries": [
                {
                    "key": entry.key,
                    "alt": entry.prompt[:300],
                    "caption": caption(entry),
                    "starred": entry.key in stars,
                    "code": f"Image.open({str(index.path(entry))!r})",
                }
                for entry in entries
            ],
            "offset": offset,
            "total": total,
            "models": index.models(),
        }
        return answer, [_thumbnail(index, entry) for entry in entries]

    async def _on_choose(self, content: dict[str, Any], _: list[bytes]) -> Answer | None:
        await self._choose(str(content.get("key")), content.get("add") is True)
        return None

    async def _on_star(self, content: dict[str, Any], _: list[bytes]) -> Answer | None:
        await run_io(self._index().star, str(content.get("key")), starred=content.get("wanted") is True)
        await self._starred()
        return None

    async def _on_hide(self, content: dict[str, Any], _: list[bytes]) -> Answer | None:
        await self._hidden(str(content.get("key")))
        return None


def _thumbnail(index: ImageIndex, entry: ListedImage) -> bytes:
    try:
        return index.thumbnail(entry)
    except BlockrunError:
        return b""  # the page shows that the image is no longer stored


def _filter(content: dict[str, Any]) -> ImageFilter:
    """Return the filter in a message of the page, without invalid parts."""
    since, until = None, None
    try:
        start = float(calendar.timegm(time.strptime(str(content.get("day")), "%Y-%m-%d")))
        since, until = start, start + _DAY
    except ValueError:
        pass
    return ImageFilter(
        words=str(content.get("words") or "")[:_MAX_WORDS],
        model=str(content.get("model") or "") or None,
        practice=_IS_PRACTICE.get(str(content.get("money"))),
        since=since,
        until=until,
    )
