"""A QR code that a wallet app understands: an image in a notebook, blocks of text in a terminal."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["QrCode"]

_PIXELS_PER_MODULE = 5


class QrCode:
    """The code of `content`, for display."""

    def __init__(self, content: str) -> None:
        import segno

        self._code = segno.make_qr(content, error="m")

    @property
    def png(self) -> bytes:
        """The code as a PNG, dark on white, with its margin."""
        file = io.BytesIO()
        self._code.save(file, kind="png", scale=_PIXELS_PER_MODULE)
        return file.getvalue()

    @property
    def text(self) -> str:
        """The code as half blocks; the light modules are drawn, for a dark terminal."""
        file = io.StringIO()
        self._code.terminal(file, compact=True)
        return file.getvalue().rstrip("\n")

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"image/png": self.png, "text/plain": self.text}
