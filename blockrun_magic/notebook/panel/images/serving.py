"""Widgets that send images to the page on request, so that no image is part of a saved state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import anywidget

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.subshells import route_to_subshell
from blockrun_magic.studio.gallery import THUMBNAIL_SIDE, ImageIndex
from blockrun_magic.threads import run_cpu

__all__ = ["Answer", "ImageWidget"]

Answer = tuple[dict[str, Any], list[bytes]]
_MAX_SIDE = 2048


class ImageWidget(anywidget.AnyWidget):
    """A widget of the page that asks for images by key, at most `side` pixels a side.

    A subclass has a method for every other type of message in `_MESSAGES`; its result is sent back.
    """

    _MESSAGES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, index: Callable[[], ImageIndex], dispatcher: Dispatcher, **traits: Any) -> None:
        self._index = index
        self._dispatcher = dispatcher
        super().__init__(**traits)
        route_to_subshell(self)
        self.on_msg(self._receive)

    def _receive(self, _: object, content: Any, buffers: list[Any]) -> None:
        if isinstance(content, dict) and content.get("type") in ("image", *self._MESSAGES):
            data = [bytes(buffer) for buffer in buffers]
            self._dispatcher.schedule(lambda: self._answer(content, data))

    async def _answer(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        kind = content["type"]
        result: Answer | None = None
        try:
            if kind == "image":
                result = await run_cpu(self._image, content)
            else:
                result = await getattr(self, f"_on_{kind}")(content, buffers)
        finally:
            if "id" in content:  # the page waits for an answer
                answer, data = result or ({}, [])
                self.send({**answer, "id": content["id"]}, buffers=data)

    def _image(self, content: dict[str, Any]) -> Answer:
        """Return a JPEG of an image, or the original if `side` is 0; nothing if it is no longer stored."""
        index, side = self._index(), content.get("side")
        entry = index.find(str(content.get("key")))
        if entry is None or not isinstance(side, int | float):
            return {}, []
        try:
            if side == 0:
                return {"media_type": entry.image.media_type}, [index.original(entry)]
            small = side <= THUMBNAIL_SIDE
            data = index.thumbnail(entry) if small else index.preview(entry, min(int(side), _MAX_SIDE))
        except BlockrunError:
            return {}, []
        return {"media_type": "image/jpeg"}, [data]
