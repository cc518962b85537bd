"""Several images in one output: a grid of separate images with numbers and captions, as HTML.

Styles are inline and colors are inherited, so that the grid reads on light and dark, and survives in an untrusted
notebook. Each image is an `<img>` of its own, to copy, drag or open.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import TYPE_CHECKING

from blockrun_magic.studio.results.images import Preview, StoredImages

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_CELLS", "GridCell", "axes_of", "grid_html", "grid_side", "small_image", "varying"]

MAX_CELLS = 100
_MAX_BYTES = 44_000
"""Bytes of one image; 59 KB in base64."""
_SIDES = ((2, 512), (4, 448), (9, 352), (25, 256), (MAX_CELLS, 176))
"""The longest side of an image by the number of images."""
_MAX_SHOWN = 320
_SQUARE = 4
"""Number of images that are shown two by two."""
_TEXT = "font-size:0.85em;line-height:1.35;text-align:left;overflow-wrap:anywhere"
_QUIET = f"{_TEXT};opacity:0.75"
_FAILED = "border:1px solid #8a8a8a;border-radius:4px;padding:8px;box-sizing:border-box"
_LABEL = "text-align:left;vertical-align:top;padding:4px 10px 4px 0;font-size:0.9em"


@dataclass(frozen=True, slots=True)
class GridCell:
    """One cell of the grid: its images and caption, or the reason why there is no image.

    `number` is the index of the result, "" for one that failed; `facets` holds the values that differ between cells.
    """

    images: Sequence[Image.Image]
    number: str
    facets: Mapping[str, str]
    lines: Sequence[str]
    alt: str
    failed: str = ""


def varying(facets: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names whose value differs somewhere, in their order."""
    names = dict.fromkeys(name for each in facets for name in each)
    return [name for name in names if len({each.get(name, "") for each in facets}) > 1]


def axes_of(facets: Sequence[Mapping[str, str]]) -> tuple[str, str] | None:
    """Return the names for rows and columns if exactly two vary and every combination occurs once."""
    names = varying(facets)
    if len(names) != 2:
        return None
    rows, columns = (list(dict.fromkeys(each.get(name, "") for each in facets)) for name in names)
    places = [(each.get(names[0], ""), each.get(names[1], "")) for each in facets]
    complete = sorted(places) == sorted(product(rows, columns))
    return (names[0], names[1]) if complete else None


def grid_side(count: int, side: int) -> int:
    """Return the longest side of an image in a grid of `count`."""
    return min(side, next(size for most, size in _SIDES if count <= most or most == MAX_CELLS))


def grid_html(cells: Sequence[GridCell], side: int, form: str = "jpeg") -> str:
    """Return the cells as HTML: with axes where two things vary, otherwise in rows that wrap.

    An image has at most `side` pixels a side, and fewer if there are many.
    """
    side = grid_side(sum(max(1, len(cell.images)) for cell in cells), side)
    facets = [cell.facets for cell in cells]
    axes = axes_of(facets)
    if axes is not None:
        return _table(cells, axes, side, form)
    names = varying(facets)
    shown = "".join(_cell(cell, names, side, form) for cell in cells)
    square = f";max-width:{2 * (min(side, _MAX_SHOWN) + 6) + 20}px" if len(cells) == _SQUARE else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start{square}">{shown}</div>'


def _table(cells: Sequence[GridCell], axes: tuple[str, str], side: int, form: str) -> str:
    down, across = axes
    places = {(cell.facets[down], cell.facets[across]): cell for cell in cells}
    columns = dict.fromkeys(cell.facets[across] for cell in cells)
    rows = dict.fromkeys(cell.facets[down] for cell in cells)
    corner = f'<th style="{_LABEL}">{_plain(down)} \\ {_plain(across)}</th>'
    head = corner + "".join(f'<th style="{_LABEL}">{_plain(_label(across, value))}</th>' for value in columns)
    body = "".join(
        f'<tr><th style="{_LABEL}">{_plain(_label(down, row))}</th>'
        + "".join(
            f'<td style="vertical-align:top;padding:4px 10px 8px 0;text-align:left">'
            f"{_cell(places[row, column], (), side, form)}</td>"
            for column in columns
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(cell: GridCell, names: Sequence[str], side: int, form: str) -> str:
    differs = ", ".join(_label(name, cell.facets[name]) for name in names if cell.facets.get(name))
    width = min(side, _MAX_SHOWN)
    if cell.failed:
        place = f'<div style="{_FAILED};width:{width}px;min-height:{width // 2}px;{_TEXT}">{_plain(cell.failed)}</div>'
    else:
        small = (small_image(cell.images, index, side, form) for index in range(len(cell.images)))
        place = "".join(_image(each, cell.alt, form) for each in small)
    number = f"<b>{_plain(cell.number)}</b> " if cell.number else ""
    lines = "<br>".join(_plain(line) for line in cell.lines)
    caption = f'<div style="{_TEXT}">{number}{_plain(differs)}</div><div style="{_QUIET}">{lines}</div>'
    inside = max(1, len(cell.images))
    return f'<div style="max-width:{(width + 6) * min(inside, 2)}px">{place}{caption}</div>'


def _image(small: Preview, alt: str, form: str) -> str:
    data, width, height = small
    scale = min(1.0, _MAX_SHOWN / max(width, height))
    text = escape(alt, quote=True).replace("$", "&#36;")
    source = f"data:image/{form};base64,{base64.b64encode(data).decode('ascii')}"
    size = f'width="{round(width * scale)}" height="{round(height * scale)}"'
    return f'<img src="{source}" {size} alt="{text}" title="{text}" style="margin:0 6px 4px 0">'


def small_image(images: Sequence[Image.Image], index: int, side: int, form: str) -> Preview:
    """Return one of `images` as a grid shows it; those of a result are drawn once."""
    if isinstance(images, StoredImages):
        return images.preview(index, side, form, _small)
    return _small(images[index], side, form)


def _small(image: Image.Image, side: int, form: str) -> Preview:
    """Return a preview that fits the budget of one image: reduced if necessary."""
    from blockrun_magic.images.preview import preview_bytes

    while True:
        data, width, height = preview_bytes(image, side, form)
        if len(data) <= _MAX_BYTES or side <= 96:
            return data, width, height
        side = side * 4 // 5


def _label(name: str, value: str) -> str:
    return value.rpartition("/")[2] if name == "model" else value


def _plain(text: str) -> str:
    """Return `text` as HTML; JupyterLab would read text between two dollars of one element as a formula."""
    return escape(text).replace("$", "<span>$</span>")
