"""TAB in our cells and lines, from the same tables that parse them.

A matcher must never fail and never touch the network: whatever goes wrong, it has no answer, and
IPython's own completions stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Completion"]

_MAGIC = re.compile(r"\s*(?:[\w.]+(?:\s*,\s*[\w.]+)*\s*=\s*)?(%{1,2})(imagegen|img2img|blockrun)(?=\s|$)")
_WORDS = re.compile(r"\S+")
_MAX_FILES = 200


class Completion:
    """The matcher of one shell, added when the extension is loaded and taken back afterwards."""

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
        """Take the matcher back."""
        if self._matcher in self._matchers:
            self._matchers.remove(self._matcher)

    def _matches(self, context: CompletionContext) -> SimpleMatcherResult:
        line = context.full_text.split("\n")[context.cursor_line][: context.cursor_position]
        magic = _MAGIC.match(line)
        if magic is None or (context.cursor_line > 0 and _in_body(context)):
            return SimpleMatcherResult(completions=[])
        said = line[magic.end() :]
        if not said:
            return SimpleMatcherResult(completions=[])
        start = 0 if said[-1].isspace() else [word.start() for word in _WORDS.finditer(said)][-1]
        before, word = (said, "") if said[-1].isspace() else (said[:start], said[start:])
        if magic[2] == "blockrun":
            fragment, answers = _command_answers(before.split(), word, self._shell.user_ns)
        else:
            fragment, answers = _flag_answers(magic[2], before.split(), word, self._shell.user_ns)
        if answers is None:
            return SimpleMatcherResult(completions=[])
        wanted = fragment.casefold()
        completions = [SimpleCompletion(text) for text in answers if text.casefold().startswith(wanted)]
        result = SimpleMatcherResult(completions=completions, suppress=True, ordered=True)
        result["matched_fragment"] = fragment
        return result


def _in_body(context: CompletionContext) -> bool:
    """Return whether the line is below a cell magic: there it is prompt, whatever it looks like."""
    return context.full_text.lstrip().startswith("%%")


Answers = tuple[str, Iterable[str] | None]


def _flag_answers(magic: str, before: list[str], word: str, namespace: Mapping[str, object]) -> Answers:
    """Return the fragment to replace and what may stand there; None leaves it to IPython."""
    from blockrun_magic.notebook.cells.flags import FLAGS, find_flag

    if "--" in before:
        return word, None
    name, equals, value = word.partition("=")
    if equals and (flag := find_flag(name)) is not None:
        return _value_answers(flag.kind, before, value, namespace)
    previous = find_flag(before[-1]) if before else None
    if previous is not None and previous.metavar is not None:
        return _value_answers(previous.kind, before[:-1], word, namespace)
    if not word.startswith("-"):
        return word, None
    given = {flag.name for text in before if (flag := find_flag(text.partition("=")[0])) and not flag.repeats}
    spellings = [flag.name for flag in FLAGS if magic in flag.magics and flag.name not in given]
    return word, spellings


def _value_answers(kind: str, before: list[str], value: str, namespace: Mapping[str, object]) -> Answers:
    """Return the values that a flag of `kind` may take, after the last comma where several go."""
    if kind in ("model", "size"):
        head, comma, last = value.rpartition(",")
        taken = head.split(",") if comma else []
        known = _model_names() if kind == "model" else _sizes(before)
        return last, [name for name in known if name not in taken]
    sources: Mapping[str, Callable[[], list[str]]] = {
        "quality": lambda: ["standard", "hd"],
        "style": _styles,
        "image": lambda: [*_pictures(namespace), *_paths(value)],
        "mask": lambda: [*_pictures(namespace), *_paths(value)],
        "path": lambda: _paths(value),
        "prompts": lambda: _lists(namespace),
        "gateway": _gateways,
    }
    return value, sources[kind]() if kind in sources else []


def _gateways() -> list[str]:
    from blockrun_magic.gateway.gateways import PRESETS

    return ["practice", *PRESETS]


def _styles() -> list[str]:
    from blockrun_magic.notebook.cells.styles import load_styles
    from blockrun_magic.wiring import blockrun_home

    return list(load_styles(blockrun_home()))


def _command_answers(before: list[str], word: str, namespace: Mapping[str, object]) -> Answers:
    from blockrun_magic.notebook.commands.registry import COMMANDS

    if not before:
        return word, list(COMMANDS)
    command = COMMANDS.get(before[0])
    if command is None:
        return word, []
    if command.name == "price":
        return _flag_answers("imagegen", before[1:], word, namespace)
    if command.name in ("info", "reuse"):
        return word, [*_pictures(namespace), *_paths(word)]
    if command.name == "models":
        return word, _model_names()
    options = re.findall(r"--[a-z-]+|\b[a-z][a-z0-9-]*\b", command.usage.partition(" ")[2])
    return word, [option for option in dict.fromkeys(options) if option not in before[1:]]


def _model_names() -> list[str]:
    from blockrun_magic.gateway.catalog.catalog import SNAPSHOT

    short = [name for model in SNAPSHOT.models for name in model.shorthands]
    return [*short, *(model.id for model in SNAPSHOT.models)]


def _sizes(before: list[str]) -> list[str]:
    """Return the sizes that every chosen model makes, the first model's default first."""
    from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
    from blockrun_magic.notebook.cells.flags import find_flag

    names = ""
    for index, text in enumerate(before):
        name, equals, value = text.partition("=")
        flag = find_flag(name)
        if flag is not None and flag.kind == "model":
            names = value if equals else before[index + 1] if index + 1 < len(before) else ""
    models = [model for name in names.split(",") if (model := SNAPSHOT.find(name)) is not None]
    models = models or [SNAPSHOT.models[0]]
    return [size for size in models[0].sizes if all(model.allows_size(size) for model in models)]


def _pictures(namespace: Mapping[str, object]) -> list[str]:
    """Return the variables that hold pictures, `img` first, the newest names before the oldest."""
    from blockrun_magic.images.detection import is_image_like
    from blockrun_magic.notebook.background import BackgroundJob

    names = [
        name
        for name, value in reversed(list(namespace.items()))
        if not name.startswith("_") and (isinstance(value, BackgroundJob) or is_image_like(value))
    ]
    return sorted(names, key=lambda name: name != "img")


def _lists(namespace: Mapping[str, object]) -> list[str]:
    from blockrun_magic.notebook.cells.fill import values_of

    return [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in ("In", "Out") and values_of(value)
    ]


def _paths(text: str) -> list[str]:
    """Return the pictures and folders that `text` may grow into, folders with a slash behind."""
    from blockrun_magic.images.references import PICTURE_SUFFIXES

    folder, _, _ = text.rpartition("/")
    shown = f"{folder}/" if folder or text.startswith("/") else ""
    place = Path(shown or ".").expanduser()
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found.append(f"{shown}{entry.name}/")
            elif Path(entry.name).suffix.lower() in PICTURE_SUFFIXES:
                found.append(f"{shown}{entry.name}")
    return sorted(found)[:_MAX_FILES]
