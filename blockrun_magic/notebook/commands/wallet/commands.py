"""`%blockrun wallet`: which wallets there are, which one pays and why, and how to fund it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blockrun_magic.errors import FlagError, WalletError, WalletMissing
from blockrun_magic.notebook.commands.status import describe_payer
from blockrun_magic.notebook.commands.wallet import keys
from blockrun_magic.notebook.commands.wallet.importing import import_key
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table, format_amount
from blockrun_magic.notebook.unlock import paying_wallet
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.private_key import contains_secret
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["USAGE", "wallet"]

_FORBIDDEN = ("forget", "delete", "remove", "rm")
_PRACTICE = "The practice wallet: its key is public and worthless. Never send money to it."


def wallet(context: Context, words: Sequence[str]) -> Card:
    """Return what a word of `wallet` says; without one, which wallet pays, and why."""
    if contains_secret(" ".join(words)):
        raise FlagError(
            "A key was typed on this line: the notebook and IPython's history hold it now.",
            "Remove it there, and move its money to a new wallet. `%blockrun wallet import key` asks without showing.",
        )
    if not words:
        return _summary(context)
    word, *rest = words
    if word in _FORBIDDEN:
        raise FlagError(
            "No wallet is ever deleted from here.",
            "Who deletes a key deletes its money: move that first, then remove the file yourself.",
        )
    run = _WORDS.get(word)
    if run is None:
        raise FlagError(
            f"`wallet` knows no word {quoted(word)}.",
            f"{did_you_mean(word, _WORDS)}It knows {', '.join(_WORDS)}.",
        )
    return run(context, rest)


def _summary(context: Context) -> Card:
    gateway = context.session.gateway
    rows = [("pays here", describe_payer(context))]
    if not gateway.prepaid:
        try:
            found = _payer(context)
        except WalletMissing as error:
            return Message(f"{error.message}\n{error.hint}")
        rows = [("pays here", found.address), ("key from", found.source)]
        rows += [("because", found.why)] if found.why else []
        rows += [("encrypted", describe_lock(found))] if found.encrypted else []
        rows += [("careful", _PRACTICE)] if gateway.realm == "practice" else [("takes", gateway.money)]
        rows += [("careful", found.warning)] if found.warning else []
    others = [f"{name} {_address_words(kept)}" for name, kept in keys.wallets_here()]
    rows += [("wallets", ", ".join(others) or "none yet")]
    return Table(("", ""), rows, title=f"The wallet at {gateway.label}", note=f"Words: {', '.join(_WORDS)}.", left=2)


def _list(_context: Context, words: Sequence[str]) -> Card:
    _no_more(words, "list")
    payer = _paying_source()
    rows = []
    for name, kept in keys.wallets_here():
        if isinstance(kept, WalletError):
            rows.append(("", name, "-", kept.message))
            continue
        mark = "pays" if kept.source == payer else ""
        rows.append((mark, name, kept.address, f"{kept.source}{', ' + describe_lock(kept) if kept.encrypted else ''}"))
    if not rows:
        return Message("There is no wallet yet. `%blockrun wallet create` makes one, `wallet import` takes one over.")
    note = "`%blockrun wallet use NAME` chooses who pays. None is ever deleted from here: a file is yours to remove."
    return Table(("", "name", "address", "kept in"), rows, note=note, left=4)


def _address(context: Context, words: Sequence[str]) -> Card:
    _no_more(words, "address")
    gateway = context.session.gateway
    if gateway.prepaid:
        return _not_ours(context)
    found = _payer(context)
    how = f"Key from {found.source}. To fund it, send {gateway.money} to this address."
    if gateway.realm == "practice":
        how = _PRACTICE
    return Message("\n".join([found.address, how, *([found.warning] if found.warning else [])]))


def _balance(context: Context, words: Sequence[str]) -> Card:
    _no_more(words, "balance")
    studio, gateway = context.session.studio_and_gateway()
    if not gateway.can("balance"):
        return Message(f"At {gateway.name}, {gateway.limitations[-1]}.")
    found = context.session.run(studio.balance(gateway))
    if found is None:
        asked = describe_payer(context) if gateway.prepaid else "neither the gateway nor two RPC servers that agree"
        return Message(f"Nobody could say: {asked}.")
    said = f"{format_amount(found.micros, gateway.realm)}, says {found.source}."
    empty = not found.micros and not gateway.prepaid
    return Message(f"{said}\n`%blockrun wallet qr` shows where to send {gateway.money}." if empty else said)


def _qr(context: Context, words: Sequence[str]) -> Card:
    from IPython.display import display

    from blockrun_magic.notebook.display.qr import QrCode, funding_uri

    _no_more(words[1:], "qr [AMOUNT]")
    gateway = context.session.gateway
    micros = _amount(words[0]) if words else None
    if gateway.realm == "practice":
        return Message("Play money is free and fills up by itself: nothing has to be sent, and nothing must be.")
    if gateway.prepaid:
        return _not_ours(context)
    network = gateway.networks[0]
    found = _payer(context)
    display(QrCode(funding_uri(network, found.address, micros)))
    amount = "USDC" if micros is None else format_amount(micros, gateway.realm)
    lines = [found.address, f"Scan it with a wallet app to send {amount} on {network.label}, and on no other network."]
    return Message("\n".join(lines))


def _no_more(words: Sequence[str], usage: str) -> None:
    if words:
        raise FlagError("That is a word too many for `wallet`.", f"Write: %blockrun wallet {usage}.")


def _amount(text: str) -> int:
    try:
        return parse_usd(text)
    except ValueError as error:
        raise FlagError(f"`qr` takes an amount in dollars: {error}.", "For example: %blockrun wallet qr 5.") from None


def _not_ours(context: Context) -> Card:
    return Message(f"At {context.session.gateway.name} nothing is signed here. Who pays: {describe_payer(context)}")


def _payer(context: Context) -> Wallet | SolanaWallet:
    from blockrun_magic.wiring import wallet_for

    return wallet_for(context.session.gateway)


def _paying_source() -> str:
    try:
        return paying_wallet().source
    except WalletError:
        return ""


def describe_lock(found: Wallet | SolanaWallet) -> str:
    return "locked until its passphrase is given" if found.locked else "open in this session"


def _address_words(kept: Wallet | WalletError) -> str:
    return "(cannot be used)" if isinstance(kept, WalletError) else f"{kept.address[:6]}…{kept.address[-4:]}"


_WORDS: dict[str, Callable[[Context, Sequence[str]], Card]] = {
    "create": keys.create,
    "import": import_key,
    "export": keys.export,
    "list": _list,
    "use": keys.use,
    "unlock": keys.unlock,
    "address": _address,
    "qr": _qr,
    "balance": _balance,
}
USAGE = f"wallet [{'|'.join(_WORDS)}]"
