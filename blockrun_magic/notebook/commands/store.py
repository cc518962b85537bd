"""Stored images on disk, and the receipt inside an image file."""

from __future__ import annotations

from blockrun_magic.errors import UsageError
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.payments.money import format_usd

__all__ = ["STORE", "prune", "store"]


def store(context: Context, _arguments: Arguments) -> Card:
    """Return the size of the store."""
    studio, _ = context.session.studio_and_gateway()
    files = studio.files.all()
    size = sum(file.size for file in files)
    return Message(f"{len(files)} files, {_megabytes(size)}, in {studio.files.folder}.")


def prune(context: Context, arguments: Arguments) -> Card:
    """Show which files would be removed; with `--yes`, remove them."""
    age, limit = arguments["--older-than"], arguments["--larger-than"]
    if age is None and limit is None:
        raise UsageError(
            "`store prune` needs a limit.",
            "For example: `%blockrun store prune --older-than 90d`, or --larger-than 2GB; the oldest go first.",
        )
    studio, _ = context.session.studio_and_gateway()
    plan = studio.files.prunable(older_than=age, larger_than=limit)
    total = sum(file.size for file in plan.files)
    lines = [
        f"{len(plan.files)} files, {_megabytes(total)}, bought for {format_usd(plan.paid)} of real money.",
        "Their receipts stay in the ledger. Running their cells again does not buy them again automatically.",
    ]
    if plan.without_receipt:
        lines.append(
            f"{plan.without_receipt} more files stay: the ledger does not know them, and the receipt inside each"
            " may be the only one."
        )
    if not arguments["--yes"]:
        return Message("\n".join([f"Would remove {lines[0]}", *lines[1:], "Add --yes to remove them."]))
    studio.files.prune(plan)
    return Message("\n".join([f"Removed {lines[0]}", *lines[1:]]))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


STORE = Command(
    "store",
    "Show the size of the stored images, or remove old ones.",
    store,
    subcommands=(
        Command(
            "prune",
            "Remove stored images; without --yes, show which.",
            prune,
            (
                Argument("--older-than", "age", "Remove images older than this.", "90d"),
                Argument("--larger-than", "bytes", "Remove the oldest images until the store is this small.", "2GB"),
                Argument("--yes", "switch", "Remove the files instead of listing them."),
            ),
        ),
    ),
)
