"""PNG, JPEG and WebP as sequences of blocks: metadata is written, read and removed, and no pixel is touched.

Nothing here decodes an image. A length in the file is trusted only up to the end of the bytes;
a file that is not well formed raises ValueError.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

__all__ = [
    "MAX_JPEG_SCANS",
    "PngChunk",
    "check_png",
    "check_png_pixels",
    "count_jpeg_scans",
    "itxt",
    "jpeg_segments",
    "may_lack_rows",
    "png_chunks",
    "png_text",
    "png_with_text",
    "webp_chunks",
    "webp_file",
    "without_metadata",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_JFIF_MARKER, _SCAN_MARKER, _END_MARKER, _COMMENT_MARKER = 0xE0, 0xDA, 0xD9, 0xFE
_APP_MARKERS = range(0xE0, 0xF0)
_ADOBE_MARKER = 0xEE
_JFIF_SIZE, _ADOBE_SIZE = 18, 16
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MAX_SEGMENTS = 10_000
_PIECE = 1 << 18
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced PNG: first column and row, steps across and down."""
_LAST_FILTER = 4
_ALPHA_FLAG, _ANIMATION_FLAG = 0x10, 0x02

# Chunks that are needed to show the image: pixels, palette, transparency, color and resolution.
_PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs"}
)
_WEBP_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH"})

MAX_JPEG_SCANS = 100
"""A limit above the scans of any encoder: each scan costs a pass over all pixels."""


class PngChunk(NamedTuple):
    """One chunk of a PNG: its type, its content and all its bytes, none of them copied."""

    kind: bytes
    content: memoryview
    whole: memoryview


def png_chunks(data: bytes, *, checked: bool = False) -> Iterator[PngChunk]:
    """Yield the chunks of a PNG up to IEND; raises ValueError if one is damaged. `checked`: none was, before."""
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
        if not checked and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError("a PNG with a checksum that does not match")
        yield PngChunk(kind, view[at + 8 : end - 4], view[at:end])
        at = end


def check_png(data: bytes) -> None:
    """Raise ValueError unless every checksum of a PNG is right."""
    for _ in png_chunks(data):
        pass


