"""The life of a payment, as a state machine.

    reserved ──▶ signed ──▶ submitted ──▶ polling        nothing leaves before `submitted`
        │           │           │            │
        ▼           ▼           ▼            ▼
     released    released    unknown ◀───────┘           back to submitted or polling with the same nonce
                                │
                                ▼
                     settled or released                 a witness said so

`reserved` counts against the limits, and nothing is signed. `signed`: the header is in the ledger and has not left.
`submitted`: it may have left. From then on only a witness settles or releases: the chain, the practice gateway, the
usage list of an account, a classroom's order, or the user. Statements of a gateway and exceptions are only notes.

If others pay (ClawRouter, an account), nothing is signed, and the request is sent once: `reserved` becomes
`submitted`, and `unknown` never becomes `submitted` again.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AT_RISK", "OPEN", "SENT", "TRANSITIONS", "UNSIGNED_TRANSITIONS", "State", "Witness"]


class State(StrEnum):
    """The state of a payment; every change is on record before the action that it allows."""

    RESERVED = "reserved"
    SIGNED = "signed"
    SUBMITTED = "submitted"
    POLLING = "polling"
    SETTLED = "settled"
    RELEASED = "released"
    UNKNOWN = "unknown"


class Witness(StrEnum):
    """Witness of a payment that was sent: its word settles or releases it."""

    CHAIN = "chain"
    PRACTICE = "practice"
    ACCOUNT = "account"
    LOG = "log"
    """ClawRouter's own log has a line that can belong only to this payment."""
    DELIVERY = "delivery"
    """A prepaid request delivered its images: it counts as charged, at its list price."""
    CLASSROOM = "classroom"
    """The order at a classroom names its charge."""
    USER = "user"


_SENT_ENDS = frozenset({State.SETTLED, State.RELEASED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.RESERVED: frozenset({State.SIGNED, State.RELEASED}),
    State.SIGNED: frozenset({State.SUBMITTED, State.RELEASED}),
    State.SUBMITTED: frozenset({State.POLLING, State.UNKNOWN}) | _SENT_ENDS,
    State.POLLING: frozenset({State.UNKNOWN}) | _SENT_ENDS,
    State.UNKNOWN: frozenset({State.SUBMITTED, State.POLLING}) | _SENT_ENDS,
    State.SETTLED: frozenset(),
    State.RELEASED: frozenset(),
}

UNSIGNED_TRANSITIONS: dict[State, frozenset[State]] = {
    State.RESERVED: frozenset({State.SUBMITTED, State.RELEASED}),
    State.SIGNED: frozenset(),
    State.SUBMITTED: frozenset({State.POLLING, State.UNKNOWN}) | _SENT_ENDS,
    State.POLLING: frozenset({State.UNKNOWN}) | _SENT_ENDS,
    State.UNKNOWN: frozenset({State.POLLING}) | _SENT_ENDS,
    State.SETTLED: frozenset(),
    State.RELEASED: frozenset(),
}

SENT = (State.SUBMITTED, State.POLLING, State.UNKNOWN)
AT_RISK = (State.RESERVED, State.SIGNED, *SENT)
OPEN = (State.SIGNED, *SENT, State.SETTLED)
