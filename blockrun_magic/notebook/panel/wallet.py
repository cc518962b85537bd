"""The Wallet tab: the gateway, creating, importing and funding a wallet, and the limits."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import CLASSROOM, PRACTICE_NAME, PRESETS, Gateway
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.limits import LimitSliders
from blockrun_magic.notebook.panel.widgets import Notice, button, field, html, row, section, show_if
from blockrun_magic.notebook.subshells import route_to_subshell
from blockrun_magic.notebook.web.module import script
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.private_key import read_key
from blockrun_magic.payments.wallets.registry import DEFAULT, WalletRegistry, new_key
from blockrun_magic.threads import run_io
from blockrun_magic.wiring import ENVIRON, joined_address

if TYPE_CHECKING:
    from blockrun_magic.studio import Studio

__all__ = ["WalletTab"]

_POLL_INTERVAL = 5.0
_POLLS = 360


class _SecretField(anywidget.AnyWidget):
    """A field for a key, which arrives as one message and never becomes part of the widget's state."""

    _esm = script("secret.js")
    description = traitlets.Unicode().tag(sync=True)

    def __init__(self, description: str, take: Callable[[Secret], None]) -> None:
        super().__init__(description=description)
        route_to_subshell(self)

        def receive(_: object, content: Any, _buffers: object) -> None:
            if isinstance(content, dict) and isinstance(content.get("value"), str):
                take(Secret(content["value"]))

        self.on_msg(receive)


class WalletTab:
    """The tab about money; `changed` is called when the gateway, the wallet or a limit has changed."""

    def __init__(self, context: Context, dispatcher: Dispatcher, changed: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._changed = changed
        self._watching: asyncio.Task[None] | None = None
        self.notice = Notice()
        self._gateway = field(light.Dropdown(description="Gateway", options=self._names()))
        self._create = button("Create a wallet", "Make a new key on this machine")
        self._secret = _SecretField("Private key of a wallet that you have", self._typed)
        self._import = section("Import a wallet", self._secret)
        self._fund = html("", "brm-fund")
        self._limits = LimitSliders(context, dispatcher, changed)
        dispatcher.on_change(self._gateway, self._choose_gateway)
        dispatcher.on_click(self._create, self._create_wallet)
        self.box = light.VBox(
            [
                self._gateway,
                row(self._create),
                self._import,
                self.notice.box,
                self._fund,
                *self._limits.parts,
            ]
        )
        self.box.add_class("brm-wallet-tab")

    def _names(self) -> tuple[str, ...]:
        joined = (CLASSROOM,) if ENVIRON.get("BLOCKRUN_CLASSROOM_URL") or joined_address() else ()
        return tuple(dict.fromkeys((PRACTICE_NAME, *joined, *PRESETS, self._context.session.gateway.name)))

    # -- display

    async def refresh(self) -> None:
        """Show the wallet of the gateway in use; if it is empty, wait for its first dollar."""
        session = self._context.session
        studio, gateway = session.studio_and_gateway()
        self._gateway.options = self._names()
        self._gateway.value = gateway.name
        await self._limits.refresh()
        signs_here = gateway.realm != Realm.PRACTICE and not gateway.prepaid
        show_if(self._create, signs_here)
        show_if(self._import, signs_here)
        if not signs_here:
            self._fund.value = ""
            return
        try:
            address = await run_io(lambda: studio.wallets.wallet_for(gateway).address)
        except BlockrunError:
            self._fund.value = ""
            return
        show_if(self._create, visible=False)
        await self._show_funding(studio, gateway, address)

    async def _show_funding(self, studio: Studio, gateway: Gateway, address: str) -> None:
        balance = None
        with suppress(BlockrunError):  # the header shows the reason
            balance = await studio.balance(gateway)
        micros = None if balance is None else balance.micros
        waiting = not micros
        status = "Waiting for your first dollar …" if waiting else f"Balance: {format_usd(micros or 0)}"
        code = await run_io(_qr, gateway, address) if waiting else ""
        self._fund.value = (
            f"<p>Your wallet: <code>{escape(address)}</code></p>"
            f'<p role="status"><b>{escape(status)}</b></p>{code}'
            f'<p class="brm-quiet">Send {escape(gateway.money)} to this address; a few dollars are enough.</p>'
        )
        if waiting and self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(address))

    async def _watch(self, address: str) -> None:
        """Refresh the balance until the first dollar has arrived."""
        try:
            for _ in range(_POLLS):
                await asyncio.sleep(_POLL_INTERVAL)
                studio, gateway = self._context.session.studio_and_gateway()
                if gateway.realm == Realm.PRACTICE or self._context.session.studio is not studio:
                    return
                try:
                    balance = await studio.balance(gateway)
                except BlockrunError:
                    continue
                if balance is not None and balance.micros:
                    await self._show_funding(studio, gateway, address)
                    await self._changed()
                    return
        finally:
            self._watching = None

    # -- actions

    async def _choose_gateway(self) -> None:
        session = self._context.session
        if self._gateway.value == session.gateway.name:
            return
        await run_io(session.selection.use, self._gateway.value)
        await self._changed()

    async def _create_wallet(self) -> None:
        await run_io(self._keep, new_key())
        self.notice.info("A new wallet was created. Keep a copy of its key file in a safe place.")
        await self._changed()

    def _typed(self, secret: Secret) -> None:
        self._dispatcher.schedule(lambda: self._import_key(secret))

    async def _import_key(self, secret: Secret) -> None:
        self.notice.clear()
        try:
            key = await run_io(read_key, secret, "the field")
            if isinstance(key, BlockrunError):
                raise key
            await run_io(self._keep, key)
        except BlockrunError as error:
            self.notice.error(error, error.hint)
            return
        self.notice.info("The wallet was imported; it pays from now on.")
        await self._changed()

    def _keep(self, key: Secret) -> None:
        registry = WalletRegistry.of(ENVIRON, Path.home())
        taken = set(registry.names())
        name = next(name for name in (DEFAULT, *(f"wallet-{n}" for n in range(2, 1000))) if name not in taken)
        registry.save_key(name, key)
        registry.select(name)

    def close(self) -> None:
        """Stop watching the balance."""
        if self._watching is not None:
            self._watching.cancel()


def _qr(gateway: Gateway, address: str) -> str:
    from blockrun_magic.notebook.display.qr import QrCode

    png = base64.b64encode(QrCode(gateway.networks[0].payment_uri(address, None)).png).decode("ascii")
    return f'<img class="brm-qr" alt="QR code of the wallet\'s address" src="data:image/png;base64,{png}">'
