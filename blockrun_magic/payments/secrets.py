"""Secrets: keys and payment headers, in objects whose repr hides them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, Self, TypeVar

from blockrun_magic.errors import WalletError

__all__ = ["RedactedEnviron", "Secret", "SecretHeaders", "SecretHolder", "with_secrets"]


_T = TypeVar("_T")


class Secret:
    """A key or a text that only `reveal()` returns."""

    __slots__ = ("reveal",)

    reveal: Callable[[], Any]

    def __init__(self, value: object) -> None:
        self.reveal = lambda: value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is never pickled or copied")


class SecretHolder:
    """Base of objects that hold a key: the repr shows `source`, a copy is the object itself, pickling fails."""

    __slots__ = ()

    source: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from {self.source}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a wallet is never pickled: its key stays in this process")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__getstate__()


class RedactedEnviron(Mapping[str, str]):
    """An environment whose repr hides its values, even in tracebacks that print local variables."""

    __slots__ = ("_environ",)

    _environ: Callable[[], Mapping[str, str]]

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = lambda: environ

    def __getitem__(self, name: str) -> str:
        return self._environ()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ())

    def __len__(self) -> int:
        return len(self._environ())

    def __repr__(self) -> str:
        return "<environment>"


def with_secrets(use: Callable[..., _T], *secrets: Secret, on_error: Callable[[Exception], WalletError]) -> _T:
    """Call `use` with the secrets' values; its exceptions lose the frames that hold those values.

    `on_error` turns an exception of `use`, whose text may contain a secret, into a WalletError.
    """
    try:
        return use(*(secret.reveal() for secret in secrets))
    except Exception as error:  # noqa: BLE001  its text may contain the key
        failure: BaseException = on_error(error)
    except BaseException as stop:  # noqa: BLE001  KeyboardInterrupt, in the middle of signing
        stop.__context__ = stop.__cause__ = None
        failure = stop.with_traceback(None)
    # Outside the handlers, so that no __context__ leads back to those frames.
    raise failure


class SecretHeaders(dict[str, str]):
    """Headers that carry a payment or a key, hidden from tracebacks that print local variables."""

    def __repr__(self) -> str:
        return f"<{', '.join(self) or 'no'} header>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("payment headers are never pickled")
