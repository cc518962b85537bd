"""The card of `%blockrun`: practice or real money, balance, spend against limits, money at risk, the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockrun_magic.notebook.display.cards import Card, to_html, with_code
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm

__all__ = ["Overview", "Spend", "overview_card"]

_KINDS = {
    Realm.PRACTICE: ("PRACTICE: play money", "#2f6fde"),
    Realm.TESTNET: ("TEST MONEY", "#6d4fc0"),
    Realm.REAL: ("REAL MONEY", "#b3470b"),
}
_BADGE = "display:inline-block;color:#ffffff;border-radius:4px;padding:1px 8px;font-weight:bold;font-size:0.9em"
_LEFT = "text-align:left;vertical-align:top;padding:2px 14px 2px 0;white-space:nowrap"
_RIGHT = "text-align:left;vertical-align:top;padding:2px 0"
_TRACK = "display:inline-block;width:180px;height:10px;border:1px solid #8a8a8a;border-radius:5px;margin-right:10px"
_PART = "display:inline-block;height:10px;vertical-align:top"
_SPENT, _AT_RISK = "#3a9e68", "#d39a1f"
_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Spend:
    """Spend of one period against its limit, in micro-USDC; `at_risk` can still be charged, `more` is appended."""

    label: str
    settled: int
    at_risk: int
    limit: int
    more: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """Contents of `%blockrun`; `rows` are names and values, `steps` the next things to do."""

    realm: Realm
    rows: Sequence[tuple[str, str]]
    spend: Sequence[Spend]
    steps: Sequence[str]


def overview_card(overview: Overview) -> Card:
    """Return the overview as text and as HTML."""
    kind, color = _KINDS.get(overview.realm, _KINDS[Realm.REAL])
    rows = [*overview.rows, *((each.label, _amounts(each)) for each in overview.spend)]
    width = max(len(name) for name, _ in rows)
    bars = {each.label: _text_bar(each) for each in overview.spend}
    lines = [kind, *(f"{name.ljust(width)}  {bars.get(name, '')}{value}".rstrip() for name, value in rows)]
    text = "\n".join([*lines, *(f"Next: {step}" for step in overview.steps), "`%blockrun help` lists all commands."])
    drawn = {each.label: _html_bar(each) for each in overview.spend}
    body = "".join(
        f'<tr><td style="{_LEFT}">{to_html(name)}</td>'
        f'<td style="{_RIGHT}">{drawn.get(name, "")}{with_code(value)}</td></tr>'
        for name, value in rows
    )
    steps = "".join(f"<div><b>Next:</b> {with_code(step)}</div>" for step in overview.steps)
    html = (
        f'<div><span style="{_BADGE};background:{color}">{kind}</span><table>{body}</table>{steps}'
        '<div style="font-size:0.9em;opacity:0.8"><code>%blockrun help</code> lists all commands.</div></div>'
    )
    return Card(text, html)


def _amounts(spend: Spend) -> str:
    risk = f", {format_usd(spend.at_risk)} at risk" if spend.at_risk else ""
    return f"{format_usd(spend.settled)} of {format_usd(spend.limit)}{risk}{spend.more}"


def _shares(spend: Spend) -> tuple[float, float]:
    """Return the parts of the bar for spent and at risk, together at most 1."""
    if not spend.limit:
        return 0.0, 0.0
    settled = min(1.0, spend.settled / spend.limit)
    return settled, min(1.0 - settled, spend.at_risk / spend.limit)


def _text_bar(spend: Spend) -> str:
    settled, risk = (round(part * _WIDTH) for part in _shares(spend))
    return f"[{'#' * settled}{'?' * risk}{'.' * max(0, _WIDTH - settled - risk)}] "


def _html_bar(spend: Spend) -> str:
    settled, risk = _shares(spend)
    parts = "".join(
        f'<span style="{_PART};width:{part:.1%};background:{color}"></span>'
        for part, color in ((settled, _SPENT), (risk, _AT_RISK))
        if part
    )
    return f'<span style="{_TRACK}">{parts}</span>'
