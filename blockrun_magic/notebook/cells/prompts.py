"""Prompts of a cell: its lines (`--each`), a variable (`--prompts`), or a text with names to fill in (`--fill`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import ModuleType
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.images.detection import is_image_like
from blockrun_magic.images.references import kind_of
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["MAX_COMBINATIONS", "Variant", "fill", "fill_variants", "prompts_from", "prompts_of_lines", "values_of"]

MAX_COMBINATIONS = 1000
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLACE = re.compile(
    r"""(?P<name>[^\W\d]\w*)(?:\.(?P<column>[^\W\d]\w*)|\[(?P<quote>["'])(?P<key>[^"']*)(?P=quote)\])?"""
)


def prompts_of_lines(body: str) -> list[str]:
    """Return the prompts in a cell's body, one a line, blank lines left out; raises FlagError over 1000."""
    return _bounded([line.strip() for line in body.splitlines() if line.strip()], "--each")


def prompts_from(text: str, namespace: Mapping[str, object]) -> list[str]:
    """Return the prompts of `--prompts TEXT`: a list, a tuple, a Series, `df.column` or `df["column"]`.

    Raises FlagError for anything else, and for an item that is not a text.
    """
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        raise FlagError(
            f"--prompts cannot read {quoted(text)}.", 'Name a variable: prompts, df.prompt or df["prompt"].'
        )
    name, column = match["name"], match["column"] or match["key"]
    if name not in namespace:
        guess = did_you_mean(name, _variables(namespace))
        raise FlagError(f"There is no variable {quoted(name)}.", f"{guess}Set it in a cell above.")
    value: Any = namespace[name]
    if column is not None:
        value = _column(value, name, column)
    values = values_of(value)
    if values is None:
        raise FlagError(
            f"{text} is of type {type(value).__name__}, not a list of prompts.",
            "--prompts takes a list or tuple of texts, an array, a pandas or polars Series, or a column: df.prompt.",
        )
    return _bounded(_checked(values, text), "--prompts")


def _column(frame: Any, name: str, column: str) -> Any:
    try:
        return frame[column]
    except Exception:  # noqa: BLE001  every kind of table says "no such column" in its own way
        columns = [str(label) for label in getattr(frame, "columns", ())]
        raise FlagError(
            f"{name} has no column {quoted(column)}.",
            f"{did_you_mean(column, columns)}Its columns: {', '.join(columns[:10]) or 'none'}.",
        ) from None


def _checked(values: Sequence[Any], text: str) -> list[str]:
    for position, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise FlagError(
                f"Item {position} of {text} is {quoted(str(value))}, not a prompt.",
                "Every item must be a non-empty text.",
            )
    return [value.strip() for value in values]


def _bounded(prompts: list[str], flag: str) -> list[str]:
    if not prompts:
        raise FlagError(f"{flag} found no prompt.", "Give at least one.")
    if len(prompts) > MAX_COMBINATIONS:
        raise FlagError(f"{flag} found {len(prompts)} prompts.", f"At most {MAX_COMBINATIONS} at once.")
    return prompts


def fill(prompt: str, namespace: Mapping[str, object]) -> list[str]:
    """Return `prompt` with its names filled in from `namespace`, once for each combination; see `fill_variants`."""
    return [variant.prompt for variant in fill_variants(prompt, namespace)]


@dataclass(frozen=True, slots=True)
class Variant:
    """One prompt, and the values that vary in it by name."""

    prompt: str
    values: Mapping[str, str] = field(default_factory=dict)


def fill_variants(prompt: str, namespace: Mapping[str, object]) -> list[Variant]:
    """Return `prompt` with its names filled in from `namespace`, once for each combination, with the values that vary.

    `{{` and `}}` are braces. A name whose value is a list, tuple, range or Series stands for each of
    its items in turn; several such names give every combination, the first one slowest. Raises
    FlagError for an unknown name, an empty list, a format that does not fit, or over 1000 prompts.
    """
    names = dict.fromkeys(_name_of(match) for match in _FIELD.finditer(prompt) if _is_field(match))
    choices = {name: _choices(name, namespace) for name in names}
    count = 1
    for values in choices.values():
        count *= len(values)
    if count > MAX_COMBINATIONS:
        raise FlagError(
            f"--fill would make {count} prompts.", f"At most {MAX_COMBINATIONS} at once: make the lists shorter."
        )
    variants = []
    for values in product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        varying = {name: str(value) for name, value in chosen.items() if len(choices[name]) > 1}
        variants.append(Variant(_filled(prompt, chosen), varying))
    return variants


def values_of(value: object) -> Sequence[Any] | None:
    """Return the items of a list, tuple, range, array, Series or Index (pandas, polars); None for a single value."""
    if isinstance(value, list | tuple | range):
        return value
    kind = type(value).__name__
    is_array = kind == "ndarray" and len(getattr(value, "shape", ())) == 1
    items = getattr(value, "tolist" if is_array else "to_list", None)
    if callable(items) and (is_array or kind in {"Series", "Index"}):
        values = items()
        return values if isinstance(values, list) else None
    return None


def _is_field(match: re.Match[str]) -> bool:
    if match[0] in ("{", "}"):
        raise FlagError(
            "A brace in the prompt has no partner.",
            "Write {{ or }} for a literal brace, or leave out --fill.",
        )
    return match[1] is not None


def _name_of(match: re.Match[str]) -> str:
    return match[1].partition(":")[0].strip()


def _choices(name: str, namespace: Mapping[str, object]) -> Sequence[Any]:
    if name not in namespace:
        guess = did_you_mean(name, _variables(namespace))
        raise FlagError(
            f"--fill finds no variable {quoted(name)}.",
            f"{guess}Set it in a cell above, or write {{{{...}}}} for literal braces.",
        )
    values = values_of(namespace[name])
    if values is None:
        values = (namespace[name],)
    if not values:
        raise FlagError(f"{name} is empty, so there is nothing to fill in.", "Put at least one item into it.")
    for value in values:
        if not _is_text(value):
            advice = "Give it with --image" if is_image_like(value) else "Fill in a text or a number"
            raise FlagError(f"{name} is {kind_of(value)}, which would be sent as {quoted(str(value))}.", f"{advice}.")
    return values


def _is_text(value: object) -> bool:
    """Return whether a value can be part of a prompt: None, functions, images and objects without a text cannot."""
    if isinstance(value, str | int | float):
        return True
    if value is None or callable(value) or isinstance(value, ModuleType | bytes) or is_image_like(value):
        return False
    return type(value).__str__ is not object.__str__ or type(value).__repr__ is not object.__repr__


def _variables(namespace: Mapping[str, object]) -> list[str]:
    """Return the names of values, for suggestions; functions and modules are left out."""
    return [
        name
        for name, value in namespace.items()
        if name[:1] != "_" and name not in {"In", "Out"} and not callable(value) and not isinstance(value, ModuleType)
    ]


def _filled(prompt: str, values: Mapping[str, Any]) -> str:
    def text_of(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        _, _, form = match[1].partition(":")
        value = values[_name_of(match)]
        try:
            return format(value, form)
        except (ValueError, TypeError) as error:
            raise FlagError(
                f"{quoted(match[0])} does not fit {type(value).__name__} {quoted(str(value))}: {error}.",
                "Change the part after the colon, or leave it out.",
            ) from None

    return _FIELD.sub(text_of, prompt)
