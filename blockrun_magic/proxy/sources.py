"""Images that clients name or upload, read for the studio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.images.references import from_base64, local_path
from blockrun_magic.images.source import read_mask, read_upload
from blockrun_magic.proxy.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from blockrun_magic.gateway.request import Upload
    from blockrun_magic.images.source import Fetch
    from blockrun_magic.proxy.requests import Source

__all__ = ["read_sources"]

_SCHEMES = ("http://", "https://", "data:")


async def read_sources(
    images: Sequence[Source], mask: Source | None, fetch: Fetch, *, paths: bool, holes: bool
) -> tuple[tuple[Upload, ...], Upload | None]:
    """Return the images and the mask as uploads; `paths` says whether files of this machine may be named.

    With `holes`, transparent areas of the mask may change. An image that is too large to be sent is scaled down.
    Raises BadRequest and SourceError.
    """
    uploads = tuple([await read_upload(_checked(image, "image", paths=paths), fetch, shrink=True) for image in images])
    if mask is None:
        return uploads, None
    return uploads, await read_mask(_checked(mask, "mask", paths=paths), uploads[0], fetch, holes=holes)


def _checked(source: Source, field: str, *, paths: bool) -> bytes | str | Path:
    if isinstance(source, bytes) or source[:8].lower().startswith(_SCHEMES):
        return source
    content = from_base64(source)
    if content is not None:
        return content
    if not paths:
        raise BadRequest(f"`{field}` must be an uploaded file, a URL or a data URI here.", field)
    try:
        path = local_path(source)
    except RuntimeError:
        raise BadRequest(f"`{field}`: there is no home folder for {source[:80]!r}.", field) from None
    if "\0" in source or not path.is_absolute():
        raise BadRequest(f"`{field}` must be an absolute path, or begin with ~/.", field)
    return path
