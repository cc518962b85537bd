"""`%blockrun wallet`: the wallets, the one that pays, and its funding."""

from __future__ import annotations

from blockrun_magic.errors import UsageError, WalletError, WalletMissing
from blockrun_magic.gateway.gateways import Capability, Gateway
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.commands.status import describe_payer
from blockrun_magic.notebook.commands.wallet import keys
from blockrun_magic.notebook.commands.wallet.importing import import_key
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table, format_amount
from blockrun_magic.notebook.unlock import paying_wallet
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.wallets.evm import Wallet
from blockrun_magic.payments.wallets.private_key import contains_secret
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.wiring import wallet_for

__all__ = ["WALLET", "check_secret"]

_FORBIDDEN = ("forget", "delete", "remove", "rm")
_PRACTICE = "The practice wallet: its key is public and worthless. Never send money to it."


def _refuse_deletion(_context: Context, _arguments: Arguments) -> Card:
    raise UsageError(
        "Wallets cannot be deleted from here.",
        "Deleting the key makes its funds unrecoverable. Transfer them first, then delete the file yourself.",
    )


def check_secret(text: str) -> None:
    """Raise UsageError if a private key is on the line."""
    if contains_secret(text):
        raise UsageError(
            "A private key was typed on this line; the notebook and IPython's history now contain it.",
            "Remove it there, and move its funds to a new wallet. `%blockrun wallet import key` asks without showing.",
        )


def _summary(context: Context, _arguments: Arguments) -> Card:
    gateway = context.session.gateway
    rows = [("pays here", describe_payer(context, gateway))]
    if not gateway.prepaid:
        try:
            payer = wallet_for(gateway)
        except WalletMissing as error:
            return Message(f"{error.message}\n{error.hint}")
        rows = [("pays here", payer.address), ("key from", payer.source)]
        rows += [("because", payer.why)] if payer.why else []
        rows += [("encrypted", describe_lock(payer))] if payer.encrypted else []
        rows += [("careful", _PRACTICE)] if gateway.realm == Realm.PRACTICE else [("takes", gateway.money)]
        rows += [("careful", payer.warning)] if payer.warning else []
    others = [f"{name} {_address_words(wallet)}" for name, wallet in keys.wallets_here()]
    rows += [("wallets", ", ".join(others) or "none yet")]
    return Table(
        ("", ""),
        rows,
        title=f"The wallet at {gateway.label}",
        note="`%blockrun help wallet` lists the wallet commands.",
        left=2,
    )


def _list(_context: Context, _arguments: Arguments) -> Card:
    payer = _paying_source()
    rows = []
    for name, wallet in keys.wallets_here():
        if isinstance(wallet, WalletError):
            rows.append(("", name, "-", wallet.message))
            continue
        mark = "pays" if wallet.source == payer else ""
        rows.append(
            (mark, name, wallet.address, f"{wallet.source}{', ' + describe_lock(wallet) if wallet.encrypted else ''}")
        )
    if not rows:
        return Message("No wallets yet. Create one with `%blockrun wallet create`, or copy a key with `wallet import`.")
    note = "`%blockrun wallet use NAME` selects the paying wallet. Wallets are never deleted from here."
    return Table(("", "name", "address", "stored in"), rows, note=note, left=4)


def _address(context: Context, _arguments: Arguments) -> Card:
    gateway = context.session.gateway
    if gateway.prepaid:
        return _not_ours(context, gateway)
    wallet = wallet_for(gateway)
    how = f"Key from {wallet.source}. To fund it, send {gateway.money} to this address."
    if gateway.realm == Realm.PRACTICE:
        how = _PRACTICE
    return Message("\n".join([wallet.address, how, *([wallet.warning] if wallet.warning else [])]))


