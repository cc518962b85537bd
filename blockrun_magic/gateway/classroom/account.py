"""A student's account at a classroom: joining, the pass, and the calls that show it.

On JupyterHub, the kernel joins with the token of its server, and joins again when the pass has expired; the token is
sent only to the address that the server was given. Elsewhere, a pass comes from a join code and is stored in a file.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from blockrun_magic.errors import BlockrunError, GatewayError, GatewayUnreachable, InvalidResponse, WalletMissing
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.classroom.protocol import Membership, read_membership
from blockrun_magic.gateway.classroom.refusals import PassRefused, code_of, refusal
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, classroom_at
from blockrun_magic.gateway.request import ImageRequest, PriceKey
from blockrun_magic.gateway.urls import checked_url
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.secrets import Secret, SecretHeaders
from blockrun_magic.payments.wallets.classroom_pass import ClassroomPass, HubProof, JoinedClassroom, PassFile

__all__ = ["BUSY", "SILENCE", "ClassroomAccount", "spread"]

BUSY = frozenset({429, 503})
"""Statuses that ask for a later repetition, and leave no record."""
SILENCE = 60.0
"""Seconds without a byte until an answer counts as lost; the service answers within half a minute."""
_JOIN_SILENCE = 20.0
_JOIN_PATIENCE = 60.0
_ATTEMPTS = 5
_MAX_WAIT = 10.0
_PRICE_MEMORY = 300.0
_MAX_PASS = 200


class ClassroomAccount:
    """The account of this process, used from the client's event loop; `proof` is the hub's, None elsewhere."""

    def __init__(self, client: Client, passes: PassFile, proof: HubProof | None) -> None:
        self._client = client
        self._passes = passes
        self._proof = proof
        self._tickets: dict[str, ClassroomPass] = {}
        self._prices: dict[PriceKey, tuple[float, int]] = {}
        self._joining = asyncio.Lock()
        self.turn = asyncio.Semaphore(2)
        """At most two orders at a time; more would be refused."""

    @property
    def hub_url(self) -> str | None:
        """The address that the server of this kernel was given on a hub, or None elsewhere; raises UsageError."""
        return None if self._proof is None else checked_url(self._proof.url, plain_http=True)

    def gateway(self, url: str) -> Gateway | None:
        """Return the joined classroom at `url`, or None if it was never joined; sends nothing. Raises WalletError."""
        joined = self._passes.read(url)
        return None if joined is None else classroom_at(url, joined.money)

    def known(self, address: str | None) -> Gateway | None:
        """Return the joined classroom of this kernel: the hub's, or the one at `address`; sends nothing.

        Raises UsageError for an address that cannot be used, and WalletError.
        """
        return self.gateway(self.hub_url or (checked_url(address) if address else ""))

    async def find(self, address: str | None) -> Gateway:
        """Return the classroom of this kernel, as `known`; on a hub, joins it if necessary."""
        return self.known(address) or (await self.join_on_hub())[0]

    # -- joining

    async def join(self, url: str, code: Secret, name: str | None = None) -> tuple[Gateway, Membership]:
        """Join the classroom at `url` with a code, and keep the pass in the file; raises BlockrunError.

        `name` is the student's, if the code is for several people.
        """
        # If the answer to the first attempt was lost and the code is used up, the same attempt may join once more.
        typed = SecretHeaders(code=str(code.reveal()).strip(), attempt=secrets.token_hex(16))
        if name:
            typed["name"] = name
        for _ in range(_ATTEMPTS):
            gateway, _membership = await self._join(url, typed, keep=True)
            try:
                return gateway, await self.membership(gateway)
            except PassRefused:
                # The network may have repeated the request, which ended this pass: only the newest of an attempt is
                # valid.
                continue
        raise InvalidResponse("The classroom issued an invalid pass.", "Ask your teacher for a new code.")

    async def join_on_hub(self) -> tuple[Gateway, Membership]:
        """Join the classroom of the hub with the token of this kernel's server; raises BlockrunError."""
        url = self.hub_url
        if self._proof is None or url is None:
            raise _not_joined()
        return await self._join(url, SecretHeaders(hub_token=str(self._proof.token.reveal())), keep=False)

    async def _join(self, url: str, proof: SecretHeaders, *, keep: bool) -> tuple[Gateway, Membership]:
        where = classroom_at(url, Realm.REAL)
        named = SecretHeaders()
        answer = await _politely(
            lambda: self._client.call("POST", where, "/v1/join", named, silence=_JOIN_SILENCE, body=proof)
        )
        if answer.status != 200 and not code_of(answer):
            raise InvalidResponse(
                f"There is no classroom at {url}.", "Compare the address with the one from your teacher."
            )
        if answer.status != 200:
            raise refusal(answer, proof)
        membership, ticket = read_membership(answer), _pass_in(answer)
        self._tickets[url] = ticket
        self._passes.write(JoinedClassroom(url, membership.money, ticket if keep else None))
        return classroom_at(url, membership.money), membership

    # -- calls with the pass

    def check(self, gateway: Gateway) -> None:
        """Raise WalletMissing without a pass for `gateway`; sends nothing."""
        if self._ticket(gateway) is None and gateway.base_url != self.hub_url:
            raise _not_joined()

    def headers(self, gateway: Gateway) -> SecretHeaders:
        """Return the header of the pass for `gateway`; raises WalletMissing without one."""
        ticket = self._ticket(gateway)
        if ticket is None:
            raise _not_joined()
        return ticket.headers()

    async def call(self, method: str, gateway: Gateway, path: str, **content: Any) -> Response:
        """Return the answer to a call with the pass; on a hub, a refused pass is renewed once."""
        ticket = await self._current(gateway)
        more = content.pop("headers", {})
        content.setdefault("silence", SILENCE)
        named = SecretHeaders({**more, **ticket.headers()})
        answer = await self._client.call(method, gateway, path, named, **content)
        if answer.status != 401 or code_of(answer) == "revoked":
            return answer
        if gateway.base_url != self.hub_url:
            self._tickets.pop(gateway.base_url, None)  # another kernel may have joined again meanwhile
            return answer
        async with self._joining:
            if self._tickets.get(gateway.base_url) is ticket:
                await self.join_on_hub()
        named = SecretHeaders({**more, **self._tickets[gateway.base_url].headers()})
        return await self._client.call(method, gateway, path, named, **content)

    async def membership(self, gateway: Gateway) -> Membership:
        """Return the student's membership at `gateway`, with the current limits; raises BlockrunError."""
        answer = await self.call("GET", gateway, "/v1/me", silence=_JOIN_SILENCE)
        if answer.status != 200:
            raise refusal(answer)
        membership = read_membership(answer)
        if membership.money != gateway.realm:
            self._passes.write(JoinedClassroom(gateway.base_url, membership.money, self._kept(gateway.base_url)))
        return membership

    def _kept(self, url: str) -> ClassroomPass | None:
        joined = self._passes.read(url)
        return None if joined is None else joined.ticket

    async def price(self, gateway: Gateway, request: ImageRequest, *, ahead: bool = False) -> int:
        """Return the class's price for `request` in micro-USDC: zero if the image is stored there.

        With `ahead`, a price of the last minutes for such a request is enough.
        """
        cached = self._prices.get(request.price_key)
        if ahead and cached is not None and time.monotonic() - cached[0] < _PRICE_MEMORY:
            return cached[1]
        body = {"path": request.endpoint, **request.body()}
        answer = await _politely(lambda: self.call("POST", gateway, "/v1/price", body=body))
        fields = answer.json()
        price = fields.get("price_micros") if isinstance(fields, Mapping) and answer.status == 200 else None
        if not isinstance(price, int) or isinstance(price, bool) or price < 0:
            raise refusal(answer) if answer.status != 200 else _no_price()
        self._prices[request.price_key] = (time.monotonic(), price)
        return 0 if fields.get("stored") is True and not ahead else price

    def forget_price(self, request: ImageRequest) -> None:
        """Forget a price that is no longer right."""
        self._prices.pop(request.price_key, None)

    async def _current(self, gateway: Gateway) -> ClassroomPass:
        """Return the pass for `gateway`; on a hub, requests a missing one."""
        if gateway.base_url != self.hub_url:
            self.check(gateway)
        async with self._joining:
            ticket = self._ticket(gateway)
            if ticket is None:
                await self.join_on_hub()
                ticket = self._tickets[gateway.base_url]
        return ticket

    def _ticket(self, gateway: Gateway) -> ClassroomPass | None:
        ticket = self._tickets.get(gateway.base_url)
        if ticket is None and (joined := self._passes.read(gateway.base_url)) is not None and joined.ticket is not None:
            ticket = self._tickets[gateway.base_url] = joined.ticket
        return ticket


