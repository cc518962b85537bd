"""PNG, JPEG and WebP as sequences of blocks, so that metadata goes in and out and no pixel is touched.

Nothing here decodes a picture. Lengths in the bytes are believed only as far as the bytes go;
whatever does not add up raises ValueError.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "JPEG_TEXT_LIMIT",
    "PngChunk",
    "itxt",
    "jpeg_with_xmp",
    "jpeg_xmp",
    "png_chunks",
    "png_text",
    "png_with_text",
    "webp_with_xmp",
    "webp_xmp",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JFIF_MARKER, _SCAN_MARKER = 0xE0, 0xDA
_VP8X_SIZE = 10
_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10

JPEG_TEXT_LIMIT = 65535 - 2 - len(_XMP)
"""How many bytes of XMP one JPEG segment holds."""


class PngChunk(NamedTuple):
    """One chunk of a PNG: its type, its content and all its bytes as they stand, none of them copied."""

    kind: bytes
    content: memoryview
    whole: memoryview


def png_chunks(data: bytes) -> Iterator[PngChunk]:
    """Yield the chunks of a PNG up to IEND; raises ValueError if it is not one, or not whole."""
    if not data.startswith(_PNG):
        raise ValueError("not a PNG")
    view, at, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("a PNG without its end")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or (at == len(_PNG)) != (kind == b"IHDR"):
            raise ValueError("a PNG whose chunks do not add up")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError("a PNG with a checksum that does not match")
        yield PngChunk(kind, view[at + 8 : end - 4], view[at:end])
        at = end


def itxt(keyword: str, text: str) -> bytes:
    """Return an uncompressed iTXt chunk of UTF-8 `text`, without its length and checksum."""
    return b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()


def png_text(chunk: PngChunk) -> tuple[str, str] | None:
    """Return keyword and text of an uncompressed tEXt or iTXt chunk; None for any other chunk."""
    if chunk.kind not in {b"tEXt", b"iTXt"}:
        return None
    keyword, separator, rest = bytes(chunk.content).partition(b"\0")
    if not separator:
        return None
    if chunk.kind == b"tEXt":
        return keyword.decode("latin-1"), rest.decode("latin-1")
    fields = rest[2:].split(b"\0", 2)
    if rest[:1] != b"\0" or len(fields) != 3:
        return None
    return keyword.decode("latin-1"), fields[2].decode("utf-8", "replace")


def png_with_text(data: bytes, texts: dict[str, str], replaced: frozenset[str]) -> bytes:
    """Return the PNG with `texts` as iTXt before its pixels, and none else of the `replaced` keywords."""
    parts: list[bytes | memoryview] = [_PNG]
    for chunk in png_chunks(data):
        text = png_text(chunk)
        if text is None or text[0] not in replaced:
            parts.append(chunk.whole)
        if chunk.kind == b"IHDR":
            parts += [_sealed(itxt(keyword, value)) for keyword, value in texts.items()]
    return b"".join(parts)


def _sealed(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment before the pixels, SOS's own as the last."""
    if not data.startswith(b"\xff\xd8\xff"):
        raise ValueError("not a JPEG")
    at, marker = 2, 0
    while marker != _SCAN_MARKER:
        start = at
        while data[at : at + 1] == b"\xff":  # any number of fill bytes may stand before a marker
            at += 1
        if at == start or at + 3 > len(data):
            raise ValueError("a JPEG whose segments do not add up")
        marker, length = struct.unpack_from(">BH", data, at)
        end = at + 1 + length
        if length < 2 or end > len(data):
            raise ValueError("a JPEG whose segments do not add up")
        yield marker, start, end
        at = end


def _is_xmp(data: bytes, start: int, end: int) -> bool:
    return data[start:end].lstrip(b"\xff")[:1] == b"\xe1" and data[start:end].find(_XMP, 0, 64) > 0


def jpeg_with_xmp(data: bytes, xmp: bytes) -> bytes:
    """Return the JPEG with this XMP in place of any other; raises ValueError if it is not well formed."""
    segments = list(_jpeg_segments(data))
    scan = segments.pop()[1]
    if data.find(b"\xff\xd9", scan) < 0:
        raise ValueError("a JPEG without its end")
    kept = [data[start:end] for _, start, end in segments if not _is_xmp(data, start, end)]
    body = _XMP + xmp
    # JFIF's own segment has to stay the first.
    place = 1 if segments and segments[0][0] == _JFIF_MARKER else 0
    kept.insert(place, b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    return b"".join([data[:2], *kept, data[scan:]])


def jpeg_xmp(data: bytes) -> bytes | None:
    """Return the XMP of a JPEG, or None; raises ValueError if it is not well formed."""
    for _, start, end in _jpeg_segments(data):
        if _is_xmp(data, start, end):
            return data[data.index(_XMP, start) + len(_XMP) : end]
    return None


def _webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("not a WebP")
    whole = 8 + int.from_bytes(data[4:8], "little")
    at, chunks = 12, []
    while at < whole:
        if at + 8 > len(data):
            raise ValueError("a WebP whose chunks do not add up")
        kind, length = struct.unpack_from("<4sI", data, at)
        content = data[at + 8 : at + 8 + length]
        if len(content) != length:
            raise ValueError("a WebP whose chunks do not add up")
        chunks.append((kind, content))
        at += 8 + length + length % 2
    if not chunks or chunks[0][0] not in {b"VP8 ", b"VP8L", b"VP8X"}:
        raise ValueError("a WebP without a picture")
    return chunks


def _extended_header(chunks: list[tuple[bytes, bytes]]) -> bytearray:
    """Return the VP8X header there is, or the one that says what the only chunk is."""
    kind, content = chunks[0]
    if kind == b"VP8X" and len(content) >= _VP8X_SIZE:
        return bytearray(content)
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) >= _VP8X_SIZE:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
        flags = 0
    elif kind == b"VP8L" and content[:1] == b"\x2f" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = _ALPHA_FLAG if bits >> 28 & 1 else 0
    else:
        raise ValueError("a WebP with a header that is none")
    sides = (max(side - 1, 0).to_bytes(3, "little") for side in (width, height))
    return bytearray(bytes([flags, 0, 0, 0]) + b"".join(sides))


def webp_with_xmp(data: bytes, xmp: bytes) -> bytes:
    """Return the WebP, extended if it was simple, with this XMP in place of any other."""
    chunks = _webp_chunks(data)
    header = _extended_header(chunks)
    header[0] |= _XMP_FLAG
    kept = [chunk for chunk in chunks if chunk[0] not in {b"VP8X", b"XMP "}]
    body = b"WEBP"
    for kind, content in [(b"VP8X", bytes(header)), *kept, (b"XMP ", xmp)]:
        body += kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_xmp(data: bytes) -> bytes | None:
    """Return the XMP of a WebP, or None; raises ValueError if it is not well formed."""
    return next((content for kind, content in _webp_chunks(data) if kind == b"XMP "), None)
