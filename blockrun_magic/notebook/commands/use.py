"""`%blockrun use`: choose the gateway by name, by URL, or automatically."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import UsageError, WalletError, WalletMissing
from blockrun_magic.gateway.gateways import CLASSROOM, PRACTICE_NAME, PRESETS, Payer
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.commands.classroom.card import enter
from blockrun_magic.notebook.config_file import remember_gateway, remembered_gateway
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message, Table
from blockrun_magic.payments.realm import Realm
from blockrun_magic.wiring import ENVIRON, blockrun_home, joined_address, wallet_for

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["USE", "use"]

_GATEWAY = "|".join((PRACTICE_NAME, CLASSROOM, *PRESETS, "auto", "URL"))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A gateway for real money, and the reason to use it or not."""

    name: str
    usable: bool
    reason: str


def use(context: Context, arguments: Arguments) -> Card:
    """Send requests to the named gateway, or with `auto` to a detected one; without a name, list the choices."""
    name = arguments[_GATEWAY]
    if name is None:
        return _choices(context)
    lines: list[str] = []
    why = None
    if name.lower() == "auto":
        name, why, lines = _found(context, confirmed=bool(arguments["--yes"]))
    reset = bool(arguments["--reset-book"])
    if reset and name.lower() != PRACTICE_NAME:
        raise UsageError("Only practice has a ledger of its own.", "Write: `%blockrun use practice --reset-book`.")
    gateway = context.session.selection.use(_with_path(name, arguments["--path"]), why, reset_ledger=reset)
    if gateway.paid_by is Payer.CLASSROOM:
        gateway, more = enter(context, gateway)
        lines += more
    lines.append(f"Requests go to {gateway.label}: {_money_words(gateway)}.")
    lines += [f"{clause[0].upper()}{clause[1:]}." for clause in gateway.limitations]
    if arguments["--remember"]:
        lines.append(f"Saved in {remember_gateway(blockrun_home(), gateway.name)} for new kernels.")
    context.session.submit(context.session.studio.prewarm(gateway))
    context.session.refresh_catalog(gateway)
    return Message("\n".join(lines))


def _with_path(name: str, path: str | None) -> str:
    """Return the name of the endpoint at `path` of the URL `name`."""
    if path is None:
        return name
    if "://" not in name:
        raise UsageError(
            "--path belongs to a URL.", "For example: `%blockrun use https://example.com --path /generate`."
        )
    return f"{name.rstrip('/')}#{path}"


def _money_words(gateway: Gateway) -> str:
    if gateway.paid_by is Payer.CLASSROOM:
        kind = "play" if gateway.realm == Realm.PRACTICE else "test" if gateway.realm == Realm.TESTNET else "real"
        return f"your class pays for you, with {kind} money and within your limits (`%blockrun` shows them)"
    if gateway.realm == Realm.PRACTICE:
        return "play money only. Nothing here costs anything, and every image is stamped PRACTICE"
    kind = "test money" if gateway.realm == Realm.TESTNET else "real money"
    return f"{kind}, {gateway.money}"


def _choices(context: Context) -> Card:
    """Return the current gateway and the choices; starts nothing and sends nothing."""
    try:
        current = context.session.gateway
    except UsageError as error:  # an invalid name was chosen; cells raise the same error
        rows, title, name = [], f"No gateway is in use. {error.message}", ""
    else:
        rows = [("in use", current.name, current.base_url, _short_money(current))]
        title, name = f"Requests go to {current.label}, {context.session.selection.reason}", current.name
    if name != PRACTICE_NAME:
        rows.append(("", PRACTICE_NAME, "this machine, started when it is used", "play money"))
    if name != CLASSROOM:
        rows.append(("", CLASSROOM, joined_address() or "`%blockrun join URL` first", "the money of your class"))
    others = (_preset(context, other) for other in PRESETS if other != name)
    rows += [("", gateway.name, gateway.base_url, _short_money(gateway)) for gateway in others]
    return Table(
        ("", "gateway", "address", "paid with"),
        rows,
        title=title,
        note="`use NAME` selects another. A URL names any x402 image endpoint; `use auto` looks for a wallet.",
        left=4,
    )


def _preset(context: Context, name: str) -> Gateway:
    try:
        return context.session.selection.gateway_named(name)
    except UsageError:  # the variable that sets its URL is invalid
        return PRESETS[name]


def _short_money(gateway: Gateway) -> str:
    if gateway.paid_by is Payer.CLASSROOM:
        return gateway.money
    if gateway.realm == Realm.PRACTICE:
        return "play money"
    return f"test money, {gateway.money}" if gateway.realm == Realm.TESTNET else gateway.money


def _found(context: Context, *, confirmed: bool) -> tuple[str, str, list[str]]:
    """Return the gateway to use, the reason, and the detected key.

    Real money is used only if the user has saved that choice, or confirms it with `--yes`.
    """
    candidates = _look_around(context)
    lines = [f"{candidate.name}: {candidate.reason}" for candidate in candidates]
    saved = remembered_gateway(blockrun_home())
    if saved is not None:
        return saved, "the saved choice of `%blockrun use auto`", lines
    best = next((candidate for candidate in candidates if candidate.usable), None)
    if best is None:
        return PRACTICE_NAME, "chosen by `%blockrun use auto`: no wallet, ClawRouter or API key was detected", lines
    if confirmed:
        return best.name, f"detected by `%blockrun use auto` and confirmed: {best.reason}", lines
    lines.append(f"To spend real money, run `%blockrun use {best.name}`, or `%blockrun use auto --yes`.")
    return PRACTICE_NAME, "chosen by `%blockrun use auto` until you confirm real money", lines


def _look_around(context: Context) -> list[_Candidate]:
    """Return the gateways for real money in order of preference: first those whose payments can be proven."""
    return [_wallet(context), _account(), _proxy(context)]


def _wallet(context: Context) -> _Candidate:
    try:
        wallet = wallet_for(context.session.selection.gateway_named("base"))
    except WalletMissing:
        return _Candidate("base", False, "no wallet found")
    except WalletError as error:
        return _Candidate("base", False, error.message)
    return _Candidate("base", True, f"a wallet, from {wallet.source}; prices are quoted, charges proven")


def _account() -> _Candidate:
    from blockrun_magic.payments.wallets.api_key import find_api_key

    try:
        key = find_api_key(ENVIRON, Path.home())
    except WalletMissing:
        return _Candidate("account", False, "no API key found")
    except WalletError as error:
        return _Candidate("account", False, error.message)
    return _Candidate("account", True, f"an API key, from {key.source}; prices are estimated")


def _proxy(context: Context) -> _Candidate:
    gateway = context.session.selection.gateway_named("clawrouter")
    health = context.session.run(context.session.studio.clawrouter(gateway))
    if health is None:
        return _Candidate("clawrouter", False, f"no ClawRouter answers at {gateway.base_url}")
    return _Candidate("clawrouter", True, f"a ClawRouter answers at {gateway.base_url}; prices are estimated")


USE = Command(
    "use",
    "Choose the gateway that requests go to, or list the choices.",
    use,
    (
        Argument(
            _GATEWAY,
            "gateway",
            "The gateway: practice, classroom, base, a URL, another name, or auto to look for one.",
        ),
        Argument("--path", "text", "The path of an endpoint that is not at /v1/images/generations.", "PATH"),
        Argument("--yes", "switch", "Let auto choose real money."),
        Argument("--remember", "switch", "Use it in every new kernel."),
        Argument("--reset-book", "switch", "Start practice on a new ledger; the old file is renamed."),
    ),
)