def spread(seconds: float) -> float:
    """Return a wait from `seconds` to 1.5 times that, so that a whole class does not return at once."""
    return seconds * random.uniform(1.0, 1.5)  # noqa: S311  it keeps no secret


async def _politely(ask: Callable[[], Awaitable[Response]]) -> Response:
    """Return an answer of `ask` that is not "busy", waiting if a whole class starts in the same second."""
    started, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        fault: BlockrunError
        try:
            answer = await ask()
        except GatewayUnreachable as error:
            fault, wait = error, 0.25 * 2.0**attempt
            if attempt >= _ATTEMPTS:
                raise
        else:
            if answer.status not in BUSY:
                return answer
            fault, wait = refusal(answer), spread(min(answer.retry_after or 1.0, _MAX_WAIT))
        if time.monotonic() - started + wait > _JOIN_PATIENCE:
            raise fault
        await asyncio.sleep(wait)


def _pass_in(answer: Response) -> ClassroomPass:
    fields = answer.json()
    value, expires_at = Secret(str(fields.get("pass") or "")), fields.get("expires_at")
    if not 1 <= len(value.reveal()) <= _MAX_PASS or not str(value.reveal()).isascii():
        raise InvalidResponse("The classroom's answer has no pass.", "Ask your teacher for a new code.")
    return ClassroomPass(value, float(expires_at) if isinstance(expires_at, int | float) else None)


def _no_price() -> GatewayError:
    return InvalidResponse("The classroom's answer has no price.", "Run the cell again in a minute.")


def _not_joined() -> WalletMissing:
    return WalletMissing(
        "You have not joined a classroom in this environment.",
        "Run `%blockrun join URL` with the address and the code from your teacher.",
    )
