"""Cached prices of gateways: one of the last hour may be signed without asking (gateway protocol, section 3).

The cache has the gateway's original terms, which are validated again before they are signed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.x402.requirements import PaymentRequired, PaymentRequirements
from blockrun_magic.safejson import read_json

__all__ = ["cache_quote", "cached_quote", "drop_quote"]

_QUOTE_TTL = 3600
_MAX_DRIFT = 60.0
"""Change of the clock, in seconds, after which the price is requested again and the clock checked."""


def cache_quote(
    ledger: Ledger,
    gateway: str,
    price_key: str,
    terms: PaymentRequirements,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Cache the terms of `gateway` for requests with this price key, as of now."""
    challenge = {
        "version": terms.version,
        "accepts": terms.accepted,
        "resource": terms.resource,
        "extensions": terms.extensions,
    }
    with ledger.transaction(durable=False) as connection:
        connection.execute(
            """INSERT INTO quotes (gateway, price_key, challenge, seen_at, monotonic) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (gateway, price_key) DO UPDATE SET
                challenge = excluded.challenge, seen_at = excluded.seen_at, monotonic = excluded.monotonic""",
            (gateway, price_key, json.dumps(challenge), ledger.clock(), monotonic()),
        )


def cached_quote(
    ledger: Ledger, gateway: str, price_key: str, monotonic: Callable[[], float] = time.monotonic
) -> PaymentRequired | None:
    """Return the terms of `gateway` for such requests from the last hour, or None.

    Also None if this machine has slept, restarted or had its clock changed since then.
    """
    now = ledger.clock()
    rows = ledger.query(
        "SELECT challenge, seen_at, monotonic FROM quotes"
        " WHERE gateway = ? AND price_key = ? AND seen_at BETWEEN ? AND ?",
        (gateway, price_key, now - _QUOTE_TTL, now),
    )
    if not rows or rows[0]["monotonic"] is None:
        return None
    drift = (now - rows[0]["seen_at"]) - (monotonic() - rows[0]["monotonic"])
    if abs(drift) > _MAX_DRIFT:
        return None
    challenge = read_json(rows[0]["challenge"].encode())
    return PaymentRequired(
        challenge["version"], (challenge["accepts"],), challenge["resource"], challenge["extensions"]
    )


def drop_quote(ledger: Ledger, gateway: str, price_key: str) -> None:
    """Remove a price that is no longer valid."""
    with ledger.transaction(durable=False) as connection:
        connection.execute("DELETE FROM quotes WHERE gateway = ? AND price_key = ?", (gateway, price_key))
