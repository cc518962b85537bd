"""Values that TAB offers: models, sizes, variables, paths, styles and gateways, each with its type.

Nothing here touches the network.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.snapshot import Model

__all__ = ["Candidate", "candidates", "of_type"]

_MAX_FILES = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion: its text, its type ("flag", "model", "variable"), and a hint such as a price."""

    text: str
    type: str
    hint: str = ""


def of_type(kind: str, texts: Iterable[str]) -> list[Candidate]:
    """Return `texts` as candidates of one type."""
    return [Candidate(text, kind) for text in texts]


def candidates(
    kind: str, value: str, namespace: Mapping[str, object], models: Sequence[str] = ()
) -> tuple[str, list[Candidate]]:
    """Return the part of `value` to replace, and the values of `kind` that fit; `models` are already chosen."""
    if kind in ("model", "size"):
        head, comma, last = value.rpartition(",")
        taken = head.split(",") if comma else []
        choices = _models() if kind == "model" else _sizes(models)
        return last, [each for each in choices if each.text not in taken]
    sources: Mapping[str, Callable[[], list[Candidate]]] = {
        "quality": lambda: of_type("quality", ["standard", "hd"]),
        "style": _styles,
        "image": lambda: [*_images(namespace), *_paths(value)],
        "mask": lambda: [*_images(namespace), *_paths(value)],
        "path": lambda: _paths(value),
        "prompts": lambda: _lists(namespace),
        "gateway": _gateways,
        "count": lambda: of_type("number", ["1", "2", "4"]) if not value else [],
        "day": lambda: of_type("day", ["today", "yesterday"]),
    }
    return value, sources[kind]() if kind in sources else []


def _gateways() -> list[Candidate]:
    from blockrun_magic.gateway.gateways import CLASSROOM, PRACTICE_NAME, PRESETS

    return of_type("gateway", [PRACTICE_NAME, *PRESETS, CLASSROOM])


def _styles() -> list[Candidate]:
    from blockrun_magic.notebook.cells.styles import load_styles
    from blockrun_magic.wiring import blockrun_home

    return of_type("style", load_styles(blockrun_home()))


def _models() -> list[Candidate]:
    from blockrun_magic.gateway.catalog.catalog import SNAPSHOT

    short = [Candidate(name, "model", _price(model)) for model in SNAPSHOT.models for name in model.shorthands]
    return [*short, *(Candidate(model.id, "model", _price(model)) for model in SNAPSHOT.models)]


def _price(model: Model, size: str | None = None) -> str:
    from blockrun_magic.payments.money import format_usd

    price = model.price(size or model.sizes[0])
    return "" if price is None else format_usd(price)


def _sizes(names: Sequence[str]) -> list[Candidate]:
    """Return the sizes that every chosen model makes, the first model's default first, then words for sizes."""
    from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
    from blockrun_magic.gateway.catalog.sizes import SIZE_WORDS

    chosen = [model for name in names if (model := SNAPSHOT.find(name)) is not None] or [SNAPSHOT.models[0]]
    sizes = [size for size in chosen[0].sizes if all(model.allows_size(size) for model in chosen)]
    return [*(Candidate(size, "size", _price(chosen[0], size)) for size in sizes), *of_type("size", SIZE_WORDS)]


def _images(namespace: Mapping[str, object]) -> list[Candidate]:
    """Return the variables that hold images, `img` first, the newest names before the oldest."""
    from blockrun_magic.images.detection import is_image_like
    from blockrun_magic.notebook.background import BackgroundJob

    by_type: dict[type, bool] = {}

    def is_image(value: object) -> bool:
        if isinstance(value, str):
            return value[:11].lower().startswith("data:image/")
        kind = type(value)
        if isinstance(value, _BY_VALUE) or hasattr(kind, "__array__") or hasattr(kind, "__array_interface__"):
            return is_image_like(value)
        if kind not in by_type:  # all values of such a type are alike
            by_type[kind] = isinstance(value, BackgroundJob) or is_image_like(value)
        return by_type[kind]

    names = [name for name, value in reversed(list(namespace.items())) if not name.startswith("_") and is_image(value)]
    return of_type("variable", sorted(names, key=lambda name: name != "img"))


_BY_VALUE = (bytes, bytearray, memoryview, io.IOBase, Path)
"""Types of which some values are images and others are not."""


def _lists(namespace: Mapping[str, object]) -> list[Candidate]:
    from blockrun_magic.notebook.cells.prompts import values_of

    return of_type(
        "variable",
        (
            name
            for name, value in namespace.items()
            if not name.startswith("_") and name not in ("In", "Out") and values_of(value)
        ),
    )


def _paths(text: str) -> list[Candidate]:
    """Return the images and folders that `text` may become, folders with a slash at the end."""
    from blockrun_magic.images.detection import IMAGE_SUFFIXES

    folder, _, _ = text.rpartition("/")
    shown = f"{folder}/" if folder or text.startswith("/") else ""
    place = Path(shown or ".").expanduser()
    paths = []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                paths.append(f"{shown}{entry.name}/")
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                paths.append(f"{shown}{entry.name}")
    return of_type("path", sorted(paths)[:_MAX_FILES])
