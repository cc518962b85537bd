"""Exceptions that are not ours, as two lines: magics, commands, callbacks, background jobs and the API go through here.

With BLOCKRUN_TRACEBACKS=1 they keep their tracebacks, for debugging.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from blockrun_magic.errors import BlockrunError
from blockrun_magic.text import sanitize

__all__ = ["BugError", "await_guarded", "guarded", "translated"]

T = TypeVar("T")

_VARIABLE = "BLOCKRUN_TRACEBACKS"
_LEDGER = "Payments are safe in the ledger: see `%blockrun jobs`."
_BY_NUMBER = {
    errno.ENOSPC: "Free some space, then run the cell again.",
    errno.EDQUOT: "Free some space, then run the cell again.",
    errno.EACCES: "Check its permissions, then run the cell again.",
    errno.EPERM: "Check its permissions, then run the cell again.",
    errno.EROFS: "Choose a folder that can be written, or set BLOCKRUN_HOME to one.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Restart the kernel: it has too many files open.",
}


class BugError(BlockrunError):
    """An unexpected exception: a bug of ours, or one in the user's own code that we called."""


def guarded(call: Callable[[], T]) -> T:
    """Return what `call` returns; raises BlockrunError and interrupts only."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  this is the door
        explained = translated(error)
    raise explained  # outside of the handler, so that the exception has no context


async def await_guarded(work: Awaitable[T]) -> T:
    """Return what `work` returns; raises BlockrunError, interrupts and cancellation only."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001  this is the door
        explained = translated(error)
    raise explained


def translated(error: Exception) -> BlockrunError:
    """Return `error` if it is ours, else two lines about it: its location, but no values, which might be secret."""
    if isinstance(error, BlockrunError):
        _forget_groups(error)
        return error
    if os.environ.get(_VARIABLE, "") not in ("", "0"):
        raise error
    explained = _explained(error)
    explained.__cause__ = error
    _forget_groups(explained)
    return explained


def _explained(error: Exception) -> BlockrunError:
    if isinstance(error, MemoryError):
        return BlockrunError("There is not enough memory.", "Restart the kernel, or use smaller images.")
    if isinstance(error, RecursionError):
        return BlockrunError("The input is nested too deep.", "Make it simpler, then run the cell again.")
    if isinstance(error, UnicodeError):
        return BlockrunError("The text holds a character that cannot be written.", "Remove it, then try again.")
    if isinstance(error, OSError) and error.strerror:
        name = f" ({sanitize(os.fsdecode(error.filename), 120)})" if isinstance(error.filename, str | bytes) else ""
        hint = _BY_NUMBER.get(error.errno or 0, f"Correct this, then run the cell again. {_LEDGER}")
        return BlockrunError(f"{sanitize(error.strerror, 120)}{name}.", hint)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return BugError(
        f"Unexpected error: {type(error).__name__}{where}.",
        f"{_LEDGER} Report this line; {_VARIABLE}=1 shows the traceback.",
    )


def _forget_groups(error: BaseException) -> None:
    """Cut groups of exceptions out of the chain behind `error`: IPython would print them at length."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link.__context__, BaseExceptionGroup):
            link.__context__ = None
        if isinstance(link.__cause__, BaseExceptionGroup):
            link.__cause__ = None
        link = link.__cause__ or link.__context__
