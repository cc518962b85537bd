"""`%blockrun join`: join a classroom with a code, or on a hub with the token of the kernel's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.urls import checked_url
from blockrun_magic.notebook.commands.arguments import Argument, Arguments, Command
from blockrun_magic.notebook.commands.classroom.typed import forget_typed
from blockrun_magic.notebook.config_file import remember_classroom
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Card, Message
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.text import quoted
from blockrun_magic.wiring import blockrun_home, joined_address

if TYPE_CHECKING:
    from blockrun_magic.gateway.classroom.protocol import Membership
    from blockrun_magic.gateway.gateways import Gateway

__all__ = ["JOIN", "join", "membership_lines"]


def join(context: Context, arguments: Arguments) -> Card:
    """Join the classroom at an address; unless the code is on the line, a hidden prompt asks for it."""
    session = context.session
    account = session.studio.wallets.account()
    url, typed = arguments["URL"], Secret(arguments.pop("CODE", None) or "")
    hub = account.hub_url
    if hub is not None and not typed.reveal():
        if url is not None and checked_url(url, plain_http=True) != hub:
            raise UsageError(
                f"This kernel's classroom is {hub}: its server was started for that one.", "Run `%blockrun join`."
            )
        return _joined(context, *session.run(account.join_on_hub()))
    url = _address(url)
    code = typed if typed.reveal() else _asked()
    gateway, membership = session.run(account.join(url, code, arguments["--name"]))
    remember_classroom(blockrun_home(), url)
    notes = forget_typed(context.shell, typed)
    return _joined(context, gateway, membership, notes)


def _address(url: str | None) -> str:
    """Return the address to join: the one on the line, which must use https or be local, or the last one joined."""
    address = url or joined_address()
    if address is None:
        raise UsageError(
            "`join` needs the address of your classroom.",
            "Write: `%blockrun join https://class.example`, with the address that you got.",
        )
    if "://" not in address:
        raise UsageError(
            f"{quoted(address)} is not the address of a classroom.",
            "It begins with https://, as in `%blockrun join https://class.example`.",
        )
    return checked_url(address)


def _asked() -> Secret:
    from blockrun_magic.payments.wallets.passphrase import prompt_hidden

    code = prompt_hidden("Code from your teacher (it is not shown): ")
    if code is None:
        raise UsageError(
            "The code must be typed, and this session has no keyboard.", "Run `%blockrun join URL` in a notebook."
        )
    return code


def _joined(context: Context, gateway: Gateway, membership: Membership, notes: tuple[str, ...] = ()) -> Card:
    context.session.selection.set_classroom(gateway)
    lines = [f"You have joined the classroom at {gateway.base_url}.", *membership_lines(membership), *notes]
    if context.session.selection.name != gateway.name:
        lines.append("Next: `%blockrun use classroom`, then make an image.")
    return Message("\n".join(lines))


def membership_lines(membership: Membership) -> list[str]:
    """Return a student's name in the class, and what the teacher can see."""
    groups = f", in {' and '.join(membership.groups)}" if membership.groups else ""
    identity = [f"You are {membership.name}{groups}."] if membership.name else []
    paused = ["Your teacher has paused the class: stored images still work."] if membership.paused else []
    return [*identity, membership.notice, *paused]


JOIN = Command(
    "join",
    "Join your class with the address and the code from your teacher.",
    join,
    (
        Argument("URL", "text", "The address of the classroom; without it, the one that you joined last."),
        Argument("CODE", "text", "The code; without it, you are asked and nothing is shown.", many=True),
        Argument("--name", "text", "Your name in the class, where the code is for several people.", "NAME"),
    ),
    secret=True,
)
