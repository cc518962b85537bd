"""Arguments of the %blockrun commands, as tables: parsing, usage, help, completion and the reference read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

from blockrun_magic.errors import UsageError
from blockrun_magic.notebook.cells.grammar import WORD, long_dash, looks_like_flag, read_value
from blockrun_magic.notebook.context import Context
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["Argument", "Arguments", "Command", "parse_arguments", "walk"]

Kind = Literal[
    "switch",
    "text",
    "usd",
    "threshold",
    "count",
    "age",
    "bytes",
    "day",
    "path",
    "id",
    "image",
    "model",
    "size",
    "gateway",
    "quality",
]


class Arguments(dict[str, Any]):
    """The values of a command by argument; None for an argument that was not given."""

    def __missing__(self, name: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command: an option such as "--page", or a word such as "ID".

    `metavar` shows how the value of an option is written; None is a switch. The value of an `optional` one may be left
    out, and is then "". A `required` word must be given; `many` takes all remaining words, joined by spaces.
    """

    name: str
    kind: Kind = "text"
    help: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    many: bool = False
    optional: bool = False

    @property
    def is_option(self) -> bool:
        """Whether the argument is an option, such as "--page"."""
        return self.name.startswith("-")

    @property
    def usage(self) -> str:
        """How the argument is written: "[--page K]", "ID", "[session|today|all]"."""
        text = "|".join(self.choices) if self.choices and not self.is_option else self.name
        if self.metavar:
            text += f" [{self.metavar}]" if self.optional else f" {self.metavar}"
        if self.many:
            text += "..."
        return text if self.required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of %blockrun: its name, a sentence of help, the function that runs it, and its arguments.

    `hidden` commands are not listed. The arguments of a `secret` one may hold a key, so no error quotes them.
    """

    name: str
    help: str
    run: Callable[[Context, Arguments], Any]
    arguments: tuple[Argument, ...] = ()
    subcommands: tuple[Command, ...] = field(default=())
    hidden: bool = False
    secret: bool = False

    @property
    def usage(self) -> str:
        """The command as it is written, with all its arguments."""
        names = "|".join(command.name for command in self.subcommands if not command.hidden)
        return " ".join([self.name, *([f"[{names}]"] if names else []), *(each.usage for each in self.arguments)])

    def subcommand(self, name: str) -> Command | None:
        """Return the command of that name below this one, or None."""
        return next((command for command in self.subcommands if command.name == name), None)

    def argument(self, name: str) -> Argument | None:
        """Return the option of that name, or None."""
        return next((each for each in self.arguments if each.is_option and each.name == name), None)


def parse_arguments(path: str, command: Command, text: str) -> Arguments:
    """Return the values of `text` for `command`, whose full name is `path`; raises UsageError.

    Options are written --page 2 or --page=2 and go anywhere; after -- there are none. An unknown or superfluous word
    is an error.
    """
    values, words = Arguments(), []
    position, literal = 0, False
    while word := WORD.search(text, position):
        position = word.end()
        if word[0] == "--" and not literal:
            literal = True
            continue
        name, equals, _ = word[0].partition("=")
        if literal or not looks_like_flag(word[0]):
            if not literal:
                _check_dash(command, word[0])
            value, position = read_value(path, text, word.start(), joined=True)
            words.append(value)
            continue
        option = command.argument(name)
        if option is None:
            raise _unknown_option(path, command, name)
        if option.name in values:
            raise UsageError(f"{option.name} is given twice.", f"Write: `%blockrun {_full_usage(path, command)}`.")
        start = word.start() + len(name) + 1 if equals else position
        usage = _full_usage(path, command)
        values[option.name], position = _option_value(usage, option, text, start, joined=bool(equals))
    _place(path, command, words, values)
    return values


def _option_value(usage: str, option: Argument, text: str, start: int, *, joined: bool) -> tuple[Any, int]:
    if option.metavar is None:
        if joined:
            raise UsageError(f"{option.name} takes no value.", f"Write {option.name} without a value.")
        return True, start
    if option.optional and not joined and not _follows(option, text, start):
        return "", start
    value, end = read_value(option.name, text, start, joined=joined)
    if not value.strip():
        raise UsageError(f"{option.name} needs a value.", f"Write: `%blockrun {usage}`.")
    return _converted(option, value), end


def _follows(option: Argument, text: str, start: int) -> bool:
    """Return whether the optional value of `option` comes next."""
    try:
        value, _ = read_value(option.name, text, start, joined=False)
        _converted(option, value)
    except UsageError:
        return False
    return bool(value)


def _place(path: str, command: Command, words: Sequence[str], values: Arguments) -> None:
    """Assign the words of a line to the arguments that take words, in order."""
    rest = list(words)
    for argument in command.arguments:
        if argument.is_option:
            continue
        if argument.many and rest:
            values[argument.name], rest = " ".join(rest), []
        elif rest:
            values[argument.name] = _converted(argument, rest.pop(0), secret=command.secret)
        elif argument.required:
            raise UsageError(
                f"%blockrun {path} needs {_description(argument)}.", f"Write: `%blockrun {_full_usage(path, command)}`."
            )
    if rest:
        surplus = "" if command.secret else f": {quoted(rest[0])}"
        raise UsageError(
            f"%blockrun {path} has too many arguments{surplus}.", f"Write: `%blockrun {_full_usage(path, command)}`."
        )


def _description(argument: Argument) -> str:
    return argument.help[:1].lower() + argument.help[1:].rstrip(".") if argument.help else argument.name


def _full_usage(path: str, command: Command) -> str:
    return f"{path}{command.usage.removeprefix(command.name)}"


def _check_dash(command: Command, word: str) -> None:
    spelling = long_dash(word)
    if spelling is not None and command.argument(spelling):
        raise UsageError(
            f"{quoted(word)} begins with a typographic dash or an invisible character.", f"Type hyphens: {spelling}."
        )


def _unknown_option(path: str, command: Command, name: str) -> UsageError:
    names = [each.name for each in command.arguments if each.is_option]
    problem = "no such option" if command.secret else f"no option {quoted(name)}"
    guess = "" if command.secret else did_you_mean(name, names)
    return UsageError(
        f"%blockrun {path} has {problem}.",
        f"{guess}Write: `%blockrun {_full_usage(path, command)}`.",
    )


def _converted(argument: Argument, text: str, *, secret: bool = False) -> Any:
    """Return `text` converted to the type of `argument`; raises UsageError."""
    shown = "This value" if secret else quoted(text)
    if argument.choices:
        if text.lower() in argument.choices:
            return text.lower()
        raise UsageError(
            f"{shown} is not {'a value' if argument.is_option else 'one of the choices'} for {argument.name}.",
            f"{'' if secret else did_you_mean(text, argument.choices)}Use {', '.join(argument.choices)}.",
        )
    convert = _CONVERTERS.get(argument.kind)
    if convert is None:
        return text
    form, function = convert
    try:
        return function(text)
    except (ValueError, OverflowError):
        raise UsageError(f"{shown} is not {form[0]} for {argument.name}.", f"For example: {form[1]}.") from None


_MAX_AMOUNT = 24
_COUNT = re.compile(r"0*([1-9]\d{0,5})", re.ASCII)
_AGE = re.compile(r"(\d{1,5})\s?d(?:ays?)?", re.ASCII | re.IGNORECASE)
_BYTES = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s?([MG])B", re.ASCII | re.IGNORECASE)


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError
    return match


def _count(text: str) -> int:
    return int(_match(_COUNT, text)[1])


def _age(text: str) -> float:
    return int(_match(_AGE, text)[1]) * 86_400.0


def _bytes(text: str) -> int:
    match = _match(_BYTES, text)
    return round(float(match[1]) * (1_000_000 if match[2].upper() == "M" else 1_000_000_000))


def _day(text: str) -> date:
    today = date.today()  # noqa: DTZ011  days are the user's own
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    return named.get(text.lower()) or date.fromisoformat(text)


def _usd(text: str) -> int:
    return parse_usd(text if len(text) <= _MAX_AMOUNT else "")


_CONVERTERS: dict[str, tuple[tuple[str, str], Callable[[str], Any]]] = {
    "usd": (("an amount in dollars", "0.50"), _usd),
    "threshold": (("an amount in dollars", "0.50 or never"), lambda text: 0 if text.lower() == "never" else _usd(text)),
    "count": (("a whole number from 1", "2"), _count),
    "age": (("a number of days", "90d"), _age),
    "bytes": (("an amount of storage", "2GB"), _bytes),
    "day": (("a day", "today, yesterday or 2026-11-26"), _day),
}


def walk(commands: Sequence[Command], before: str = "") -> Iterator[tuple[str, Command]]:
    """Yield every listed command with its full name, subcommands after their command."""
    for command in commands:
        if command.hidden:
            continue
        path = f"{before}{command.name}"
        yield path, command
        yield from walk(command.subcommands, f"{path} ")
