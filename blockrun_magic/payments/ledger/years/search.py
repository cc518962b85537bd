"""The history's queries: finished purchases by words, model, day or id, newest first, among a million of them.

The newest purchases, which an index finds, fill most pages. For a rare word, the whole table is read in the order in
which it is stored, which takes a third of the time that the index would take.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["HistorySearch", "history_queries"]

Query = tuple[str, Sequence[Any]]
"""SQL, and the values of its placeholders."""

_WINDOWS = (2_000, 50_000)
_MAX_PART = 100
_PLAIN = re.compile(r"[^\s\x00-\x1f\x7f-\U0010ffff\"\\%_]+")  # as JSON writes it, without the marks of LIKE
_TYPED = re.compile(r"[A-Za-z0-9 ,.'-]{1,1000}")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f]+")
_MODIFIERS = ("Lm", "Mn")
"""Kinds of characters that may be part of a folded letter."""
_FOLDED = {
    "\u00df": "s",
    "\u017f": "s",
    "\u1e9e": "s",
    "\u0130": "i",
    "\u0149": "n",
    "\u01f0": "j",
    "\u1e96": "h",
    "\u1e97": "t",
    "\u1e98": "w",
    "\u1e99": "y",
    "\u1e9a": "a",
    "\u212a": "k",
    "\ufb00": "f",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "fi",
    "\ufb04": "fl",
    "\ufb05": "st",
    "\ufb06": "st",
}
"""Letters that JSON escapes, and the plain letters into which they fold when the case of words is ignored."""
_NEWEST = """created_at >= coalesce((
    SELECT created_at FROM purchases WHERE realm = ? AND finished_at IS NOT NULL
    ORDER BY created_at DESC LIMIT 1 OFFSET ?), 0)"""
_TEXT = "casefold(json_extract(request, '$.prompt') || ' ' || json_extract(request, '$.model'))"


@dataclass(frozen=True, slots=True)
class HistorySearch:
    """A search of finished purchases: those of one kind of money that meet every given condition.

    `words` occur in the prompt or the model, `model` in the model's id; `since` and `until` bound the purchase's Unix
    time, `only` lists ids.
    """

    realm: str
    words: str = ""
    model: str = ""
    since: float | None = None
    until: float | None = None
    only: Sequence[str] | None = None


def history_queries(search: HistorySearch, owner: str, limit: int, offset: int) -> Iterator[Query]:
    """Yield queries for a page of rows, newest first: the first one that fills the page has the answer.

    The last one always has the answer.
    """
    where, values = _conditions(search)
    order, page = "ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?", (limit, offset)
    by_time = "FROM purchases WHERE realm = ? AND finished_at IS NOT NULL AND owner = ?"
    # Written so that no index is used: neither that of the realm nor that of the end.
    by_place = (
        f"FROM purchases WHERE {where} AND coalesce(finished_at, -1) > 0 AND coalesce(realm, '') = ? AND owner = ?"
    )
    if search.since is not None or not (search.words or search.model or search.only is not None):
        yield f"SELECT * {by_time} AND {where} {order}", (search.realm, owner, *values, *page)
        return
    for window in _WINDOWS if search.only is None else ():
        newest = (search.realm, window + 2 * (limit + offset))
        yield f"SELECT * {by_time} AND {_NEWEST} AND {where} {order}", (search.realm, owner, *newest, *values, *page)
    yield f"SELECT * {by_place} {order}", (*values, search.realm, owner, *page)


def _conditions(search: HistorySearch) -> Query:
    conditions: list[Query] = []
    if search.since is not None:
        conditions.append(("created_at >= ?", (search.since,)))
    if search.until is not None:
        conditions.append(("created_at < ?", (search.until,)))
    if search.only is not None:
        conditions.append(("id IN (SELECT value FROM json_each(?))", (json.dumps([*search.only]),)))
    if search.words:
        # Cheap conditions come first: they exclude most requests.
        conditions.append(_may_have(search.words.casefold()))
        # Most remaining requests contain the words as typed, which SQL finds without calling Python.
        quick = "json_extract(request, '$.prompt') LIKE ? OR " if _TYPED.fullmatch(search.words) else ""
        typed = (f"%{search.words}%",) if quick else ()
        conditions.append((f"{quick}instr({_TEXT}, casefold(?)) > 0", (*typed, search.words)))
    if search.model:
        conditions.append(_may_have(search.model))
        conditions.append(("instr(lower(json_extract(request, '$.model')), ?) > 0", (search.model,)))
    where = " AND ".join(f"({condition})" for condition, _ in conditions) or "TRUE"
    return where, [value for _, values in conditions for value in values]


def _may_have(folded: str) -> Query:
    """Return a condition that every request with these words meets, answered without reading its JSON."""
    plain = max(_PLAIN.findall(folded), key=len, default="")[:_MAX_PART]
    if plain:
        escapes = [json.dumps(letter)[1:-1] for letter, letters in _FOLDED.items() if {*letters} & {*plain}]
        others = f" OR (instr(request, '\\u') > 0 AND ({_any_of(escapes)}))" if escapes else ""
        return f"request LIKE ?{others}", (f"%{plain}%", *escapes)
    same = max(_SPACES.split("".join(letter if _is_written_as_is(letter) else " " for letter in folded)), key=len)
    if same:
        return "instr(request, ?) > 0", (json.dumps(same[:_MAX_PART])[1:-1],)
    return ("instr(request, '\\u') > 0" if folded.strip() else "TRUE"), ()


def _any_of(parts: Sequence[str]) -> str:
    return " OR ".join(["instr(request, ?) > 0"] * len(parts))


def _is_written_as_is(letter: str) -> bool:
    """Return whether a letter is unchanged in a request, because no other letter folds into it."""
    return letter.upper() == letter.lower() == letter and unicodedata.category(letter) not in _MODIFIERS
