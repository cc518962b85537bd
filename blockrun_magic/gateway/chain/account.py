"""Prepaid accounts: the credit that is left, and the account's own list of charges.

`GET /v1/credits` and `GET /v1/usage` (gateway protocol, section 9). Both are free, and both need the account's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from blockrun_magic.errors import GatewayError
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.payments.money import read_micros
from blockrun_magic.text import sanitize

__all__ = ["Charge", "Credit", "Usage", "account_credit", "account_usage"]

_MAX_MICROS = 10**15
_MAX_PAGES = 20
_PAGE = 100
_MARGIN = 60.0
"""Seconds by which the account's clock may be ahead of ours."""
_CHARGED, _FREE = "priced", "free"


@dataclass(frozen=True, slots=True)
class Credit:
    """An account's credit in micro-dollars; `blocked` is the reason why it cannot be spent, or None."""

    remaining: int
    blocked: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """One request in an account's usage: its time (Unix seconds), endpoint, model and micro-dollars.

    `decided` is False while the account has not priced the request yet.
    """

    at: float
    endpoint: str
    model: str
    micros: int
    decided: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """An account's requests, oldest first; `complete` if every requested day is included.

    `now` is the time of the list by the account's own clock (Unix seconds), or None if it is unknown.
    """

    charges: tuple[Charge, ...]
    complete: bool
    now: float | None = None


async def account_credit(client: Client, gateway: Gateway, headers: Mapping[str, str]) -> Credit | None:
    """Return the credit of the account that `headers` open, or None if the account does not answer."""
    body = await _get(client, gateway, "/v1/credits", headers)
    remaining = None if body is None else read_micros(body.get("remaining_usd"), _MAX_MICROS, -_MAX_MICROS)
    if body is None or remaining is None:
        return None
    reason = sanitize(body.get("blocked_reason") or "no reason given", 80)
    return Credit(remaining, reason if body.get("blocked") is True else None)


async def account_usage(
    client: Client, gateway: Gateway, headers: Mapping[str, str], since: float, until: float
) -> Usage | None:
    """Return the account's requests from `since` to `until` (Unix seconds), or None if it does not list them."""
    charges: list[Charge] = []
    complete = True
    now: float | None = None
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page: dict[str, str] = {"cursor": cursor} if cursor else {}
        asked = {"from": _iso(since), "to": _iso(until + _MARGIN), "limit": _PAGE, **page}
        answer = await _answer(client, gateway, f"/v1/usage?{urlencode(asked)}", headers)
        body = None if answer is None else answer.json()
        if answer is None or not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
            return None
        now = now or answer.date  # the time of the first page, since later pages may be newer than its entries
        charges += _charges(body["data"])
        complete = complete and not body.get("unavailable_days")
        cursor = body.get("next_cursor")
        if not isinstance(cursor, str) or not cursor:
            return Usage(tuple(sorted(charges, key=lambda charge: charge.at)), complete, now)
    return Usage(tuple(sorted(charges, key=lambda charge: charge.at)), complete=False)


async def _get(client: Client, gateway: Gateway, path: str, headers: Mapping[str, str]) -> Mapping[str, Any] | None:
    answer = await _answer(client, gateway, path, headers)
    body = None if answer is None else answer.json()
    return body if isinstance(body, Mapping) else None


async def _answer(client: Client, gateway: Gateway, path: str, headers: Mapping[str, str]) -> Response | None:
    try:
        answer = await client.get(gateway, path, headers)
    except GatewayError:
        return None
    return answer if answer.status == 200 else None


def _charges(entries: Iterable[Any]) -> list[Charge]:
    charges = (_charge(entry) for entry in entries if isinstance(entry, Mapping))
    return [charge for charge in charges if charge is not None]


def _charge(entry: Mapping[str, Any]) -> Charge | None:
    at, model, state = _time(entry.get("timestamp")), entry.get("model"), entry.get("cost_state")
    micros = 0 if state == _FREE else read_micros(entry.get("cost_usd"), _MAX_MICROS)
    if at is None or not isinstance(model, str):
        return None
    decided = state in (_CHARGED, _FREE) and micros is not None
    return Charge(at, sanitize(entry.get("endpoint") or "", 80), sanitize(model, 120), micros or 0, decided)


def _time(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < 10**11 else None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(max(seconds, 0.0), UTC):%Y-%m-%dT%H:%M:%SZ}"
