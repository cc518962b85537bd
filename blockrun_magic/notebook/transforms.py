"""Transformations of input that IPython would misread: questions, `--help` without a body, comments above a magic.

`%imagegen who goes there?` is a prompt; `%imagegen?` asks for help, and so does `%%imagegen --help`.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import TokenTransformBase, assemble_continued_line, find_end_of_continued_line

from blockrun_magic.notebook.cells.parser import asks_for_help

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["PromptLine", "add_transforms", "call_for_help", "drop_comments", "remove_transforms"]

_OURS = "imagegen|img2img|blockrun"
_CALL = re.compile(rf"(?P<before>\s*+(?:[^%\n]*[^%=!<>\n]=\s*+)?)%(?P<magic>{_OURS})(?=\s)(?P<rest>.*)", re.DOTALL)
_BARE = re.compile(rf"(?P<before>\s*)(?P<magic>{_OURS})\s+(?P<rest>[^\s=(\[.,:].*)", re.DOTALL)
"""A line without %, which IPython's automagic would run."""
_INSIDE = re.compile(rf"(?P<before>\s*)%(?P<magic>\w+)\s(?=[^\n]*%(?:{_OURS})\s)(?P<rest>.*)", re.DOTALL)
_HELP = re.compile(r"\s*%%(imagegen|img2img)(?=\s)(.*)")
_CELL = re.compile(r"%%(?:imagegen|img2img)(?!\S)")
_INDENTS = (tokenize.INDENT, tokenize.DEDENT)


class PromptLine(TokenTransformBase):
    """Turns one of our lines that ends in a question mark into a call, before IPython reads it as a help request.

    It also handles the line of another magic that runs one of ours: `%time %imagegen who?`.
    """

    priority = 1
    """Before IPython's own help, which has priority 5."""

    @classmethod
    def find(cls, tokens_by_line: Sequence[Sequence[Any]]) -> PromptLine | None:
        """Return the first such line, or None."""
        for line in tokens_by_line:
            tokens = [token for token in line if token.type not in _INDENTS]
            if not tokens or not line[-1].line.rstrip().endswith("?"):
                continue
            if _match(tokens[0].line):
                return cls(tokens[0].start)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """Return `lines` with the line as a Python call."""
        end = find_end_of_continued_line(lines, self.start_line)
        match = _match(assemble_continued_line(lines, (self.start_line, 0), end))
        if match is None:
            return lines
        call = f"{match['before']}get_ipython().run_line_magic({match['magic']!r}, {match['rest'].strip()!r})\n"
        return [*lines[: self.start_line], call, *lines[end + 1 :]]


def _match(line: str) -> re.Match[str] | None:
    return _CALL.match(line) or _INSIDE.match(line) or _BARE.match(line)


def call_for_help(lines: list[str]) -> list[str]:
    """Return `%%imagegen --help` without a body, which IPython refuses, as a one-line magic; other lines unchanged."""
    first = next((line for line in lines if line.strip()), "")
    match = _HELP.match(first)
    alone = all(line is first or not line.strip() for line in lines)
    return [first.lstrip()[1:]] if match and alone and asks_for_help(match[2]) else lines


def drop_comments(lines: list[str]) -> list[str]:
    """Return `lines` without the comments above a cell magic of ours: IPython finds a magic only on the first line."""
    for number, line in enumerate(lines):
        if _CELL.match(line):
            return lines[number:]
        if line.strip() and not line.lstrip().startswith("#"):
            break
    return lines


def add_transforms(shell: InteractiveShell) -> None:
    """Let `shell` read our lines as intended."""
    shell.input_transformer_manager.token_transformers.append(PromptLine)
    shell.input_transformer_manager.cleanup_transforms[:0] = [drop_comments, call_for_help]


def remove_transforms(shell: InteractiveShell) -> None:
    """Remove our transformations from `shell`."""
    manager = shell.input_transformer_manager
    manager.token_transformers = [each for each in manager.token_transformers if each is not PromptLine]
    added = (drop_comments, call_for_help)
    manager.cleanup_transforms = [each for each in manager.cleanup_transforms if each not in added]
