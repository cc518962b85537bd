"""What is kept: the pictures on disk, and the receipt inside one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.payments.money import format_usd

__all__ = ["store"]

_AGE = re.compile(r"(\d{1,5})d", re.ASCII)
_SIZE = re.compile(r"(\d{1,6})(MB|GB)", re.ASCII | re.IGNORECASE)


def store(context: Context, words: Sequence[str]) -> Card:
    """Return how much is kept; `prune` says what would go, and with `--yes` removes it."""
    studio, _ = context.session.studio_and_gateway()
    if not words:
        kept = studio.store.files()
        size = sum(file.size for file in kept)
        return Message(f"{len(kept)} files, {_megabytes(size)}, in {studio.store.root}.")
    if words[0] != "prune":
        raise FlagError(f"`store` knows no word {words[0][:40]!r}.", "Use `%blockrun store`, or `store prune`.")
    age, limit, sure = _limits(words[1:])
    plan = studio.prunable(older_than=age, larger_than=limit)
    total = sum(file.size for file in plan.files)
    lines = [
        f"{len(plan.files)} files, {_megabytes(total)}, bought for {format_usd(plan.paid)} of real money.",
        "Their receipts stay in the ledger; running their cells again will not buy them a second time by itself.",
    ]
    if plan.without_receipt:
        lines.append(
            f"{plan.without_receipt} more files are not touched: the ledger does not know them, and the"
            " receipt inside each may be the only one."
        )
    if not sure:
        return Message("\n".join([f"Would remove {lines[0]}", *lines[1:], "Add --yes to remove them."]))
    studio.prune(plan)
    return Message("\n".join([f"Removed {lines[0]}", *lines[1:]]))


def _limits(words: Sequence[str]) -> tuple[float | None, int | None, bool]:
    """Return the age in seconds, the size in bytes, and whether it is meant."""
    age, size, sure = None, None, False
    pairs = iter(" ".join(words).replace("=", " ").split())
    for word in pairs:
        if word == "--yes":
            sure = True
        elif word == "--older-than" and (match := _AGE.fullmatch(next(pairs, ""))):
            age = int(match[1]) * 86_400.0
        elif word == "--larger-than" and (match := _SIZE.fullmatch(next(pairs, ""))):
            size = int(match[1]) * (1_000_000 if match[2].upper() == "MB" else 1_000_000_000)
        else:
            age = size = None
            break
    if age is None and size is None:
        raise FlagError(
            "`store prune` needs to know what may go.",
            "For example: %blockrun store prune --older-than 90d, or --larger-than 2GB (the oldest go first).",
        )
    return age, size, sure


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
