"""The gateway at a glance, what requests would cost there, and who pays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError, WalletError
from blockrun_magic.notebook.cards import Card, Table, money_words, quotes_card
from blockrun_magic.notebook.context import Context
from blockrun_magic.payments.money import format_usd
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.snapshot import Model
    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["models", "overview", "payer_words", "price"]

_REFRESH = "--refresh"


def overview(context: Context, _words: Sequence[str]) -> Card:
    """Return gateway, wallet, spend and caps at a glance."""
    from blockrun_magic.payments.reports import spending

    studio, gateway = context.session.ready()
    realm, caps = gateway.realm, studio.ledger.caps()
    now, day = (spending(studio.ledger, realm, when) for when in ("session", "today"))
    at_risk = spending(studio.ledger, realm, "all").at_risk
    rows = [
        ("gateway", f"{gateway.label}, {context.session.why}"),
        ("wallet", payer_words(context)),
        *(("but", clause) for clause in gateway.shortcomings),
        ("this session", f"{money_words(now.settled, realm)} of {format_usd(caps.session)}"),
        ("today (UTC)", f"{money_words(day.settled, realm)} of {format_usd(caps.day)}"),
        ("at risk", f"{money_words(at_risk, realm)} sent with an open end; see `%blockrun jobs`"),
        ("cap per image", format_usd(caps.image)),
    ]
    return Table(("", ""), rows, title="blockrun", note="`%blockrun help` lists what can be said.", left=2)


def models(context: Context, words: Sequence[str]) -> Card:
    """Return the catalogue, or the part of it that has a word in it; `--refresh` asks the gateway for its own list."""
    studio, gateway = context.session.ready()
    refresh = _REFRESH in words
    words = [word for word in words if word != _REFRESH]
    if refresh:
        context.session.run(studio.catalogues.refresh(gateway))
    else:
        context.session.refresh_catalogue(gateway)
    catalog = studio.catalog_at(gateway)
    found = catalog.search(" ".join(words)) if words else catalog.models
    source = f"{gateway.name}'s own list" if catalog.live else "List prices"
    quoted = "the gateway's quote decides and is shown before you pay"
    if not gateway.can("quote"):
        quoted = "they are reserved, and booked as estimated unless the answer names its own"
    return Table(
        ("--model", "id", "good for", "sizes", "edits", "a picture"),
        [_model_row(model) for model in found],
        title=f"{len(found)} image models",
        note=f"{source} of {catalog.as_of}; {quoted}.",
        left=5,
    )


def _model_row(model: Model) -> tuple[str, ...]:
    prices = sorted({price for size in model.sizes if (price := model.price(size, None)) is not None})
    cost = " to ".join(format_usd(price) for price in dict.fromkeys((prices[0], prices[-1]))) if prices else "by quote"
    edits = f"up to {model.max_images}{', mask' if model.takes_mask else ''}" if model.edits else "no"
    edits = "not known" if model.unverified else edits
    good_for = model.good_for if model.served else "not served here any more"
    return model.name, model.id, good_for, ", ".join(model.sizes[:3]), edits, cost


def price(context: Context, words: Sequence[str]) -> Card:
    """Return what a request, or Run All of a notebook, would cost; asking is free."""
    if words and words[0].lower().endswith(".ipynb"):
        return _notebook_price(context, words)
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.notebook.cells.flags import parse_flags

    flags = parse_flags("imagegen", " ".join(words))
    studio, gateway = context.session.ready(flags.gateway)
    catalog = studio.catalog_at(gateway)
    model = catalog.resolve(flags.models[0]) if flags.models else catalog.default_model("generate")
    request = ImageRequest(
        operation="generate",
        prompt=flags.prompt or "a picture",
        model=model,
        size=flags.sizes[0] if flags.sizes else catalog.default_size(model),
        quality=flags.quality,
        n=flags.n or 1,
    )
    quote = context.session.run(studio.quote(request, gateway))
    return quotes_card([request], [quote])


def _notebook_price(context: Context, words: Sequence[str]) -> Card:
    from blockrun_magic.notebook.cells.forecast import forecast, forecast_card

    if len(words) > 1:
        raise FlagError("`price` takes one notebook.", "For example: %blockrun price lesson.ipynb.")
    return forecast_card(forecast(Path(words[0]).expanduser(), context.session, blockrun_home()))


def payer_words(context: Context) -> str:
    """Return who pays at the gateway: a wallet of ours, ClawRouter's, or an account."""
    from blockrun_magic.gateway.gateways import PaidBy
    from blockrun_magic.payments.api_key import find_api_key
    from blockrun_magic.wiring import wallet_for

    gateway = context.session.gateway
    if gateway.paid_by is PaidBy.PROXY:
        return _proxy_words(context, gateway)
    try:
        if gateway.paid_by is PaidBy.CREDIT:
            return f"the account of the API key in {find_api_key(os.environ).source}"
        found = wallet_for(gateway)
    except WalletError as error:
        return error.what
    return f"{found.address} ({found.source}{', locked' if found.locked else ''})"


def _proxy_words(context: Context, gateway: Gateway) -> str:
    from blockrun_magic.gateway.clawrouter import clawrouter_health

    health = context.session.run(clawrouter_health(context.session.studio.client, gateway, full=True))
    if health is None:
        return f"no ClawRouter answers at {gateway.base_url}"
    held = "" if health.balance is None else f", holds {format_usd(health.balance)}"
    return f"ClawRouter's own: {health.wallet or 'an API key'}{f' on {health.chain}' if health.chain else ''}{held}"
