"""Exceptions that are not ours become two lines, without values and without exception groups in their chain."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.unexpected import BugError, await_guarded, guarded, translated

SECRET = "0x" + "5eed" * 16
FOREIGN = [
    ValueError(SECRET),
    KeyError(SECRET),
    RuntimeError(f"no {SECRET}"),
    OSError(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET), OSError(errno.EACCES, SECRET)]),
    StopIteration(SECRET),
    RecursionError(SECRET),
    MemoryError(SECRET),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, SECRET),
    asyncio.InvalidStateError(SECRET),
]


def failing(error: BaseException) -> Callable[[], Any]:
    """Return a function that raises `error` while it handles an exception group."""

    def call() -> None:
        try:
            raise ExceptionGroup("several", [ValueError(1)])  # noqa: TRY301
        except ExceptionGroup:
            raise error  # noqa: B904  tests the context

    return call


@pytest.mark.parametrize("error", FOREIGN, ids=[type(error).__name__ for error in FOREIGN])
def test_what_is_not_ours_becomes_two_lines(error: Exception) -> None:
    """The error has two printable lines without the exception's value."""
    with pytest.raises(BlockrunError) as caught:
        guarded(failing(error))

    lines = str(caught.value).splitlines()

    assert 2 == len(lines)
    assert SECRET not in str(caught.value)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.EIO])
def test_the_disk_says_what_is_wrong(number: int) -> None:
    """The error names the file and the reason, and is not reported as a bug."""
    error = translated(OSError(number, "the reason", "/home/me/fox.png"))

    assert not isinstance(error, BugError)
    assert "the reason" in error.message
    assert "fox.png" in error.message


@pytest.mark.parametrize("error", [SourceError("No.", "Do."), ValueError(1)])
def test_no_group_is_behind_an_error(error: Exception) -> None:
    """The chain of an error has no exception group, because IPython would print all of it."""
    with pytest.raises(BlockrunError) as caught:
        guarded(failing(error))

    link: BaseException | None = caught.value
    while link is not None:
        assert not isinstance(link, BaseExceptionGroup)
        link = link.__cause__ or link.__context__


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_interrupts_pass(error: BaseException) -> None:
    """KeyboardInterrupt, SystemExit and CancelledError are raised unchanged."""

    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        guarded(failing(error))
    if isinstance(error, asyncio.CancelledError):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(await_guarded(work()))


def test_ours_pass_as_they_are() -> None:
    """Our own errors are raised as the same object."""
    error = SourceError("No.", "Do.")

    async def work() -> None:
        raise error

    with pytest.raises(SourceError) as caught:
        asyncio.run(await_guarded(work()))

    assert caught.value is error


def test_a_developer_can_see_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With BLOCKRUN_TRACEBACKS=1, an unexpected exception is raised unchanged."""
    monkeypatch.setenv("BLOCKRUN_TRACEBACKS", "1")

    with pytest.raises(KeyError):
        guarded(failing(KeyError("x")))
