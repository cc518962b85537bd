"""Words and quotes of a line, as the image magics and the commands of %blockrun read them.

Quotes group words only at the start of a flag's value. Elsewhere they are literal, like `$`, `{` and dashes.
"""

from __future__ import annotations

import re

from blockrun_magic.errors import FlagError

__all__ = ["INVISIBLE", "WORD", "long_dash", "looks_like_flag", "quote", "read_value"]

WORD = re.compile(r"\S+")
_QUOTED = re.compile(r"""(?:"[^"]*+"|'[^']*+')++(?!\S)""")
_SEGMENT = re.compile(r""""([^"]*)"|'([^']*)'""")
_LINE_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
INVISIBLE = "\u00ad\u200b-\u200f\u2060\ufeff"
"""Invisible characters, which come with text from web pages, as the inside of a character class."""
_LONG_DASH = re.compile(
    f"(?:[{INVISIBLE}]+-{{1,2}}|[{INVISIBLE}]*-?[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]{{1,2}}-?)([^\\W\\d_][\\w-]*)"
)
_TYPOGRAPHIC_QUOTES = frozenset("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u300c\u300e")


def looks_like_flag(word: str) -> bool:
    """Return whether a word begins with one or two dashes and a letter: "-5", "--5" and "-" are prompt."""
    return word.startswith("-") and word.removeprefix("-").removeprefix("-")[:1].isalpha()


def long_dash(word: str) -> str | None:
    """Return the flag that `word` spells with another kind of dash: "--size" for "—size"; otherwise None.

    Phones and chat programs write such dashes, and web pages put invisible characters before them. A single letter is a
    short flag.
    """
    match = _LONG_DASH.match(word)
    if match is None:
        return None
    return f"-{match[1]}" if len(match[1]) == 1 else f"--{match[1].lower()}"


def read_value(name: str, line: str, start: int, *, joined: bool) -> tuple[str, int]:
    """Return the value of the flag `name` that begins at `start` ("" if it has none), and its end.

    `joined`: the value begins right after "=". Raises FlagError for quotes that do not pair up or are not straight.
    """
    word = WORD.match(line, start) if joined else WORD.search(line, start)
    if word is None or (not joined and (word[0] == "--" or looks_like_flag(word[0]))):
        return "", start
    if word[0][0] in _TYPOGRAPHIC_QUOTES:
        raise FlagError(
            f"The value of {name} begins with a typographic quote ({word[0][0]}).",
            f'Use straight quotes: {name} "...".',
        )
    if word[0].startswith(('"', "'")):
        value, end = _read_quoted(name, line, word.start())
    else:
        value, end = word[0], word.end()
    if _LINE_BREAK.search(value):
        raise FlagError(f"The value of {name} spans several lines.", "Write it on one line.")
    return value, end


def _read_quoted(name: str, line: str, start: int) -> tuple[str, int]:
    """Return the text in the quotes at `start`, and its end; 'a'"b" is one value, ab."""
    match = _QUOTED.match(line, start)
    if match is None:
        raise FlagError(
            f"The quotes after {name} do not pair up.",
            f'Close the quote and leave a space after it: {name} "...".',
        )
    return "".join(double or single for double, single in _SEGMENT.findall(match[0])), match.end()


def quote(value: str) -> str:
    """Return a value as it is written after its flag, with quotes only if it needs them."""
    straight = value[:1] not in _TYPOGRAPHIC_QUOTES and value[:1] not in "\"'"
    if WORD.fullmatch(value) and straight and value != "--" and not looks_like_flag(value):
        return value
    if '"' not in value:
        return f'"{value}"'
    return "".join(f"'{part}'" if '"' in part else f'"{part}"' for part in re.findall(r'"+|[^"]+', value))