def check_png_pixels(data: bytes) -> bool:
    """Raise ValueError unless a PNG has the pixel data that its size demands; return whether they can surely be read.

    They can if they are in one run, not interlaced, and have valid filters.
    """
    stream, at, end, row, plain, kinds = zlib.decompressobj(), 0, 0, 1, True, [b""]
    for kind, content, _ in png_chunks(data):
        if kind == b"IHDR":
            end = _pixel_bytes(content)
            row, plain = max(1, end // int.from_bytes(content[4:8], "big")), not content[12]
        elif kind == b"IDAT":
            packed: bytes | memoryview = content
            while packed and at < end and not stream.eof:
                piece = stream.decompress(packed, _PIECE)
                plain = plain and max(piece[-at % row :: row], default=0) <= _LAST_FILTER
                at, packed = at + len(piece), stream.unconsumed_tail
        if kind != kinds[-1]:
            kinds.append(kind)
    if at < end:
        raise ValueError("a PNG without all of its pixels")
    return plain and kinds[-2:] == [b"IDAT", b"IEND"] and kinds.count(b"IDAT") == 1


def may_lack_rows(image: Image.Image) -> bool:
    """Return whether a PNG may lack rows, which Pillow silently decodes as black."""
    last = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
    return "interlace" in image.info or not any(last)


def _pixel_bytes(header: memoryview) -> int:
    """Return the number of pixel bytes of a PNG by its IHDR, filter bytes included."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS[color]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes)
    return sum((1 + (columns * bits + 7) // 8) * rows for columns, rows in sizes if columns > 0 and rows > 0)


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


def png_with_text(data: bytes, texts: dict[str, str], replaced: frozenset[str], *, checked: bool = False) -> bytes:
    """Return the PNG with `texts` as iTXt before its pixels, in place of any text with a `replaced` keyword."""
    parts: list[bytes | memoryview] = [_PNG]
    for chunk in png_chunks(data, checked=checked):
        text = png_text(chunk)
        if text is None or text[0] not in replaced:
            parts.append(chunk.whole)
        if chunk.kind == b"IHDR":
            parts += [_sealed(itxt(keyword, value)) for keyword, value in texts.items()]
    return b"".join(parts)


def _sealed(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment before the pixels, SOS's own as the last."""
    if not data.startswith(b"\xff\xd8\xff"):
        raise ValueError("not a JPEG")
    at, marker = 2, 0
    while marker != _SCAN_MARKER:
        start = at
        while data[at : at + 1] == b"\xff":  # any number of fill bytes may come before a marker
            at += 1
        if at == start or at + 3 > len(data):
            raise ValueError("a JPEG whose segments do not add up")
        marker, length = struct.unpack_from(">BH", data, at)
        end = at + 1 + length
        if length < 2 or end > len(data):
            raise ValueError("a JPEG whose segments do not add up")
        yield marker, start, end
        at = end


def _whole_jpeg(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each block of the first image, pixels included in a scan's, up to its end."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        start = at
        while data[at : at + 1] == b"\xff":
            at += 1
        if at == start or at >= len(data):
            break
        marker = data[at]
        if marker == _END_MARKER:
            yield marker, start, at + 1
            return
        length = int.from_bytes(data[at + 1 : at + 3], "big")
        end = at + 1 + length
        if length < 2 or end > len(data):
            break
        if marker == _SCAN_MARKER:
            following = _NEXT_MARKER.search(data, end)
            end = len(data) if following is None else following.start()
        yield marker, start, end
        at = end
    raise ValueError("a JPEG whose segments do not add up")


def count_jpeg_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG's first image; for a malformed one, the most that it can have."""
    scans = 0
    try:
        for marker, _, _ in _whole_jpeg(data):
            scans += marker == _SCAN_MARKER
            if scans > MAX_JPEG_SCANS:
                break
    except ValueError:
        return data.count(b"\xff\xda")
    return scans


def without_metadata(data: bytes, media_type: str) -> bytes:
    """Return the file with nothing but its first image: no EXIF, XMP, text, profile, comment or trailing bytes.

    Pixels are not encoded again; a file without any of these is returned unchanged. Raises ValueError for a file
    that is not well formed, and for an animated WebP.
    """
    if media_type == "image/png":
        chunks = [chunk.whole for chunk in png_chunks(data) if chunk.kind in _PNG_KEPT]
        return b"".join([_PNG, *chunks])
    if media_type == "image/jpeg":
        return b"".join(
            [
                data[:2],
                *(data[start:end] for marker, start, end in _whole_jpeg(data) if _shows(marker, data[start:end])),
            ]
        )
    return _webp_without_metadata(data)


def _shows(marker: int, segment: bytes) -> bool:
    """Return whether a JPEG segment is needed to show the image: JFIF without a thumbnail and Adobe's colors are."""
    content = segment.lstrip(b"\xff")[3:]
    if marker == _JFIF_MARKER:
        return content.startswith(b"JFIF\0") and len(content) == _JFIF_SIZE - 4
    if marker == _ADOBE_MARKER:
        return content.startswith(b"Adobe") and len(content) == _ADOBE_SIZE - 4
    return marker not in _APP_MARKERS and marker != _COMMENT_MARKER


def _webp_without_metadata(data: bytes) -> bytes:
    chunks = webp_chunks(data)
    if chunks[0][0] == b"VP8X":
        header = bytearray(chunks[0][1])
        if not header or header[0] & _ANIMATION_FLAG:
            raise ValueError("an animated WebP")
        header[0] &= _ALPHA_FLAG
        chunks[0] = (b"VP8X", bytes(header))
    return webp_file([chunk for chunk in chunks if chunk[0] in _WEBP_KEPT])


def webp_file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return the WebP file of these chunks, each a kind and its content."""
    parts = [b"WEBP"]
    for kind, content in chunks:
        parts += [kind, struct.pack("<I", len(content)), content, b"\0" * (len(content) % 2)]
    body = b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of every chunk of a WebP; raises ValueError if it is not well formed."""
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
        raise ValueError("a WebP without an image")
    return chunks
