"""Where requests go, what they would cost there, and who pays."""

from __future__ import annotations

from collections.abc import Sequence

from blockrun_magic.errors import FlagError, WalletError
from blockrun_magic.notebook.cards import Card, Message, Table, money_words, quotes_card
from blockrun_magic.notebook.context import Context
from blockrun_magic.payments.money import format_usd

__all__ = ["models", "overview", "price", "use", "wallet"]


def overview(context: Context, _words: Sequence[str]) -> Card:
    """Return gateway, wallet, spend and caps at a glance."""
    from blockrun_magic.payments.reports import spending

    studio, gateway = context.session.ready()
    realm, caps = gateway.realm, studio.ledger.caps()
    now, day = (spending(studio.ledger, realm, when) for when in ("session", "today"))
    at_risk = spending(studio.ledger, realm, "all").at_risk
    rows = [
        ("gateway", f"{gateway.label}, {context.session.why}"),
        ("wallet", _wallet_words(context)),
        ("this session", f"{money_words(now.settled, realm)} of {format_usd(caps.session)}"),
        ("today (UTC)", f"{money_words(day.settled, realm)} of {format_usd(caps.day)}"),
        ("at risk", f"{money_words(at_risk, realm)} sent with an open end; see `%blockrun jobs`"),
        ("cap per image", format_usd(caps.image)),
    ]
    return Table(("", ""), rows, title="blockrun", note="`%blockrun help` lists what can be said.", left=2)


def use(context: Context, words: Sequence[str]) -> Card:
    """Send requests to the gateway that is named."""
    if len(words) != 1:
        raise FlagError(
            "`use` takes the name of one gateway.",
            "For example: %blockrun use practice, or %blockrun use base.",
        )
    gateway = context.session.use(words[0])
    networks = ", ".join(network.label for network in gateway.networks)
    kind = {
        "practice": "play money only. Nothing here costs anything, and every picture is stamped PRACTICE",
        "testnet": f"test money on {networks}",
    }.get(gateway.realm, f"real USDC on {networks}")
    return Message(f"Requests go to {gateway.label}: {kind}.")


def models(context: Context, words: Sequence[str]) -> Card:
    """Return the catalogue, or the part of it that has a word in it."""
    catalog = context.session.ready()[0].catalog
    found = catalog.search(" ".join(words)) if words else catalog.models
    rows = []
    for model in found:
        prices = sorted({price for size in model.sizes if (price := model.price(size, None)) is not None})
        cost = " to ".join(format_usd(price) for price in dict.fromkeys((prices[0], prices[-1])))
        edits = "no"
        if model.edits:
            edits = f"up to {model.max_images}{', mask' if model.takes_mask else ''}"
        name = model.shorthands[0] if model.shorthands else model.id
        rows.append((name, model.id, model.good_for, ", ".join(model.sizes[:3]), edits, cost))
    return Table(
        ("--model", "id", "good for", "sizes", "edits", "a picture"),
        rows,
        title=f"{len(rows)} image models",
        note=f"List prices of {catalog.as_of}; the gateway's quote decides and is shown before you pay.",
        left=5,
    )


def price(context: Context, words: Sequence[str]) -> Card:
    """Return what a request would cost; asking is free."""
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.notebook.flags import parse_flags

    studio, gateway = context.session.ready()
    flags, catalog = parse_flags("imagegen", " ".join(words)), studio.catalog
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


def wallet(context: Context, words: Sequence[str]) -> Card:
    """Return the address that pays, or what it holds."""
    what = words[0] if words else "address"
    if what == "address":
        return _address(context)
    if what == "balance":
        studio, gateway = context.session.ready()
        found = context.session.run(studio.balance(gateway))
        if found is None:
            return Message("Nobody could say: neither the gateway nor two RPC servers that agree.")
        return Message(f"{money_words(found.micros, gateway.realm)}, says {found.source}.")
    raise FlagError(
        f"`wallet` knows no word {what[:40]!r}.", "Use `%blockrun wallet address` or `%blockrun wallet balance`."
    )


def _address(context: Context) -> Card:
    from blockrun_magic.wiring import wallet_for

    gateway = context.session.gateway
    found = wallet_for(gateway)
    networks = ", ".join(network.label for network in gateway.networks)
    how = f"Key from {found.source}. To fund it, send USDC on {networks} to this address."
    if gateway.realm == "practice":
        how = "The practice wallet: its key is public and worthless. Never send money to it."
    return Message("\n".join([found.address, how, *([found.warning] if found.warning else [])]))


def _wallet_words(context: Context) -> str:
    from blockrun_magic.wiring import wallet_for

    try:
        found = wallet_for(context.session.gateway)
    except WalletError as error:
        return error.what
    return f"{found.address} ({found.source})"
