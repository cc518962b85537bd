"""Receipts inside images: written without touching a pixel, and read back.

PNG carries it as the text "blockrun:receipt", beside the "parameters" that other tools show; JPEG and
WebP as XMP. A receipt in an image is a claim; the proof is in the ledger.
"""

from __future__ import annotations

import html
import json
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import SourceError, StoreError
from blockrun_magic.files import read_bounded
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.metadata import (
    jpeg_segments,
    png_chunks,
    png_text,
    png_with_text,
    webp_chunks,
    webp_file,
)
from blockrun_magic.safejson import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

__all__ = ["KEY", "attach", "embed", "read"]

KEY = "blockrun:receipt"
"""The keyword of the PNG text, and the name of the XMP element."""

_PARAMETERS = "parameters"
_OURS = frozenset({KEY, _PARAMETERS})
_FILE_LIMIT = 200_000_000
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_TEXT_LIMIT = 65535 - 2 - len(_XMP)
_JFIF_MARKER = 0xE0
_VP8X_SIZE = 10
_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10

_OPEN = '<rdf:Description rdf:about="" xmlns:blockrun="https://blockrun.ai/ns/receipt/1.0/"><blockrun:receipt>'
_CLOSE = "</blockrun:receipt></rdf:Description>"
_END = "</rdf:RDF>"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)
# XML or UTF-8 forbids these; inside a JSON string, each is escaped.
_UNWRITABLE = re.compile("[\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def embed(data: bytes, media_type: str, record: Mapping[str, Any], *, decoded: bool = False) -> bytes:
    """Return the file with `record` inside, in place of an older one; the pixels are not changed.

    `decoded`: the image was decoded already, with correct checksums.

    `record` holds JSON values; its "prompt", "size" and "model" also become a PNG's "parameters". If it does
    not fit into the 64 KB of a JPEG segment, the prompt is cut and "prompt_truncated" is added. Raises StoreError
    for bytes that are not a well-formed PNG, JPEG or WebP as `media_type` says.
    """
    try:
        if media_type == "image/png":
            texts = {KEY: _to_json(record), **_parameters(record)}
            return png_with_text(data, texts, _OURS, checked=decoded)
        if media_type == "image/jpeg":
            return _jpeg_with_xmp(data, _fitting_xmp(_jpeg_xmp(data), record))
        if media_type == "image/webp":
            return _webp_with_xmp(data, _xmp(_webp_xmp(data), record))
    except ValueError as error:
        raise StoreError(
            f"The receipt cannot be written into the image ({error}).",
            "The image is stored as it arrived; its receipt is in the ledger.",
        ) from error
    raise StoreError(f"A receipt cannot be written into {media_type}.", "Use PNG, JPEG or WebP.")


def attach(image: Image.Image, record: Mapping[str, Any]) -> None:
    """Add `record` to an image in memory, so that `read` finds it as in a file."""
    image.info.update({KEY: _to_json(record), **_parameters(record)})


def read(source: bytes | Path | str | Image.Image) -> dict[str, Any] | None:
    """Return the record in an image (bytes, a path, a PIL image opened from a file), or None.

    Raises SourceError for a file that cannot be read.
    """
    if isinstance(source, str | Path):
        source = _read_file(Path(source).expanduser())
    text = _text_of_file(source) if isinstance(source, bytes) else _text_of_info(source.info)
    try:
        record = None if text is None else read_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _to_json(record: Mapping[str, Any]) -> str:
    text = json.dumps(dict(record), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return _UNWRITABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _parameters(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the record as text in AUTOMATIC1111's format, which many programs read."""
    prompt = record.get("prompt")
    if not isinstance(prompt, str):
        return {}
    facts = ((label, record.get(label.lower())) for label in ("Size", "Model"))
    line = ", ".join(f"{label}: {value}" for label, value in facts if value)
    text = _UNWRITABLE.sub("\ufffd", f"{prompt}\n{line}".replace("\0", "\ufffd"))
    return {_PARAMETERS: text.rstrip("\n")}


def _xmp(older: bytes | None, record: Mapping[str, Any]) -> bytes:
    """Return an XMP packet with the record and the other contents of an older packet."""
    element = f"{_OPEN}{html.escape(_to_json(record), quote=False)}{_CLOSE}"
    others = _without_record(_decoded(older))
    before, end, after = (others if _END in others else _PACKET).rpartition(_END)
    return f"{before}{element}{end}{after}".encode()


def _without_record(xmp: str) -> str:
    """Return XMP without our records, in one pass even for many unclosed ones."""
    first, *parts = xmp.split(_OPEN)
    pieces = (part.partition(_CLOSE) for part in parts)
    return first + "".join(after if close else _OPEN + before for before, close, after in pieces)


def _decoded(xmp: bytes | None) -> str:
    try:
        return (xmp or b"").decode()
    except UnicodeDecodeError:  # XMP in JPEG and WebP is UTF-8
        return ""


def _fitting_xmp(older: bytes | None, record: Mapping[str, Any]) -> bytes:
    """Return an XMP packet that fits into one JPEG segment; raises ValueError if there is none."""
    whole = _xmp(older, record)
    if len(whole) <= _JPEG_TEXT_LIMIT:
        return whole
    prompt = str(record.get("prompt", ""))
    for beside in (older, None):
        fits, too_long = -1, len(prompt) + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            xmp = _xmp(beside, {**record, "prompt": prompt[:middle], "prompt_truncated": True})
            if len(xmp) <= _JPEG_TEXT_LIMIT:
                whole, fits = xmp, middle
            else:
                too_long = middle
        if fits >= 0:
            return whole
    raise ValueError("it is larger than a JPEG segment, 64 KB")


def _text_of_file(data: bytes) -> str | None:
    media_type = media_type_of(data)
    try:
        if media_type == "image/png":
            texts = (png_text(chunk) for chunk in png_chunks(data))
            return next((text[1] for text in texts if text is not None and text[0] == KEY), None)
        if media_type == "image/jpeg":
            return _text_of_xmp(_jpeg_xmp(data))
        return _text_of_xmp(_webp_xmp(data)) if media_type else None
    except ValueError:
        return None


def _text_of_info(info: Mapping[Any, Any]) -> str | None:
    """Return the text of the record in the metadata that Pillow read from the file."""
    text, xmp = info.get(KEY), info.get("xmp")
    if isinstance(text, str):
        return text
    return _text_of_xmp(xmp) if isinstance(xmp, bytes) else None


def _text_of_xmp(xmp: bytes | None) -> str | None:
    # Not an XML parser, so that nothing can be expanded or fetched.
    _, opened, rest = _decoded(xmp).partition("<blockrun:receipt>")
    text, closed, _ = rest.partition("</blockrun:receipt>")
    return html.unescape(text) if opened and closed else None


def _read_file(path: Path) -> bytes:
    try:
        data = read_bounded(path, _FILE_LIMIT)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{path} cannot be read: {reason}.", "Name a PNG, JPEG or WebP file.") from error
    if len(data) > _FILE_LIMIT:
        raise SourceError(f"{path} is too large to be an image.", "Name a PNG, JPEG or WebP file.")
    return data


# XMP in JPEG and WebP


def _is_xmp(data: bytes, start: int, end: int) -> bool:
    return data[start:end].lstrip(b"\xff")[:1] == b"\xe1" and data[start:end].find(_XMP, 0, 64) > 0


def _jpeg_with_xmp(data: bytes, xmp: bytes) -> bytes:
    """Return the JPEG with this XMP in place of any other; raises ValueError if it is not well formed."""
    segments = list(jpeg_segments(data))
    scan = segments.pop()[1]
    if data.find(b"\xff\xd9", scan) < 0:
        raise ValueError("a JPEG without its end")
    parts = [data[start:end] for _, start, end in segments if not _is_xmp(data, start, end)]
    body = _XMP + xmp
    # JFIF's segment has to be the first.
    place = 1 if segments and segments[0][0] == _JFIF_MARKER else 0
    parts.insert(place, b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    return b"".join([data[:2], *parts, data[scan:]])


def _jpeg_xmp(data: bytes) -> bytes | None:
    """Return the XMP of a JPEG, or None; raises ValueError if it is not well formed."""
    for _, start, end in jpeg_segments(data):
        if _is_xmp(data, start, end):
            return data[data.index(_XMP, start) + len(_XMP) : end]
    return None


def _extended_header(chunks: list[tuple[bytes, bytes]]) -> bytearray:
    """Return the VP8X header of an extended file, or one made from the only chunk of a simple file."""
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
        raise ValueError("a WebP with an invalid header")
    sides = (max(side - 1, 0).to_bytes(3, "little") for side in (width, height))
    return bytearray(bytes([flags, 0, 0, 0]) + b"".join(sides))


def _webp_with_xmp(data: bytes, xmp: bytes) -> bytes:
    """Return the WebP, extended if it was simple, with this XMP in place of any other."""
    chunks = webp_chunks(data)
    header = _extended_header(chunks)
    header[0] |= _XMP_FLAG
    others = [chunk for chunk in chunks if chunk[0] not in {b"VP8X", b"XMP "}]
    return webp_file([(b"VP8X", bytes(header)), *others, (b"XMP ", xmp)])


def _webp_xmp(data: bytes) -> bytes | None:
    """Return the XMP of a WebP, or None; raises ValueError if it is not well formed."""
    return next((content for kind, content in webp_chunks(data) if kind == b"XMP "), None)
