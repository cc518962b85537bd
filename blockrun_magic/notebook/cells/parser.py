"""Parsing of the image magics: a line and a body become `Flags`, and `Flags` become a cell again.

A cell's first line holds flags and its body is the prompt, byte for byte. On one line flags may be anywhere, and the
rest is the prompt. IPython's own argument parser is not used because it drops apostrophes, `$` and `--` of prompts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.flag_values import CONVERTERS
from blockrun_magic.notebook.cells.flags import FLAGS, Flag, Flags, find_flag
from blockrun_magic.notebook.cells.grammar import WORD, long_dash, looks_like_flag, quote, read_value
from blockrun_magic.notebook.cells.stray_flags import check_body, is_flag_elsewhere, unknown_flag
from blockrun_magic.payments.money import format_usd
from blockrun_magic.text import quoted

__all__ = ["asks_for_help", "parse", "parse_flags", "render"]

_HELP = ("--help", "-h")


def asks_for_help(line: str, cell: str | None = None) -> bool:
    """Return whether the line, or the whole body, of a magic asks for its help page."""
    words = line.split()
    if cell is not None and cell.strip() in _HELP:
        return True
    if cell is None and words == ["?"]:
        return True
    return any(word in _HELP for word in (words[: words.index("--")] if "--" in words else words))


def parse(magic: str, line: str, cell: str | None) -> Flags:
    """Return the flags and the prompt of a cell; raises FlagError, and nothing else.

    `cell` is the body of a cell magic, or None for a line magic. After a first line that ends in `--`, the body is the
    prompt as it is, flags included.
    """
    flags = parse_flags(magic, line)
    if cell is not None:
        if flags.prompt:
            raise FlagError(
                f"The first line of %%{magic} is for flags, but it contains {quoted(flags.prompt)}.",
                f"Write the prompt below that line, or use %{magic} for flags and prompt on one line.",
            )
        if line.split()[-1:] != ["--"]:
            check_body(magic, cell)
        flags = replace(flags, prompt=cell.strip())
    if magic == "img2img" and not flags.images:
        raise FlagError(
            "There is no image to edit.",
            "Add --image with a path, a URL or a variable; `--image img` takes the last image.",
        )
    if flags.prompts and (flags.prompt or flags.each):
        raise FlagError(
            "--prompts cannot be combined with another prompt or with --each.",
            "Leave out --each and the prompt, or --prompts.",
        )
    if not flags.prompt and not flags.prompts and not flags.vary:
        where = "below the first line" if cell is not None else f"after %{magic}"
        raise FlagError("The prompt is empty.", f"Describe the image {where}.")
    return flags


def parse_flags(magic: str, line: str) -> Flags:
    """Return the flags on `line` with all other words as the prompt, empty or not; raises FlagError."""
    values: dict[str, Any] = {}
    pieces: list[str] = []
    start = position = 0
    while word := WORD.search(line, position):
        position = word.end()
        if word[0] == "--":
            pieces.append(line[start : word.start()])
            start = position
            break
        if not looks_like_flag(word[0]):
            _check_dash(word[0])
            continue
        pieces.append(line[start : word.start()])
        flag, equals = _recognize(magic, word[0])
        at = word.start() + equals if equals else position
        value, position = _value_of(flag, line, at, joined=equals > 0)
        _enter(values, flag, value)
        start = position
    pieces.append(line[start:])
    return Flags(" ".join(filter(None, map(str.strip, pieces))), **values)


def render(magic: str, flags: Flags) -> str:
    """Return the cell for `flags`: `parse` turns it into the same flags."""
    words = []
    for flag in FLAGS:
        value = getattr(flags, flag.field)
        if magic not in flag.magics or value is None or value is False or value == ():
            continue
        if flag.kind == "switch":
            words.append(flag.name)
            continue
        for text in value if flag.repeats else [_as_text(flag, value)]:
            words += [flag.name, quote(text)]
    try:
        check_body(magic, flags.prompt)
    except FlagError:
        if len(flags.prompt.splitlines()) == 1:
            return " ".join([f"%{magic}", *words, "--", flags.prompt])
        words.append("--")
    return f"{' '.join([f'%%{magic}', *words])}\n{flags.prompt}"


def _check_dash(word: str) -> None:
    """Raise FlagError for a flag with a typographic dash, which would otherwise be bought as part of the prompt."""
    spelling = long_dash(word)
    if spelling is not None and (find_flag(spelling) or is_flag_elsewhere(spelling)):
        raise FlagError(
            f"{quoted(word)} begins with a typographic dash or an invisible character.",
            f"Type hyphens: {spelling}. A phone may replace them.",
        )


def _recognize(magic: str, word: str) -> tuple[Flag, int]:
    """Return the flag in `word`, and the offset of its value, or 0 without "="."""
    spelling, equals, _ = word.partition("=")
    flag = find_flag(spelling)
    if flag is None:
        raise unknown_flag(magic, spelling)
    if magic not in flag.magics:
        home = flag.magics[0]
        raise FlagError(
            f"{flag.name} is a flag of %%{home}, not of %%{magic}.",
            f"Use %%{home} with the same prompt, or leave {flag.name} out.",
        )
    return flag, len(spelling) + 1 if equals else 0


def _value_of(flag: Flag, line: str, start: int, *, joined: bool) -> tuple[str, int]:
    """Return the value that begins at `start` (`joined`: right after "="), and its end."""
    if flag.metavar is None:
        if joined:
            raise FlagError(f"{flag.name} takes no value.", f"Write {flag.name} without a value.")
        return "", start
    value, end = read_value(flag.name, line, start, joined=joined)
    if not value.strip():
        raise FlagError(f"{flag.name} needs a value.", f"Write {flag.name} {flag.metavar}, or leave it out.")
    return value, end


def _enter(values: dict[str, Any], flag: Flag, text: str) -> None:
    """Add one flag's value to `values`, converted."""
    if flag.field in values and not flag.repeats:
        several = f"; separate several by commas: {flag.name} a,b" if flag.kind in {"model", "size"} else ""
        raise FlagError(f"{flag.name} is given twice.", f"Give it once{several}.")
    value = CONVERTERS.get(flag.kind, str)(text)
    values[flag.field] = (*values.get(flag.field, ()), value) if flag.repeats else value


def _as_text(flag: Flag, value: Any) -> str:
    """Return a field's value as a user would type it, unquoted."""
    if flag.kind == "usd":
        return format_usd(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)
