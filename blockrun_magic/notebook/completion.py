"""Completion (TAB) in our cells and lines, from the same tables that parse them.

A matcher must never fail and never touch the network: on any error it offers nothing, and IPython's own completions
remain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from blockrun_magic.notebook.cells.candidates import Candidate, candidates, of_type
from blockrun_magic.notebook.display.output import is_terminal

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.notebook.commands.arguments import Argument, Command

__all__ = ["Completion"]

_MAGIC = re.compile(r"\s*(?:[\w.]+(?:\s*,\s*[\w.]+)*\s*=\s*)?(%{1,2})(imagegen|img2img|blockrun)(?=\s|$)")
_WORDS = re.compile(r"\S+")
_COMMON = ("--model", "--size", "-n", "--image", "--mask", "--as", "--save", "--style", "--fresh", "--dry-run")

Answers = tuple[str, list[Candidate] | None]


class Completion:
    """The matcher of one shell, added when the extension is loaded and removed afterwards."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

        @context_matcher(identifier="blockrun_magic")  # type: ignore[untyped-decorator]
        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            try:
                return self._matches(context)
            except Exception:  # noqa: BLE001  one failing matcher would hide everybody's completions
                return SimpleMatcherResult(completions=[])

        self._matcher = matcher
        self._matchers: list[Any] = shell.Completer.custom_matchers
        self._matchers.append(matcher)

    def close(self) -> None:
        """Remove the matcher."""
        if self._matcher in self._matchers:
            self._matchers.remove(self._matcher)

    def _matches(self, context: CompletionContext) -> SimpleMatcherResult:
        line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        magic = _MAGIC.match(line)
        if magic is None or (context.cursor_line > 0 and _in_body(context)):
            return SimpleMatcherResult(completions=[])
        typed = line[magic.end() :]
        if not typed:
            return SimpleMatcherResult(completions=[])
        start = 0 if typed[-1].isspace() else [word.start() for word in _WORDS.finditer(typed)][-1]
        before, word = (typed, "") if typed[-1].isspace() else (typed[:start], typed[start:])
        if magic[2] == "blockrun":
            fragment, answers = _command_answers(before.split(), word, self._shell.user_ns)
        else:
            fragment, answers = _flag_answers(magic[2], before.split(), word, self._shell.user_ns)
        if answers is None:
            return SimpleMatcherResult(completions=[])
        folded = fragment.casefold()
        completions = [self._shown(answer) for answer in answers if answer.text.casefold().startswith(folded)]
        result = SimpleMatcherResult(completions=completions, suppress=True, ordered=True)
        result["matched_fragment"] = fragment
        return result

    def _shown(self, answer: Candidate) -> SimpleCompletion:
        # A terminal shows the type as a note beside each entry: there is room for a price.
        note = f"{answer.type} {answer.hint}".rstrip() if is_terminal(self._shell) else answer.type
        return SimpleCompletion(answer.text, type=note)


def _in_body(context: CompletionContext) -> bool:
    """Return whether the line is below a cell magic: every line there is prompt."""
    return context.full_text.lstrip().startswith("%%")


def _flag_answers(magic: str, before: list[str], word: str, namespace: Mapping[str, object]) -> Answers:
    """Return the fragment to replace and its completions, or None to leave it to IPython."""
    from blockrun_magic.notebook.cells.flags import FLAGS, find_flag

    if "--" in before:
        return word, None
    name, equals, value = word.partition("=")
    if equals and (flag := find_flag(name)) is not None:
        return candidates(flag.kind, value, namespace, _chosen_models(before))
    previous = find_flag(before[-1]) if before else None
    if previous is not None and previous.metavar is not None:
        return candidates(previous.kind, word, namespace, _chosen_models(before[:-1]))
    if word and not word.startswith("-"):
        return word, None
    given = {flag.name for text in before if (flag := find_flag(text.partition("=")[0])) and not flag.repeats}
    names = [flag.name for flag in FLAGS if magic in flag.magics and flag.name not in given]
    common = [name for name in _COMMON if name in names]
    return word, of_type("flag", dict.fromkeys([*common, *names]))


def _chosen_models(before: Sequence[str]) -> list[str]:
    """Return the names after --model in the text before the cursor."""
    names = ""
    for index, text in enumerate(before):
        name, equals, value = text.partition("=")
        if name in ("--model", "-m"):
            names = value if equals else before[index + 1] if index + 1 < len(before) else ""
    return names.split(",")


def _command_answers(before: list[str], word: str, namespace: Mapping[str, object]) -> Answers:
    from blockrun_magic.notebook.commands.registry import COMMANDS

    if before in ([], ["help"]):
        return word, of_type("command", COMMANDS)
    command, rest = COMMANDS.get(before[0]), before[1:]
    if command is not None and command.name == "help":
        explained = COMMANDS.get(rest[0]) if len(rest) == 1 else None
        return word, [] if explained is None else of_type("command", _subcommands(explained))
    if command is not None and rest and (below := command.subcommand(rest[0])) is not None:
        command, rest = below, rest[1:]
    if command is None:
        return word, []
    name, equals, value = word.partition("=")
    if equals and (option := command.argument(name)) is not None:
        return _argument_values(option, value, namespace, rest)
    previous = command.argument(rest[-1]) if rest else None
    if previous is not None and previous.metavar is not None and not (previous.optional and word.startswith("-")):
        return _argument_values(previous, word, namespace, rest[:-1])
    return _argument_answers(command, rest, word, namespace)


def _argument_answers(command: Command, before: Sequence[str], word: str, namespace: Mapping[str, object]) -> Answers:
    """Return the subcommands, words and options that can come next."""
    given = {text.partition("=")[0] for text in before}
    options = of_type("flag", (each.name for each in command.arguments if each.is_option and each.name not in given))
    if word.startswith("-"):
        return word, options
    answers = of_type("command", [] if before else _subcommands(command))
    positional = next((each for each in command.arguments if not each.is_option), None)
    fragment = word
    if positional is not None:
        fragment, values = _argument_values(positional, word, namespace, before)
        answers += [value for value in values or [] if value.text not in before]
    return fragment, [*answers, *options]


def _subcommands(command: Command) -> list[str]:
    return [each.name for each in command.subcommands if not each.hidden]


def _argument_values(argument: Argument, value: str, namespace: Mapping[str, object], before: Sequence[str]) -> Answers:
    if argument.choices:
        return value, of_type("choice", argument.choices)
    return candidates(argument.kind, value, namespace, _chosen_models(before))
