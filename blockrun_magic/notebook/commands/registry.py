"""The words of `%blockrun`, as one table: running them, their help and completion read it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError
from blockrun_magic.gateway.gateways import PRESETS
from blockrun_magic.notebook.commands import catalog, history, info, jobs, spend, status, store, styles, use
from blockrun_magic.notebook.commands import lesson as lessons
from blockrun_magic.notebook.commands import panel as panels
from blockrun_magic.notebook.commands.wallet import commands as wallets
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Table
from blockrun_magic.notebook.display.output import show
from blockrun_magic.text import did_you_mean, quoted

if TYPE_CHECKING:
    from blockrun_magic.notebook.panel.panel import Panel

__all__ = ["COMMANDS", "Command", "run_command"]


@dataclass(frozen=True, slots=True)
class Command:
    """One word of `%blockrun`: how it is used, what it does, and the function that does it."""

    usage: str
    help: str
    run: Callable[[Context, Sequence[str]], Card | Panel]

    @property
    def name(self) -> str:
        """The word itself."""
        return self.usage.partition(" ")[0]


def run_command(context: Context, line: str) -> None:
    """Run what `line` says and show its card; raises FlagError for words that are none of ours."""
    word, _, rest = line.strip().partition(" ")
    if not word:
        show(status.overview(context, ()))
        return
    command = COMMANDS.get(word)
    if command is None:
        raise FlagError(
            f"%blockrun knows no word {quoted(word)}.",
            f"{did_you_mean(word, COMMANDS)}`%blockrun help` lists them all.",
        )
    show(command.run(context, _split(rest)))


def _split(text: str) -> Sequence[str]:
    try:
        # Not posix: a backslash in a Windows path means itself.
        words = shlex.split(text, posix=False)
    except ValueError:
        raise FlagError("The quotes on this line do not pair up.", "Close the quote, or leave it out.") from None
    return [word[1:-1] if word[:1] == word[-1:] and word[0] in "\"'" else word for word in words]


def _help(_context: Context, _words: Sequence[str]) -> Card:
    rows = [(f"%blockrun {command.usage}", command.help) for command in COMMANDS.values()]
    rows.insert(0, ("%blockrun", "Gateway, wallet, spend and caps at a glance."))
    return Table(("line", "what it does"), rows, left=2)


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            f"use {'|'.join(('practice', *PRESETS))}|auto|URL [--remember]",
            "Where requests go.",
            use.use,
        ),
        Command("models [WORD] [--refresh]", "The image models: prices, sizes, what each can do.", catalog.models),
        Command(
            "price [--model M] [--size S] [-n K]|NOTEBOOK",
            "What a request, or a whole notebook, costs; asking is free.",
            catalog.price,
        ),
        Command(
            "spend [session|today|all] [--csv FILE] [--reconcile]", "What was spent, by model and time.", spend.spend
        ),
        Command("budget [--image $] [--session $] [--day $]", "Show or change the caps.", spend.budget),
        Command(wallets.USAGE, "The wallet that pays: make one, fund it, several of them.", wallets.wallet),
        Command("jobs", "Payments without a picture yet, after asking what became of them.", jobs.jobs),
        Command("resume [ID]", "Collect what is open; nothing is paid twice.", jobs.resume),
        Command(
            "resolve ID --charged|--not-charged",
            "Book a payment through somebody else that nobody can tell of.",
            jobs.resolve,
        ),
        Command("history [WORD] [--page K]", "What was made, with thumbnails, dates and prices.", history.history),
        Command("reuse IMAGE|ID", "The cell that made a picture, as the next cell.", history.reuse),
        Command(lessons.USAGE, "A notebook with its pictures, to hand out: they answer its cells.", lessons.lesson),
        Command("panel", "The same with the mouse: prompt, price, pictures, masks.", panels.panel),
        Command("styles [WORD]", "The styles for --style, and where to add your own.", styles.styles),
        Command("info IMAGE", "The receipt in a picture: a variable, a result or a path.", info.info),
        Command("store [prune --older-than 90d|--larger-than 2GB] [--yes]", "The pictures that are kept.", store.store),
        Command("help", "This list.", _help),
    )
}
