"""Rows of the ledger, as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from blockrun_magic.database.engine import Row
from blockrun_magic.payments.ledger.states import SENT, State
from blockrun_magic.payments.realm import Realm

__all__ = [
    "ImageFilter",
    "ListedImage",
    "Payload",
    "Payment",
    "Purchase",
    "StoredImage",
    "purchase_lock",
]


@dataclass(frozen=True, slots=True)
class Payload:
    """One signature of an authorization; `amount` is in micro-USDC, the times are Unix seconds.

    The chain takes one payload of an authorization, once. `header_value` is None when it is no longer needed.
    """

    id: int
    amount: int
    pay_to: str | None
    valid_before: int | None
    last_height: int | None
    signed_at: float
    header_name: str
    header_value: str | None = field(repr=False)

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Return the payload in a row of `payloads`."""
        names = ("id", "amount", "pay_to", "valid_before", "last_height", "signed_at", "header_name", "header_value")
        return cls(*(row[name] for name in names))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a payment's header is money: it is not copied into files")


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment in the ledger; `amount` is in micro-USDC: the sum that moved if settled, else the sum at risk.

    A signed one is an authorization: `payloads` are its signatures, oldest first, `valid_before` the latest Unix time
    at which one of them can be cashed, `last_height` the same as a height on Solana, and `cashed` the id of the one
    that was. `prepaid`: others pay, and there is no signature. `estimated`: the amount is our list price.
    `transaction` is a claim of the gateway until the payment is settled. `sent_at` is None until it may have left.
    """

    id: int
    purchase_id: str
    session: str
    state: State
    amount: int
    network: str | None
    payer: str | None
    nonce: str | None
    valid_before: int | None
    refused: bool
    transaction: str | None
    note: str | None = None
    last_height: int | None = None
    prepaid: bool = False
    estimated: bool = False
    gateway: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    sent_at: float | None = None
    cashed: int | None = None
    payloads: tuple[Payload, ...] = ()

    @classmethod
    def from_row(cls, row: Row, payloads: Sequence[Payload] = ()) -> Self:
        """Return the payment in a row of `authorizations`, with its payloads."""
        return cls(
            id=row["id"],
            purchase_id=row["purchase_id"],
            session=row["session"],
            state=State(row["state"]),
            amount=row["amount"],
            network=row["network"],
            payer=row["payer"],
            nonce=row["nonce"],
            valid_before=row["valid_before"],
            refused=bool(row["refused"]),
            transaction=row["transaction_hash"],
            note=row["note"],
            last_height=row["last_height"],
            prepaid=bool(row["prepaid"]),
            estimated=bool(row["estimated"]),
            gateway=row["gateway"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            sent_at=row["sent_at"],
            cashed=row["cashed_payload"],
            payloads=tuple(payloads),
        )

    @property
    def sent(self) -> bool:
        """Whether the payment may have left, and no witness has decided it yet."""
        return self.state in SENT

    @property
    def decided(self) -> bool:
        """Whether the payment is settled or released."""
        return self.state in (State.SETTLED, State.RELEASED)

    @property
    def payload(self) -> Payload | None:
        """The signature to send: the cashed one if it is known, else the newest."""
        newest = self.payloads[-1] if self.payloads else None
        return next((payload for payload in self.payloads if payload.id == self.cashed), newest)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a payment's header is money: it is not copied into files")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image of a purchase: the SHA-256 (hex) of its file, and its size in pixels."""

    file: str
    media_type: str
    width: int
    height: int
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Purchase:
    """One take of one request: the request, and its outcome so far."""

    id: str
    purchased_at: float
    realm: Realm
    gateway: str
    digest: str
    take: int
    request: Mapping[str, Any]
    private: bool
    poll_url: str | None
    answer: Sequence[Mapping[str, Any]] | None
    finished_at: float | None
    seconds: float | None
    owner: str = ""

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Return the purchase in a row of `purchases`."""
        return cls(
            id=row["id"],
            purchased_at=row["created_at"],
            realm=Realm(row["realm"]),
            gateway=row["gateway"],
            digest=row["digest"],
            take=row["take"],
            request=json.loads(row["request"]),
            private=bool(row["private"]),
            poll_url=row["poll_url"],
            answer=json.loads(row["answer"]) if row["answer"] else None,
            finished_at=row["finished_at"],
            seconds=row["seconds"],
            owner=row["owner"],
        )

    @property
    def lock(self) -> str:
        """The name of the lock for buying it."""
        return purchase_lock(self.owner, self.realm, self.digest, self.take)


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
    """A filter of images: those that meet every given condition, or all without one.

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


def purchase_lock(owner: str, realm: str, digest: str, take: int) -> str:
    """Return the name of the lock for buying this take of a request for `owner`."""
    parts = (*([owner] if owner else []), realm, digest, str(take))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]
