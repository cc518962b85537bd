"""What the ledger's rows hold, as values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from blockrun_magic.payments.ledger.states import State

__all__ = ["ImageFilter", "ListedImage", "Payment", "Purchase", "StoredImage", "payment_of", "purchase_of"]


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment as the ledger keeps it; `amount` is in micro-USDC.

    `prepaid` says that somebody else pays: there is no signature, and no nonce to ask for. `estimated`
    says that the amount is our list price, because no answer has named what was charged. `created_at` and
    `updated_at` are Unix seconds. `nonce`, `valid_before` and `last_height` are the authorization's.
    """

    id: int
    purchase_id: str
    state: State
    amount: int
    network: str | None
    payer: str | None
    nonce: str | None
    valid_before: int | None
    refused: bool
    transaction: str | None
    header_name: str | None = None
    header_value: str | None = field(default=None, repr=False)
    note: str | None = None
    last_height: int | None = None
    prepaid: bool = False
    estimated: bool = False
    gateway: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0

    def __reduce__(self) -> NoReturn:
        raise TypeError("a payment's header is money: it is not copied into files")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One picture of a purchase: the SHA-256 (hex) of its file, and its pixels' size."""

    file: str
    media_type: str
    width: int
    height: int
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Purchase:
    """One request of one take: what was wanted, and what came of it so far."""

    id: str
    purchased_at: float
    realm: str
    gateway: str
    digest: str
    take: int
    request: Mapping[str, Any]
    private: bool
    poll_url: str | None
    answer: Sequence[Mapping[str, Any]] | None
    finished_at: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image of a finished purchase, and the micro-USDC that the purchase cost."""

    purchase: Purchase
    image: StoredImage
    position: int
    paid: int

    @property
    def key(self) -> str:
        """The name of the image among all images: the purchase's id and the image's position."""
        return f"{self.purchase.id}:{self.position}"

    @property
    def prompt(self) -> str:
        """The prompt of its request."""
        return str(self.purchase.request["prompt"])


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """The images to list: all of them, or those to which every condition given here applies.

    `words` occur in the prompt or the model, `practice` selects play money or everything else, `since` and `until`
    bound the purchase's Unix time. `only` and `without` are keys of `ListedImage`, `file` is a SHA-256 (hex), and
    `source` that of an image that was edited.
    """

    words: str = ""
    model: str | None = None
    practice: bool | None = None
    since: float | None = None
    until: float | None = None
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    purchase: str | None = None
    file: str | None = None
    source: str | None = None


def purchase_of(row: sqlite3.Row) -> Purchase:
    """Return the purchase in a row of `purchases`."""
    return Purchase(
        id=row["id"],
        purchased_at=row["created_at"],
        realm=row["realm"],
        gateway=row["gateway"],
        digest=row["digest"],
        take=row["take"],
        request=json.loads(row["request"]),
        private=bool(row["private"]),
        poll_url=row["poll_url"],
        answer=json.loads(row["answer"]) if row["answer"] else None,
        finished_at=row["finished_at"],
        seconds=row["seconds"],
    )


def payment_of(row: sqlite3.Row) -> Payment:
    """Return the payment in a row of `authorizations`."""
    return Payment(
        id=row["id"],
        purchase_id=row["purchase_id"],
        state=State(row["state"]),
        amount=row["amount"],
        network=row["network"],
        payer=row["payer"],
        nonce=row["nonce"],
        valid_before=row["valid_before"],
        refused=bool(row["refused"]),
        transaction=row["transaction_hash"],
        header_name=row["header_name"],
        header_value=row["header_value"],
        note=row["note"],
        last_height=row["last_height"],
        prepaid=bool(row["prepaid"]),
        estimated=bool(row["estimated"]),
        gateway=row["gateway"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
