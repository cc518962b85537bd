"""The words of `%blockrun`, as one table: running them, their help and completion read it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blockrun_magic.errors import FlagError, WalletError
from blockrun_magic.notebook.cards import Card, Message, Table, money_words
from blockrun_magic.payments.money import format_usd, parse_usd
from blockrun_magic.suggest import did_you_mean

if TYPE_CHECKING:
    from blockrun_magic.notebook.session import Session

__all__ = ["COMMANDS", "Command", "run_command"]

_PERIODS = {"session": "this session", "today": "today (UTC)", "all": "since the beginning"}


@dataclass(frozen=True, slots=True)
class Command:
    """One word of `%blockrun`: how it is used, what it does, and the function that does it."""

    name: str
    usage: str
    help: str
    run: Callable[[Session, Sequence[str]], Card]


def run_command(session: Session, line: str) -> None:
    """Run what `line` says and show its card; raises FlagError for words that are none of ours."""
    from blockrun_magic.notebook.showing import show

    word, _, rest = line.strip().partition(" ")
    if not word:
        show(_overview(session, ()))
        return
    command = COMMANDS.get(word)
    if command is None:
        raise FlagError(
            f"%blockrun knows no word {word[:40]!r}.",
            f"{did_you_mean(word, COMMANDS)}`%blockrun help` lists them all.",
        )
    words = (rest.strip(),) if command.name == "price" else _split(rest)
    show(command.run(session, words))


def _split(text: str) -> Sequence[str]:
    try:
        return tuple(shlex.split(text, posix=True))
    except ValueError:
        raise FlagError("The quotes on this line do not pair up.", "Close the quote, or leave it out.") from None


def _overview(session: Session, _: Sequence[str]) -> Card:
    gateway, ledger = session.gateway, session.studio.ledger
    realm = gateway.realm
    from blockrun_magic.payments.reports import spending

    now, caps = spending(ledger, realm, "session"), ledger.caps()
    day = spending(ledger, realm, "today")
    rows = [
        ("gateway", f"{gateway.label}, {session.why}"),
        ("wallet", _wallet_words(session)),
        ("this session", f"{money_words(now.settled, realm)} of {format_usd(caps.session)}"),
        ("today (UTC)", f"{money_words(day.settled, realm)} of {format_usd(caps.day)}"),
        ("at risk", f"{money_words(day.at_risk, realm)} signed, with an open end"),
        ("cap per image", format_usd(caps.image)),
    ]
    return Table(("", ""), rows, title="blockrun", note="`%blockrun help` lists what can be said.", left=2)


def _wallet_words(session: Session) -> str:
    from blockrun_magic.wiring import wallet_for

    try:
        wallet = wallet_for(session.gateway)
    except WalletError as error:
        return error.what
    return f"{wallet.address} ({wallet.source})"


def _use(session: Session, words: Sequence[str]) -> Card:
    if len(words) != 1:
        raise FlagError(
            "`use` takes the name of one gateway.",
            "For example: %blockrun use practice, or %blockrun use base.",
        )
    gateway = session.use(words[0])
    networks = ", ".join(network.label for network in gateway.networks)
    kind = {
        "practice": "play money only: nothing here costs anything, and every picture is stamped PRACTICE",
        "testnet": f"test money on {networks}",
    }.get(gateway.realm, f"real USDC on {networks}")
    return Message(f"Requests go to {gateway.label}: {kind}.")


def _models(session: Session, words: Sequence[str]) -> Card:
    catalog = session.studio.catalog
    models = catalog.search(" ".join(words)) if words else catalog.models
    rows = []
    for model in models:
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


def _price(session: Session, words: Sequence[str]) -> Card:
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.notebook.cards import quote_card
    from blockrun_magic.notebook.flags import parse_flags

    flags, studio = parse_flags("imagegen", words[0]), session.studio
    model = studio.catalog.resolve(flags.models[0]) if flags.models else studio.catalog.default_model("generate")
    request = ImageRequest(
        operation="generate",
        prompt=flags.prompt or "a picture",
        model=model,
        size=flags.sizes[0] if flags.sizes else studio.catalog.default_size(model),
        quality=flags.quality,
        n=flags.n or 1,
    )
    quote = session.run(studio.quote(request, session.gateway))
    return quote_card(quote, request.model, request.size)


def _spend(session: Session, words: Sequence[str]) -> Card:
    from blockrun_magic.payments.reports import spending, spending_by_model

    ledger, realm = session.studio.ledger, session.gateway.realm
    when = words[0] if words else "session"
    if when not in _PERIODS or len(words) > 1:
        raise FlagError(f"`spend` knows no period {' '.join(words)!r}.", f"Use one of {', '.join(_PERIODS)}.")
    rows = [
        (model, str(count), format_usd(settled), format_usd(at_risk))
        for model, count, settled, at_risk in spending_by_model(ledger, realm, when)
    ]
    total = spending(ledger, realm, when)
    rows.append(("total", str(total.payments), format_usd(total.settled), format_usd(total.at_risk)))
    kind = {"practice": "Play money", "testnet": "Test money"}.get(realm, "Real USDC")
    others = [f"{name}: {format_usd(spending(ledger, realm, name).settled)}" for name in _PERIODS if name != when]
    return Table(
        ("model", "payments", "spent", "at risk"),
        rows,
        title=f"{kind} spent {_PERIODS[when]}",
        note=" · ".join(others),
    )


def _budget(session: Session, words: Sequence[str]) -> Card:
    ledger = session.studio.ledger
    changes: dict[str, int] = {}
    pairs = iter(" ".join(words).replace("=", " ").split())
    for word in pairs:
        name, amount = word.removeprefix("--"), next(pairs, "")
        if not word.startswith("--") or name not in ("image", "session", "day"):
            raise FlagError(
                f"`budget` knows no cap {word[:40]!r}.",
                "For example: %blockrun budget --image 0.10 --session 2 --day 5.",
            )
        try:
            changes[name] = parse_usd(amount)
        except ValueError as error:
            raise FlagError(
                f"The cap {word} needs an amount in dollars: {error}.", f"For example: {word} 0.50."
            ) from None
    caps = ledger.set_caps(**changes) if changes else ledger.caps()
    rows = [(name, format_usd(getattr(caps, name))) for name in ("image", "session", "day")]
    return Table(("cap", "dollars"), rows, title="Never more than", note="Shared by all kernels; a day is a UTC day.")


def _wallet(session: Session, words: Sequence[str]) -> Card:
    from blockrun_magic.wiring import wallet_for

    what = words[0] if words else "address"
    if what == "address":
        wallet = wallet_for(session.gateway)
        networks = ", ".join(network.label for network in session.gateway.networks)
        lines = [
            wallet.address,
            f"Key from {wallet.source}. Send USDC on {networks} to this address to fund it.",
        ]
        if session.gateway.realm == "practice":
            lines[1] = "The practice wallet: its key is public and worthless. Never send money to it."
        return Message("\n".join([*lines, *([wallet.warning] if wallet.warning else [])]))
    if what == "balance":
        found = session.run(session.studio.balance(session.gateway))
        if found is None:
            return Message("Nobody could say: neither the gateway nor two RPC servers that agree.")
        return Message(f"{money_words(found.micros, session.gateway.realm)}, says {found.source}.")
    raise FlagError(f"`wallet` knows no word {what!r}.", "Use `%blockrun wallet address` or `wallet balance`.")


def _help(_session: Session, _words: Sequence[str]) -> Card:
    rows = [(f"%blockrun {command.usage}", command.help) for command in COMMANDS.values()]
    rows.insert(0, ("%blockrun", "Gateway, wallet, spend and caps at a glance."))
    return Table(("line", "what it does"), rows, left=2)


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("use", "use practice|base|testnet|URL", "Where requests go.", _use),
        Command("models", "models [WORD]", "The image models: prices, sizes, what each can do.", _models),
        Command("price", "price [--model M] [--size S] [-n K]", "What a request costs; asking is free.", _price),
        Command("spend", "spend [session|today|all]", "What was spent, by model.", _spend),
        Command("budget", "budget [--image $] [--session $] [--day $]", "Show or change the caps.", _budget),
        Command("wallet", "wallet [address|balance]", "The wallet that pays.", _wallet),
        Command("help", "help", "This list.", _help),
    )
}
