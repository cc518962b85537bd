"""Headers that are as good as money, for one request: no repr and no traceback shows them."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["SealedHeaders"]


class SealedHeaders(dict[str, str]):
    """Headers that carry a payment or a key; a traceback that prints local variables does not show them."""

    def __repr__(self) -> str:
        return f"<{', '.join(self) or 'no'} header>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("these headers are money: they are not copied into files")
