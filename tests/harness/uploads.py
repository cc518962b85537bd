"""Small images of one color for uploads."""

from __future__ import annotations

import io

from PIL import Image

from blockrun_magic.gateway.request import Upload

__all__ = ["upload"]


def upload(color: str | tuple[int, int, int]) -> Upload:
    """Return a PNG of 32 by 32 pixels in one color."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(file, "PNG")
    return Upload.from_file_bytes(file.getvalue(), "image/png")
