"""The hand of each model: what it does to a scene in natural colours, so that models tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["apply_look"]

def apply_look(picture: Image.Image, model: str, seed: int, *, crisp: bool = False) -> Image.Image:
    return picture
