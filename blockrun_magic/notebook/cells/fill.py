"""`--fill`: `{name}` and `{name:format}` from the notebook's variables; lists make every combination."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["MAX_COMBINATIONS", "fill", "values_of"]

MAX_COMBINATIONS = 1000
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def fill(prompt: str, namespace: Mapping[str, object]) -> list[str]:
    """Return the prompts that `prompt` stands for, its names filled in from `namespace`.

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
    return [_filled(prompt, dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


def values_of(value: object) -> Sequence[Any] | None:
    """Return the items of a list, tuple, range or Series (pandas, polars), or None for a single value."""
    if isinstance(value, list | tuple | range):
        return value
    items = getattr(value, "to_list", None)
    if callable(items) and type(value).__name__ == "Series":
        found = items()
        return found if isinstance(found, list) else None
    return None


def _is_field(match: re.Match[str]) -> bool:
    if match[0] in ("{", "}"):
        raise FlagError(
            "A brace in the prompt has no partner.",
            "Write {{ or }} for a brace that means itself, or leave out --fill.",
        )
    return match[1] is not None


def _name_of(match: re.Match[str]) -> str:
    return match[1].partition(":")[0].strip()


def _choices(name: str, namespace: Mapping[str, object]) -> Sequence[Any]:
    if name not in namespace:
        known = [known for known in namespace if not known.startswith("_")]
        raise FlagError(
            f"--fill finds no variable {quoted(name)}.",
            f"{did_you_mean(name, known)}Set it in a cell above, or write {{{{...}}}} for braces that mean themselves.",
        )
    values = values_of(namespace[name])
    if values is None:
        return (namespace[name],)
    if not values:
        raise FlagError(f"{name} is empty, so there is nothing to fill in.", "Put something into it.")
    return values


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