def _balance(context: Context, _arguments: Arguments) -> Card:
    studio, gateway = context.session.studio_and_gateway()
    if Capability.BALANCE not in gateway.capabilities:
        return Message(f"{gateway.name} does not report a balance.")
    balance = context.session.run(studio.balance(gateway))
    if balance is None:
        asked = describe_payer(context, gateway) if gateway.prepaid else "two RPC servers that agree"
        return Message(f"The balance is not available from {asked}.")
    text = f"{format_amount(balance.micros, gateway.realm)}, according to {balance.source}."
    empty = not balance.micros and not gateway.prepaid
    return Message(f"{text}\n`%blockrun wallet qr` shows where to send {gateway.money}." if empty else text)


def _qr(context: Context, arguments: Arguments) -> Card:
    from IPython.display import display

    from blockrun_magic.notebook.display.qr import QrCode

    gateway = context.session.gateway
    micros = arguments["AMOUNT"]
    if gateway.prepaid:
        return _not_ours(context, gateway)
    if gateway.realm == Realm.PRACTICE:
        return Message("Play money is free and refills automatically. Do not send real funds to this address.")
    network = gateway.networks[0]
    wallet = wallet_for(gateway)
    display(QrCode(network.payment_uri(wallet.address, micros)))
    amount = "USDC" if micros is None else format_amount(micros, gateway.realm)
    lines = [wallet.address, f"Scan it with a wallet app to send {amount}. Send it on {network.label} only."]
    return Message("\n".join(lines))


def _not_ours(context: Context, gateway: Gateway) -> Card:
    return Message(f"{gateway.name} does not use a wallet of yours. Payer: {describe_payer(context, gateway)}")


def _paying_source() -> str:
    try:
        return paying_wallet().source
    except WalletError:
        return ""


def describe_lock(wallet: Wallet | SolanaWallet) -> str:
    return "locked until its passphrase is given" if wallet.locked else "open in this session"


def _address_words(wallet: Wallet | WalletError) -> str:
    return "(cannot be used)" if isinstance(wallet, WalletError) else f"{wallet.address[:6]}…{wallet.address[-4:]}"


_ENCRYPT = Argument("--encrypt", "switch", "Protect the key file with a passphrase.")
_KEYRING = Argument("--keyring", "switch", "Store the passphrase in the system's keyring.")

WALLET = Command(
    "wallet",
    "The wallet that pays: create, fund, choose and back up wallets.",
    _summary,
    subcommands=(
        Command(
            "create",
            "Create a wallet and show its address.",
            keys.create,
            (Argument("NAME", help="The name of the wallet."), _ENCRYPT, _KEYRING),
            secret=True,
        ),
        Command(
            "import",
            "Copy a key from a file, another program's wallet, or a hidden prompt (`import key`).",
            import_key,
            (
                Argument("KEY", "path", "The word key, an address or a key file."),
                Argument("--solana", "switch", "Import the Solana key of the file."),
                Argument("--as", "text", "The name of the wallet.", "NAME"),
                _ENCRYPT,
                _KEYRING,
            ),
            secret=True,
        ),
        Command(
            "export",
            "Write the key of the paying wallet to a new file.",
            keys.export,
            (Argument("FILE", "path", "A new file to write to.", required=True), _ENCRYPT),
            secret=True,
        ),
        Command("list", "List the wallets here.", _list, secret=True),
        Command(
            "use",
            "Choose the wallet that pays.",
            keys.use,
            (Argument("NAME", help="The name of one wallet.", required=True),),
            secret=True,
        ),
        Command("unlock", "Ask for the wallet's passphrase, once per session.", keys.unlock, (_KEYRING,), secret=True),
        Command("address", "Show the paying address.", _address, secret=True),
        Command(
            "qr",
            "Show a QR code for funding the wallet.",
            _qr,
            (Argument("AMOUNT", "usd", "The amount in dollars."),),
            secret=True,
        ),
        Command("balance", "Show the wallet's balance.", _balance, secret=True),
        *(
            Command(
                name,
                "Wallets cannot be deleted from here.",
                _refuse_deletion,
                (Argument("NAME", many=True),),
                hidden=True,
                secret=True,
            )
            for name in _FORBIDDEN
        ),
    ),
    secret=True,
)
