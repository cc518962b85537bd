"""A reader for QR codes, based on the standard's rules and another library's tables; it does not correct errors."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image
from qrcode import base, constants, util

__all__ = ["in_blocks", "in_picture", "read"]

Modules = list[list[bool]]
"""The modules of a code, row by row, without the margin; True is dark."""

_LEVELS = (constants.ERROR_CORRECT_M, constants.ERROR_CORRECT_L, constants.ERROR_CORRECT_H, constants.ERROR_CORRECT_Q)
_FORMAT_MASK = 0b10101
_BYTES = 0b0100
_FROM_VERSION = 7
"""Codes from this version upward contain their version in two blocks."""


def in_picture(png: bytes) -> Modules:
    """Return the modules of the code in an image."""
    picture = Image.open(io.BytesIO(png)).convert("L")
    dark = [[picture.getpixel((x, y)) < 128 for x in range(picture.width)] for y in range(picture.height)]
    step = sum(1 for _ in _first_run(dark)) // 7  # the finder pattern is seven modules wide
    return _cropped([row[step // 2 :: step] for row in dark[step // 2 :: step]])


def _first_run(dark: Modules) -> Iterator[bool]:
    row = next(row for row in dark if any(row))
    for pixel in row[row.index(True) :]:
        if not pixel:
            return
        yield pixel


def in_blocks(text: str) -> Modules:
    """Return the modules of a code in half blocks, with its light modules drawn."""
    halves = {" ": (True, True), "▀": (False, True), "▄": (True, False), "█": (False, False)}
    lines = [[halves[block] for block in line] for line in text.splitlines()]
    # The last line may have a lower half without modules.
    rows = [[pair[half] for pair in line] for line in lines for half in (0, 1)]
    return _cropped(rows[:-1] if len(rows) > len(rows[0]) else rows)


def _cropped(dark: Modules) -> Modules:
    rows = [number for number, row in enumerate(dark) if any(row)]
    columns = [number for row in dark for number, module in enumerate(row) if module]
    return [row[min(columns) : max(columns) + 1] for row in dark[rows[0] : rows[-1] + 1]]


def read(code: Modules) -> str:
    """Return the text of a code with one segment of bytes."""
    version = (len(code) - 17) // 4
    said = int("".join(str(int(module)) for module in code[8][:5]), 2) ^ _FORMAT_MASK
    unmask = util.mask_func(said & 0b111)
    bits = [code[row][column] ^ unmask(row, column) for row, column in _places(len(code), version)]
    codewords = [_number(bits[start : start + 8]) for start in range(0, len(bits) - 7, 8)]
    data = "".join(f"{byte:08b}" for byte in _in_order(codewords, version, _LEVELS[said >> 3]))
    length = 8 if version < 10 else 16

    assert _BYTES == int(data[:4], 2)
    count = int(data[4 : 4 + length], 2)
    return bytes(int(data[at : at + 8], 2) for at in range(4 + length, 4 + length + 8 * count, 8)).decode()


def _number(bits: list[bool]) -> int:
    return int("".join(str(int(bit)) for bit in bits), 2)


def _places(size: int, version: int) -> Iterator[tuple[int, int]]:
    """Yield the positions of the bits in order: up and down in columns of two, around all patterns."""
    upward = True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for row in range(size - 1, -1, -1) if upward else range(size):
            yield from ((row, column) for column in (right, right - 1) if not _is_pattern(row, column, size, version))
        upward = not upward


def _is_pattern(row: int, column: int, size: int, version: int) -> bool:
    if row == 6 or column == 6 or (row < 9 and (column < 9 or column >= size - 8)) or (column < 9 and row >= size - 8):
        return True
    near, far = sorted((row, column))
    if version >= _FROM_VERSION and near < 6 and far >= size - 11:
        return True
    centers = util.pattern_position(version)
    corners = {(6, 6), (6, size - 7), (size - 7, 6)}
    return any(
        abs(row - down) <= 2 and abs(column - across) <= 2
        for down in centers
        for across in centers
        if (down, across) not in corners
    )


def _in_order(codewords: list[int], version: int, level: int) -> list[int]:
    """Return the data of all blocks, one block after the other; the code interleaves them."""
    counts = [block.data_count for block in base.rs_blocks(version, level)]
    blocks: list[list[int]] = [[] for _ in counts]
    stream = iter(codewords)
    for turn in range(max(counts)):
        for block, count in zip(blocks, counts, strict=True):
            if turn < count:
                block.append(next(stream))
    return [byte for block in blocks for byte in block]
