"""Errors of PostgreSQL, translated into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from blockrun_magic.database.engine import NotUnique, UnknownLayout
from blockrun_magic.errors import LedgerError, Money

__all__ = ["translate_errors"]

_BUSY = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.QueryCanceled,
    errors.IdleInTransactionSessionTimeout,
)


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Translate PostgreSQL's errors about the database called `name` into ours."""
    try:
        yield
    except UnknownLayout as error:
        raise LedgerError(
            f"The database {name} cannot be used: {error}.",
            "Install the version of blockrun-magic that wrote it, or restore it from a backup.",
            Money.nothing_sent(),
        ) from None
    except (psycopg.Error, TimeoutError) as error:
        kind = NotUnique if isinstance(error, errors.UniqueViolation) else LedgerError
        complaint = next(iter(str(error).strip().splitlines()), type(error).__name__)
        # The details of an error contain the row's values, which must not be in tracebacks.
        error.args = (complaint,)
        raise kind(f"The database {name} cannot be used: {complaint}.", _remedy(error), Money.nothing_sent()) from error


def _remedy(error: Exception) -> str:
    if isinstance(error, (*_BUSY, TimeoutError)):
        return "Other processes are writing to it. Run it again in a moment."
    if isinstance(error, errors.DiskFull):
        return "Free some space on the disk of PostgreSQL, then run it again."
    if isinstance(error, errors.InsufficientPrivilege):
        return "Let its user create a schema: GRANT CREATE ON DATABASE … TO …"
    if isinstance(error, psycopg.OperationalError):
        return "Check that PostgreSQL runs and that the address, user and password are right, then run it again."
    return "Check the address, and that nothing else has changed its tables, then run it again."
