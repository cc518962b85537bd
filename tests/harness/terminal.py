"""IPython in a pseudo-terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pexpect

from harness import PATIENCE
from harness.kernel import clean_environ


class Terminal:
    """An IPython in a pseudo-terminal, with the text that a person sees there."""

    def __init__(self, home: Path) -> None:
        # The simple prompt has no colors of its own: all escape sequences are ours.
        options = ["--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor", "--no-term-title"]
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "IPython", *options],
            env=clean_environ(home),
            cwd=str(home),
            encoding="utf-8",
            dimensions=(50, 250),
            timeout=PATIENCE,
            echo=False,
        )
        self._child.expect(r"In \[\d+\]: ")

    def run(self, line: str) -> str:
        """Enter a line and return its output."""
        self._child.sendline(line)
        return self.until_prompt()

    def until_prompt(self) -> str:
        """Return all output until the next prompt."""
        self._child.expect(r"In \[\d+\]: ")
        return str(self._child.before).replace("\r\n", "\n")

    def start(self, line: str, seen: str) -> None:
        """Enter a line and return as soon as `seen` is on the screen."""
        self._child.sendline(line)
        self._child.expect_exact(seen)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def close(self) -> int | None:
        """Leave IPython and return its exit status."""
        self._child.sendline("exit")
        self._child.expect(pexpect.EOF)
        self._child.close()
        status: int | None = self._child.exitstatus
        return status
