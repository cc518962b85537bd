"""The commands of %blockrun: one parser and one table; every unknown argument is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import BlockrunError, UsageError
from blockrun_magic.notebook.commands.arguments import Argument, Command, parse_arguments, walk
from blockrun_magic.notebook.commands.registry import COMMANDS, run_command

ALL = list(walk(tuple(COMMANDS.values())))


def values(line: str) -> dict[str, Any]:
    """Return the parsed values of a %blockrun line."""
    name, *rest = line.split(" ", 1)
    command = COMMANDS[name]
    text = rest[0] if rest else ""
    below = command.subcommand(text.split()[0]) if text.split() else None
    if below is not None:
        return dict(parse_arguments(f"{name} {below.name}", below, text.split(" ", 1)[1] if " " in text else ""))
    return dict(parse_arguments(name, command, text))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("history --page 2", {"--page": 2}),
        ("history --page=2", {"--page": 2}),
        ("history --page=2 red fox", {"--page": 2, "WORDS": "red fox"}),
        ("history red fox --page 2", {"--page": 2, "WORDS": "red fox"}),
        ("history --page 2 -- --force --", {"--page": 2, "WORDS": "--force --"}),
        ("history it's -5 degrees", {"WORDS": "it's -5 degrees"}),
        ("models --refresh", {"--refresh": True}),
        ("models nano banana", {"WORDS": "nano banana"}),
        ("spend all --csv=x.csv", {"PERIOD": "all", "--csv": "x.csv"}),
        ("spend --csv 'my file.csv' Today", {"PERIOD": "today", "--csv": "my file.csv"}),
        ('spend --csv="my file.csv"', {"--csv": "my file.csv"}),
        ("budget --day=5 --image 0.10", {"--day": 5_000_000, "--image": 100_000}),
        ("resolve 3fa9 --charged", {"ID": "3fa9", "--charged": ""}),
        ("resolve 3fa9 --charged 0.05", {"ID": "3fa9", "--charged": 50_000}),
        ("resolve --charged=0.05 3fa9", {"ID": "3fa9", "--charged": 50_000}),
        ('resolve --charged "0.05" 3fa9', {"ID": "3fa9", "--charged": 50_000}),
        ("resolve --charged 3fa9x", {"ID": "3fa9x", "--charged": ""}),
        ("resolve 3fa9 --not-charged", {"ID": "3fa9", "--not-charged": True}),
        ("lesson export a.zip --notebook=b.ipynb", {"FILE.zip": "a.zip", "--notebook": "b.ipynb"}),
        ("lesson export --strict 'my lesson.zip'", {"FILE.zip": "my lesson.zip", "--strict": True}),
        ("store prune --older-than=90d --yes", {"--older-than": 90 * 86_400.0, "--yes": True}),
        ("store prune --larger-than 2gb", {"--larger-than": 2_000_000_000}),
        ("wallet create main --encrypt", {"NAME": "main", "--encrypt": True}),
        ("wallet import C:\\keys\\key.txt --as=two", {"KEY": "C:\\keys\\key.txt", "--as": "two"}),
        ("wallet qr $5", {"AMOUNT": 5_000_000}),
        ("price flux -n 4", {"MODEL|NOTEBOOK": "flux", "-n": 4}),
    ],
)
def test_options_are_read_in_both_spellings(line: str, expected: dict[str, Any]) -> None:
    """--page 2 and --page=2 mean the same, anywhere on the line; values may be quoted."""
    assert expected == values(line)


@pytest.mark.parametrize(
    "line",
    [
        "history --pgae 2",
        "history --page",
        "history --page x",
        "history --page 0",
        "history --page 99999999999999999999",
        "history --page 1 --page 2",
        "history \u2014page 2",
        "history \u201cfox\u201d",
        "models --refresh=1",
        "spend tomorrow",
        "spend all all",
        "spend --csv 'x",
        "budget --week 5",
        "budget 5",
        "budget --day cheap",
        "use practice base",
        "use practice --remember=1",
        "info",
        "info img img",
        "reuse",
        "store --yes",
        "store prune --older-than 90",
        "lesson close now",
        "wallet create a b",
        "wallet qr five",
        "resolve",
        "price flux grok",
    ],
)
def test_a_wrong_line_is_refused(line: str) -> None:
    """Unknown, missing and extra arguments are errors with a hint."""
    with pytest.raises(UsageError) as caught:
        values(line)

    assert caught.value.hint


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_refuses_what_it_does_not_know(path: str, command: Command) -> None:
    """Every command refuses an unknown option, and an extra argument if its arguments are limited."""
    with pytest.raises(UsageError):
        parse_arguments(path, command, "--nonsense")
    places = [each for each in command.arguments if not each.is_option]
    if not any(each.many for each in places):
        with pytest.raises(UsageError):
            parse_arguments(path, command, " ".join(["nonsense"] * (len(places) + 1)))


@pytest.mark.parametrize(
    "line",
    [
        "hisotry",
        "wallet crate",
        "lesson exprot",
        "store purne",
        "help me",
        "help use me",
        "help store prune me",
        "--page",
        "jobs x",
    ],
)
def test_an_unknown_command_is_refused(line: str) -> None:
    """An unknown command is refused before anything is opened."""
    with pytest.raises(UsageError):
        run_command(None, line)  # type: ignore[arg-type]


def test_a_secret_is_never_quoted() -> None:
    """Arguments of `wallet` may be secrets: no error quotes them, not even in part."""
    secret = "correct horse"
    for line in (f"wallet create {secret} {secret}", f"wallet use x --{secret}", f"wallet qr {secret}"):
        with pytest.raises(UsageError) as caught:
            values(line)
        assert "correct" not in str(caught.value).replace("usage", "")
        assert "horse" not in str(caught.value)


def test_a_key_on_the_line_is_refused() -> None:
    """A private key on the line is refused, and the error does not show it."""
    key = "0x" + "ab" * 32
    for line in (f"wallet import {key}", f"help wallet {key}", f"help wallet import {key}", key, f"help {key}"):
        with pytest.raises(UsageError) as caught:
            run_command(None, line)  # type: ignore[arg-type]
        assert key not in str(caught.value)


@pytest.mark.parametrize(("path", "command"), ALL)
def test_the_table_is_whole(path: str, command: Command) -> None:
    """Every command and argument has a help sentence, every option value has a name, and options are unique."""
    assert command.help.endswith(".")
    assert all(each.help.endswith(".") for each in command.arguments)
    assert all((each.kind == "switch") == (each.metavar is None) for each in command.arguments if each.is_option)
    names = [each.name for each in command.arguments]
    assert len(set(names)) == len(names)
    assert path.endswith(command.name)


@given(st.sampled_from(ALL), st.text(max_size=60))
def test_any_line_is_read_or_refused(entry: tuple[str, Command], text: str) -> None:
    """Any line is either parsed or refused with a BlockrunError."""
    with suppress(BlockrunError):
        parse_arguments(*entry, text)


def test_an_optional_value_may_be_left_out() -> None:
    """The usage puts an optional value in brackets."""
    assert "[--charged [USD]]" == Argument("--charged", "usd", "", "USD", optional=True).usage


_EXAMPLES = {"usd": "0.50", "threshold": "never", "count": "2", "age": "90d", "bytes": "2GB", "day": "today"}
OPTIONS = [(path, command, option) for path, command in ALL for option in command.arguments if option.is_option]


@pytest.mark.parametrize(
    ("path", "command", "option"), OPTIONS, ids=[f"{path} {option.name}" for path, _, option in OPTIONS]
)
def test_every_option_has_both_spellings(path: str, command: Command, option: Argument) -> None:
    """Every option accepts a space or =, quotes or none, before or after the arguments; a switch takes no value."""
    words = " ".join(each.choices[0] if each.choices else "abcd" for each in command.arguments if each.required)
    if option.metavar is None:
        spellings, wrong = [option.name], [f"{option.name}=1", f"{option.name} {option.name}"]
    else:
        value = option.choices[0] if option.choices else _EXAMPLES.get(option.kind, "abc")
        spellings = [
            f"{option.name}{between}{value}{end}" for between, end in ((" ", ""), ("=", ""), (' "', '"'), ('="', '"'))
        ]
        wrong = [f"{option.name}=", *([] if option.optional else [option.name]), f"{spellings[0]} {spellings[1]}"]
    read = [
        parse_arguments(path, command, line)
        for spelling in spellings
        for line in (f"{spelling} {words}", f"{words} {spelling}")
    ]

    assert all(read[0] == other and other[option.name] is not None for other in read)
    for line in wrong:
        with pytest.raises(UsageError):
            parse_arguments(path, command, f"{words} {line}")
