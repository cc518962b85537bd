"""The commands of %blockrun, as one table: running, help, completion and the reference read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.gateways import PRACTICE_NAME, PRESETS
from blockrun_magic.notebook.commands import catalog, history, info, jobs, serve, spend, status, store, use
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command, parse_arguments
from blockrun_magic.notebook.commands.classroom.join import JOIN
from blockrun_magic.notebook.commands.lesson import LESSON
from blockrun_magic.notebook.commands.wallet.commands import WALLET, check_secret
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, CardGroup, Message, Table
from blockrun_magic.notebook.display.output import show
from blockrun_magic.text import did_you_mean, quoted

if TYPE_CHECKING:
    from blockrun_magic.notebook.panel.panel import Panel

__all__ = ["COMMANDS", "OVERVIEW", "Command", "run_command"]

OVERVIEW = Command("", "Show the gateway, the wallet, spend and limits.", status.overview)


def run_command(context: Context, line: str) -> None:
    """Run the command on `line` and show its card; raises UsageError for unknown words."""
    name, rest = _first_word(line)
    if not name:
        status.show_overview(context)
        return
    if name in _HELP_WORDS:
        name = "help"
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"Unknown command: {quoted(f'%blockrun {name}')}.", _advice(name))
    if command.secret:
        check_secret(rest)
    path, command, rest = _descend(command, rest)
    if any(word in _HELP_WORDS for word in rest.split()):
        show(_help_for(path, command))
        return
    show(command.run(context, parse_arguments(path, command, rest)))


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.strip().split(maxsplit=1) or [""]
    return word, rest[0] if rest else ""


def _descend(command: Command, text: str) -> tuple[str, Command, str]:
    """Return the path of the subcommand at the beginning of `text`, the subcommand, and the remaining text."""
    name, rest = _first_word(text)
    if not command.subcommands or not name or name.startswith("-"):
        return command.name, command, text
    below = command.subcommand(name)
    if below is not None:
        return f"{command.name} {name}", below, rest
    names = [each.name for each in command.subcommands if not each.hidden]
    raise UsageError(
        f"Unknown {command.name} command: {quoted(name)}.", f"{did_you_mean(name, names)}Use one of {', '.join(names)}."
    )


def _open_panel(context: Context, _arguments: Arguments) -> Panel:
    from blockrun_magic.notebook.panel.open import open_panel

    return open_panel(context)


def _help(_context: Context, arguments: Arguments) -> Card:
    """Return the list of commands, or the arguments of one."""
    words = (arguments["COMMAND"] or "").split()
    if not words:
        commands = (OVERVIEW, *COMMANDS.values())
        rows = [(f"%blockrun {command.usage}".rstrip(), command.help) for command in commands]
        return Table(("command", "what it does"), rows, note="`%blockrun help COMMAND` explains one.", left=2)
    command = COMMANDS.get(words[0])
    if command is None:
        raise UsageError(f"Unknown command: {quoted(words[0])}.", _advice(words[0]))
    if command.secret:
        check_secret(" ".join(words[1:]))
    path, command, rest = _descend(command, " ".join(words[1:]))
    if rest:
        raise UsageError(
            f"Unknown command: {quoted(f'%blockrun {path} {rest}')}.", "`%blockrun help` lists all commands."
        )
    return _help_for(path, command)


def _advice(name: str) -> str:
    """Return a hint for an unknown command."""
    if name in (PRACTICE_NAME, *PRESETS):
        return f"Write `%blockrun use {name}` to choose that gateway."
    return f"{did_you_mean(name, COMMANDS)}`%blockrun help` lists all commands."


def _help_for(path: str, command: Command) -> Card:
    cards: list[Card] = [Message(f"%blockrun {path}{command.usage.removeprefix(command.name)}\n{command.help}")]
    rows = [(each.usage.strip("[]") if each.is_option else each.usage, each.help) for each in command.arguments]
    rows += [(f"{command.name} {each.usage}", each.help) for each in command.subcommands if not each.hidden]
    if rows:
        cards.append(Table(("", ""), rows, left=2))
    return CardGroup(*cards)


_HELP_WORDS = ("--help", "-h")

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        use.USE,
        JOIN,
        catalog.MODELS,
        catalog.PRICE,
        spend.SPEND,
        spend.BUDGET,
        WALLET,
        jobs.JOBS,
        jobs.RESUME,
        jobs.RESOLVE,
        history.HISTORY,
        history.STAR,
        history.REUSE,
        LESSON,
        Command("panel", "Open the panel: prompt, price, images and masks with the mouse.", _open_panel),
        catalog.STYLES,
        info.INFO,
        store.STORE,
        serve.SERVE,
        Command(
            "help",
            "List all commands, or explain one.",
            _help,
            (Argument("COMMAND", help="The command to explain.", many=True),),
        ),
    )
}
