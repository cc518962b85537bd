"""What gateways asked for lately: a price seen within the hour may be signed ahead (gateway protocol, section 3).

Kept is what the gateway said, not what we made of it: before it is signed it is pinned again, like a 402.
"""

from __future__ import annotations

import json

from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.x402.requirements import PaymentRequired, PaymentRequirements
from blockrun_magic.safejson import read_json

__all__ = ["drop_quote", "keep_quote", "kept_quote"]

_LIFETIME = 3600


def keep_quote(ledger: Ledger, gateway: str, price_key: str, terms: PaymentRequirements) -> None:
    """Keep what `gateway` asks for requests with this price key, seen now."""
    said = {
        "version": terms.version,
        "accepts": terms.accepted,
        "resource": terms.resource,
        "extensions": terms.extensions,
    }
    with ledger.transaction(lasting=False) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO quotes VALUES (?, ?, ?, ?)", (gateway, price_key, json.dumps(said), ledger.clock())
        )


def kept_quote(ledger: Ledger, gateway: str, price_key: str) -> PaymentRequired | None:
    """Return what `gateway` asked for such requests within the hour, or None."""
    now = ledger.clock()
    rows = ledger.query(
        "SELECT challenge FROM quotes WHERE gateway = ? AND price_key = ? AND seen_at BETWEEN ? AND ?",
        (gateway, price_key, now - _LIFETIME, now),
    )
    if not rows:
        return None
    said = read_json(rows[0]["challenge"].encode())
    return PaymentRequired(said["version"], (said["accepts"],), said["resource"], said["extensions"])


def drop_quote(ledger: Ledger, gateway: str, price_key: str) -> None:
    """Forget a price that does not hold any more."""
    with ledger.transaction(lasting=False) as connection:
        connection.execute("DELETE FROM quotes WHERE gateway = ? AND price_key = ?", (gateway, price_key))
