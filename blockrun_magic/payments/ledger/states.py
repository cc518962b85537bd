"""The life of an authorization, as a state machine.

    reserved ──▶ signed ──▶ submitted ──▶ settled        money moved: a hash or the chain says so
        │           │        │  ▲    │
        │           │        │  │    └──▶ polling ──▶ settled
        ▼           ▼        ▼  │            │
     released    released   unknown ◀────────┘           may have moved, and may still
                             │    │
                             ▼    ▼
                        settled  released                certainly not charged

Where somebody else pays (a ClawRouter, an account's credit) nothing is signed, and nothing can prove or
disprove a charge later:

    reserved ──▶ submitted ──▶ settled         the answer brought pictures
        │          │   │  └──▶ polling ──▶ settled, released or unknown
        ▼          │   ▼          ▲
     released ◀────┘ unknown ─────┘            ends by its job, ClawRouter's log or your word:
                       └──▶ settled, released

`reserved` counts against the caps and nothing is signed. `signed`: the header is in the ledger
and has not left. `submitted`: it may have left at any moment since. `unknown` ends by itself: the
gateway, the job or the chain is asked again until it is settled, or expired and certainly unused. An
unsigned request is never sent twice, so that its `unknown` never becomes `submitted` again.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AT_RISK", "OPEN", "TRANSITIONS", "UNSIGNED_TRANSITIONS", "State"]


class State(StrEnum):
    """Where an authorization stands; every change is on record before the action it allows."""

    RESERVED = "reserved"
    SIGNED = "signed"
    SUBMITTED = "submitted"
    POLLING = "polling"
    SETTLED = "settled"
    RELEASED = "released"
    UNKNOWN = "unknown"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.RESERVED: frozenset({State.SIGNED, State.RELEASED}),
    State.SIGNED: frozenset({State.SUBMITTED, State.RELEASED}),
    State.SUBMITTED: frozenset({State.POLLING, State.SETTLED, State.UNKNOWN, State.RELEASED}),
    State.POLLING: frozenset({State.SETTLED, State.UNKNOWN, State.RELEASED}),
    State.UNKNOWN: frozenset({State.SUBMITTED, State.POLLING, State.SETTLED, State.RELEASED}),
    State.SETTLED: frozenset(),
    State.RELEASED: frozenset(),
}

UNSIGNED_TRANSITIONS: dict[State, frozenset[State]] = {
    State.RESERVED: frozenset({State.SUBMITTED, State.RELEASED}),
    State.SIGNED: frozenset(),
    State.SUBMITTED: frozenset({State.POLLING, State.SETTLED, State.UNKNOWN, State.RELEASED}),
    State.POLLING: frozenset({State.SETTLED, State.UNKNOWN, State.RELEASED}),
    State.UNKNOWN: frozenset({State.POLLING, State.SETTLED, State.RELEASED}),
    State.SETTLED: frozenset(),
    State.RELEASED: frozenset(),
}

AT_RISK = (State.RESERVED, State.SIGNED, State.SUBMITTED, State.POLLING, State.UNKNOWN)
OPEN = (State.SIGNED, State.SUBMITTED, State.POLLING, State.UNKNOWN, State.SETTLED)
