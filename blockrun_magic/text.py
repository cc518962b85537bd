"""Text for messages: suggestions for misspelled names, quoting, shortening, amounts of money."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MICROS_PER_USD", "any_of", "closest", "did_you_mean", "format_usd", "public_url", "quoted", "sanitize"]

MAX_NAME = 60
MICROS_PER_USD = 1_000_000


def closest(word: str, names: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Return up to `limit` of `names` that begin with `word` or resemble it, in upper or lower case."""
    from difflib import get_close_matches

    folded = word[:MAX_NAME].strip().casefold()
    spelled = {name.casefold(): name for name in names}
    if folded in spelled:
        return (spelled[folded],)
    begun = [name for name in spelled if folded and name.startswith(folded)]
    matches = dict.fromkeys([*begun, *get_close_matches(folded, spelled, n=limit)])
    return tuple(spelled[match] for match in matches)[:limit]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return "Did you mean flux or grok? " with its trailing space, or "" when nothing is close."""
    names = closest(word, choices)
    return f"Did you mean {any_of(names)}? " if names else ""


def any_of(names: Iterable[str]) -> str:
    """Return names as people list them: "a", "a or b", "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def format_usd(micros: int) -> str:
    """Return micro-USDC as people read them: "$0.0525", "$5.00", "-$0.04"."""
    whole, fraction = divmod(abs(micros), MICROS_PER_USD)
    digits = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}${whole}.{digits}"


def quoted(text: str) -> str:
    """Return a user's text for one line of a message: quoted, escaped, and shortened."""
    return repr(text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}…")


# From the start of a run and possessive: each run is read once, however long it is.
_CIPHER = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{100,}+")
_KEY = re.compile(r"br([ck])_[A-Za-z0-9_-]+")


def sanitize(value: Any, limit: int) -> str:
    """Return `value` as one line of printable text of at most `limit` characters.

    Hex or base64 that is long enough to be a signature is left out, and so are API keys and passes: a server could send
    a payment header back. Lists and maps become "", because they may be of any size.
    """
    text = value if isinstance(value, str) else "" if isinstance(value, list | dict | tuple) else str(value)
    text = "".join(character if unicodedata.category(character)[0] != "C" else " " for character in text[: limit * 4])
    text = _KEY.sub(r"br\1_…", _CIPHER.sub(_hide, " ".join(text.split())))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def public_url(url: str, limit: int = 80) -> str:
    """Return `url` as it may be shown: one line without user info, query and fragment, which may hold secrets."""
    scheme, separator, rest = url[:4096].partition("//")
    if not separator:
        scheme, rest = "", scheme
    rest = rest.partition("#")[0].partition("?")[0]
    authority, slash, path = rest.partition("/")
    return sanitize(f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}", limit)


def _hide(run: re.Match[str]) -> str:
    """Return "…" for a possible signature; a run of letters only, which cannot be one, is returned unchanged."""
    return run[0] if run[0].isalpha() else "…"
