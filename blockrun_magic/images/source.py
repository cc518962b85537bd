"""Uploads from any image source: files, URLs, bytes, PIL images, arrays, figures, results.

A PNG, JPEG or WebP that can be sent keeps its encoded pixels and loses its metadata; every other image is converted:
first frame, eight bits, sRGB, upright.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from blockrun_magic.errors import SourceError
from blockrun_magic.gateway.request import Upload
from blockrun_magic.images.arrays import array_to_image
from blockrun_magic.images.contents import read_content
from blockrun_magic.images.conversion import (
    eight_bit,
    to_upload,
    unconverted,
)
from blockrun_magic.images.detection import (
    display_image_content,
    is_image_like,
    is_pil,
)
from blockrun_magic.images.formats import MAX_FILE_BYTES, MAX_PIXELS, check_decodable, load, open_lazy
from blockrun_magic.images.masks.colors import transparency
from blockrun_magic.images.masks.reading import check_mask_shape, mask_from, scale_mask
from blockrun_magic.images.references import (
    URL,
    Subject,
    as_link,
    find_source,
    subject_of,
)
from blockrun_magic.threads import run_cpu, run_foreign

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_UPLOAD_SIDE",
    "Fetch",
    "find_source",
    "is_image_like",
    "open_mask",
    "open_source",
    "read_mask",
    "read_upload",
    "upload_size",
]

Fetch = Callable[[str], Awaitable[bytes]]
"""Downloads a URL; raises our errors."""

MAX_UPLOAD_SIDE = 4096
MAX_UPLOAD_PIXELS = MAX_UPLOAD_SIDE**2
"""The most pixels that are sent from any source: a file, a variable or a URL."""

_MAX_SHRINKABLE_PIXELS = 150_000_000
_SHRINK = "Add --shrink, or set it for all cells with `%config BlockrunMagics.shrink = True`"


async def read_upload(source: object, fetch: Fetch, *, text: str = "", shrink: bool = False) -> Upload:
    """Return `source` as an upload; `text` is the user's name for it.

    An image of more than 16.8 megapixels is refused; with `shrink`, it is scaled down, and the upload's `note` says so.
    Raises SourceError, and the errors of `fetch` for a URL.
    """
    subject = subject_of(source, text)
    content = await _fetch(source, fetch)
    run = run_cpu if _is_plain(content) else run_foreign
    return await run(_upload, content, subject, shrink=shrink)


async def read_mask(source: object, image: Upload, fetch: Fetch, *, text: str = "", holes: bool = False) -> Upload:
    """Return `source` as the mask of `image`: a gray PNG of its size, white where the image may change.

    With `holes`, as in OpenAI's API, transparent areas may change, in any color. `docs/images-and-masks.md` lists the
    readable masks. Raises SourceError, before any money is at stake, for a mask of another shape, one with two possible
    meanings, one that changes nothing, and the image itself.
    """
    subject = subject_of(source, text, is_mask=True)
    try:
        content = await _fetch(source, fetch)
    except SourceError as error:
        raise SourceError(f"The mask was not fetched: {error.message}", error.hint) from error
    run = run_cpu if _is_plain(content) else run_foreign
    return await run(_mask, content, image, subject, holes=holes)


def open_source(source: object) -> Image.Image:
    """Return `source`, in memory or on disk, as an eight-bit upright image; raises SourceError, even for a URL."""
    content, subject = _local(source), subject_of(source)
    return eight_bit(_opened(read_content(content, subject, _check_readable(subject)), subject), subject.words)


def open_mask(source: object, size: tuple[int, int]) -> Image.Image:
    """Return `source` as a mask of `size`, mode L; it may be all black. Raises SourceError, even for a URL."""
    content, subject = _local(source), subject_of(source, is_mask=True)
    mask = _mask_pixels(content, subject)
    check_mask_shape(mask.size, size, subject)
    return scale_mask(mask_from(mask, subject, may_be_empty=True), size)


def upload_size(upload: Upload) -> tuple[int, int]:
    """Return width and height in pixels, read from the header."""
    size: tuple[int, int] = open_lazy(upload.data, "The image").size
    return size


async def _fetch(source: object, fetch: Fetch) -> object:
    """Return `source`; a URL, its own or that of an `IPython.display.Image`, is replaced by its content."""
    shown = display_image_content(source)
    source = source if shown is None else shown
    source = as_link(source) or source if isinstance(source, str) else source
    return await fetch(source) if isinstance(source, str) and URL.match(source) else source


def _is_plain(content: object) -> bool:
    """Return whether reading `content` calls no code of the user, which might take any time."""
    return isinstance(content, bytes | bytearray | str | os.PathLike) or is_pil(content)


def _local(source: object) -> object:
    shown = display_image_content(source)
    source = source if shown is None else shown
    source = as_link(source) or source if isinstance(source, str) else source
    if isinstance(source, str) and URL.match(source):
        raise SourceError(
            f"URLs are not supported here: {subject_of(source).words}", "Download the file, and give its path."
        )
    return source


# Sources


def _upload(source: object, subject: Subject, *, shrink: bool) -> Upload:
    readable = _MAX_SHRINKABLE_PIXELS if shrink else MAX_PIXELS
    content = read_content(source, subject, lambda size: _check_size(size, subject, shrink=shrink))
    if not isinstance(content, bytes):
        _check_size(content.size, subject, shrink=shrink)
        with _array_advice(content, subject):
            return _shrunk_upload(eight_bit(content, subject.words), content.size)
    size = _check_header(content, subject, shrink=shrink)
    reduce_to = MAX_UPLOAD_PIXELS if shrink else None
    image = load(content, subject.words, max_pixels=readable, reduce_to=reduce_to)
    if size[0] * size[1] <= MAX_UPLOAD_PIXELS:
        sendable = unconverted(content, image)
        if sendable is not None:
            return sendable
    is_photo = image.format in {"JPEG", "MPO"}
    return _shrunk_upload(eight_bit(image, subject.words), size, photo=is_photo)


def _check_header(content: bytes, subject: Subject, *, shrink: bool) -> tuple[int, int]:
    size: tuple[int, int] = open_lazy(content, subject.words, max_pixels=MAX_FILE_BYTES * 100).size
    _check_size(size, subject, shrink=shrink)
    return size


def _check_size(size: tuple[int, int], subject: Subject, *, shrink: bool) -> None:
    pixels, limit = size[0] * size[1], _MAX_SHRINKABLE_PIXELS if shrink else MAX_UPLOAD_PIXELS
    if pixels <= limit:
        return
    message = f"{subject.words} is {size[0]} x {size[1]}, {pixels / 1e6:.1f} megapixels; at most {limit / 1e6:.1f}"
    if pixels > _MAX_SHRINKABLE_PIXELS:
        raise SourceError(f"{message} can be read.", "Make it smaller with an image editor, then use that file.")
    if pixels > MAX_PIXELS and not subject.opened:
        raise SourceError(f"{message} can be sent.", f"{_SHRINK}.")
    side = f"({MAX_UPLOAD_SIDE}, {MAX_UPLOAD_SIDE})"
    code = subject.pil_code(f"ImageOps.contain({{}}, {side})", "from PIL import ImageOps; ")
    raise SourceError(f"{message} can be sent.", f"{_SHRINK}, or run `{code}`")


def _shrunk_upload(image: Image.Image, size: tuple[int, int], *, photo: bool = False) -> Upload:
    """Return an upload of `image`, made smaller if it is over the limit; `size` is the original's."""
    from PIL import Image

    if size[0] * size[1] > MAX_UPLOAD_PIXELS:
        scale = min(1.0, (MAX_UPLOAD_PIXELS / (image.width * image.height)) ** 0.5)
        smaller = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        image = image.resize(smaller, Image.Resampling.LANCZOS) if scale < 1 else image
        note = f"Shrunk from {size[0]} x {size[1]} to {image.width} x {image.height} pixels, the most that is sent."
        return replace(to_upload(image, photo=photo), note=note)
    return to_upload(image, photo=photo)


