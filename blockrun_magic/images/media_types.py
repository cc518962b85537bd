"""Media types: the three formats that are sent and stored, recognized by their first bytes, never by a name."""

from __future__ import annotations

__all__ = ["media_type_of", "suffix_of"]

_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def media_type_of(data: bytes) -> str | None:
    """Return "image/png", "image/jpeg" or "image/webp" by the first bytes, or None."""
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def suffix_of(media_type: str) -> str:
    """Return the file suffix of a media type: ".png", ".jpg" or ".webp"."""
    return _SUFFIXES[media_type]
