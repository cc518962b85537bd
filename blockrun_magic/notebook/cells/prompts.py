"""Many prompts in one cell: the lines of its body, or a variable that holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.fill import MAX_COMBINATIONS, values_of
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["prompts_from", "prompts_of_lines"]

_PLACE = re.compile(
    r"""(?P<name>[^\W\d]\w*)(?:\.(?P<column>[^\W\d]\w*)|\[(?P<quote>["'])(?P<key>[^"']*)(?P=quote)\])?"""
)


def prompts_of_lines(body: str) -> list[str]:
    """Return the prompts in a cell's body, one a line, blank lines left out; raises FlagError over 1000."""
    return _bounded([line.strip() for line in body.splitlines() if line.strip()], "--each")


def prompts_from(text: str, namespace: Mapping[str, object]) -> list[str]:
    """Return the prompts that `--prompts TEXT` means: a list, a tuple, a Series, `df.column` or `df["column"]`.

    Raises FlagError for anything else, and for an item that is not a text.
    """
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        raise FlagError(
            f"--prompts cannot read {quoted(text)}.", 'Name a variable: prompts, df.prompt or df["prompt"].'
        )
    name, column = match["name"], match["column"] or match["key"]
    if name not in namespace:
        known = [known for known in namespace if not known.startswith("_")]
        raise FlagError(f"There is no variable {quoted(name)}.", f"{did_you_mean(name, known)}Set it in a cell above.")
    value: Any = namespace[name]
    if column is not None:
        value = _column(value, name, column)
    values = values_of(value)
    if values is None:
        raise FlagError(
            f"{text} is of type {type(value).__name__}, which is no list of prompts.",
            "--prompts takes a list or tuple of texts, a pandas or polars Series, or a column: df.prompt.",
        )
    return _bounded(_checked(values, text), "--prompts")


def _column(frame: Any, name: str, column: str) -> Any:
    try:
        return frame[column]
    except Exception:  # noqa: BLE001  every kind of table says "no such column" in its own way
        columns = [str(known) for known in getattr(frame, "columns", ())]
        raise FlagError(
            f"{name} has no column {quoted(column)}.",
            f"{did_you_mean(column, columns)}Its columns: {', '.join(columns[:10]) or 'none'}.",
        ) from None


def _checked(values: Sequence[Any], text: str) -> list[str]:
    for position, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise FlagError(
                f"Item {position} of {text} is {quoted(str(value))}, not a prompt.",
                "Every item must be a text with something in it.",
            )
    return [value.strip() for value in values]


def _bounded(prompts: list[str], flag: str) -> list[str]:
    if not prompts:
        raise FlagError(f"{flag} found no prompt.", "Give at least one.")
    if len(prompts) > MAX_COMBINATIONS:
        raise FlagError(f"{flag} found {len(prompts)} prompts.", f"At most {MAX_COMBINATIONS} at once.")
    return prompts