# Masks


def _mask(source: object, image: Upload, subject: Subject, *, holes: bool) -> Upload:
    photo = eight_bit(load(image.data, "The image"), "The image")
    mask = _mask_pixels(source, subject)
    check_mask_shape(mask.size, photo.size, subject)
    mask = (transparency(mask) if holes else None) or mask
    return to_upload(scale_mask(mask_from(mask, subject, photo), photo.size))


def _mask_pixels(source: object, subject: Subject) -> Image.Image:
    content = read_content(source, subject, _check_readable(subject))
    with _array_advice(content, subject):
        return eight_bit(_opened(content, subject), subject.words, MAX_PIXELS, stretch=True)


@contextmanager
def _array_advice(content: bytes | Image.Image, subject: Subject) -> Iterator[None]:
    """Refuse an I or F image whose values fit no range as an array, with a line of code."""
    try:
        yield
    except SourceError:
        if not isinstance(content, bytes) and content.mode in {"I", "F"} and "numpy" in sys.modules:
            array_to_image(sys.modules["numpy"].asarray(content), subject, lambda _: None)
        raise


def _check_readable(subject: Subject) -> Callable[[tuple[int, int]], None]:
    return lambda size: check_decodable(size, subject.words)


def _opened(content: bytes | Image.Image, subject: Subject) -> Image.Image:
    return load(content, subject.words) if isinstance(content, bytes) else content
