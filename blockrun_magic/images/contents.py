"""Contents of image sources: the bytes of a file, or an image in memory."""

from __future__ import annotations

import base64
import binascii
import os
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import SourceError
from blockrun_magic.files import read_bounded
from blockrun_magic.images.arrays import array_to_image
from blockrun_magic.images.detection import (
    extract_image,
    extract_stream,
    extract_widget,
    is_array,
    rich_representation,
)
from blockrun_magic.images.formats import MAX_FILE_BYTES, too_large
from blockrun_magic.images.references import DATA_URI, Subject, from_base64, kind_of, local_path

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["read_content"]

_KINDS = "Give a path, a URL, a data URI, bytes, a PIL image, an array, a figure or a result of these magics."
_PATH_ADVICE = "Check the path; `~` is your home, and relative paths start in the folder of the notebook's kernel."


def read_content(  # noqa: PLR0911  one kind of value a line
    source: object, subject: Subject, check: Callable[[tuple[int, int]], None]
) -> bytes | Image.Image:
    """Return the content of `source`: a file's bytes, or an image in memory; raises SourceError.

    `check` is called with the size of an array before its pixels are converted, and may raise.
    """
    image = extract_image(source)
    if image is not None:
        return image
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return from_base64(data) or data
    if isinstance(source, str) and DATA_URI.match(source):
        return _decode_data_uri(source, subject.words)
    if isinstance(source, str | os.PathLike):
        return (from_base64(source) if isinstance(source, str) else None) or _read_file(source, subject.words)
    stream = extract_stream(source)
    if stream is not None:
        return _read_stream(stream, subject.words)
    drawn = extract_widget(source) or _draw(source, subject.words)
    if drawn is not None:
        return drawn if isinstance(drawn, bytes) else _decode_base64(drawn, subject.words)
    if is_array(source):
        return array_to_image(source, subject, check)
    raise SourceError(f"{subject.words} is {kind_of(source)}, not an image.", _KINDS)


def _draw(source: object, name: str) -> bytes | str | None:
    """Return the PNG or JPEG that `source` draws of itself, or None."""
    if hasattr(type(source), "__array_interface__"):
        return None
    try:
        return rich_representation(source)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise SourceError(
            f"{name} is {kind_of(source)} that cannot be drawn: {reason}.", "Show it in a cell of its own to see why."
        ) from error


def _decode_data_uri(uri: str, name: str) -> bytes:
    head, _, payload = uri.partition(",")
    if len(payload) > MAX_FILE_BYTES * 3:
        raise too_large(len(payload) * 3 // 4, name)
    if not head.lower().rstrip().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(payload)
    return _decode_base64(urllib.parse.unquote(payload), name)


def _decode_base64(text: str, name: str) -> bytes:
    try:
        joined = "".join(text.split())
        # browsers accept base64 without padding
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SourceError(f"{name} is not valid base64 ({error}).", "Copy all of it, up to its end.") from error


def _read_file(source: str | os.PathLike[str], name: str) -> bytes:
    try:
        path = local_path(source)
        if path.is_dir():
            raise SourceError(f"{name} is a directory.", "Name a file in it.")
        data = read_bounded(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise SourceError(f"{name} does not exist.", _PATH_ADVICE) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{name} cannot be read: {reason}.", _PATH_ADVICE) from error
    if len(data) > MAX_FILE_BYTES:
        raise too_large(len(data), name)
    return data


def _read_stream(stream: Any, name: str) -> bytes:
    """Return the content of an open file, from its beginning if it is seekable; its position is restored."""
    try:
        if stream.closed:
            raise SourceError(f"{name} is a file that is closed.", "Open it again, or give its path.")
        if not stream.seekable():
            return _bounded(stream, name)
        position = stream.tell()
        stream.seek(0)
        try:
            return _bounded(stream, name)
        finally:
            stream.seek(position)
    except (OSError, ValueError) as error:
        raise SourceError(f"{name} cannot be read: {error}.", "Open it again, or give its path.") from error


def _bounded(file: Any, name: str) -> bytes:
    data = file.read(MAX_FILE_BYTES + 1)
    if not isinstance(data, bytes):
        raise SourceError(f"{name} is a file opened as text.", 'Open it as bytes: open(path, "rb").')
    if len(data) > MAX_FILE_BYTES:
        raise too_large(len(data), name)
    return data
