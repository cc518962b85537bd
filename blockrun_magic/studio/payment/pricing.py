"""Prices of requests: quoted by the gateway, cached, or estimated from the catalog."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from blockrun_magic.errors import InvalidResponse, Money, RequestError, TermsRefused
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, Catalog
from blockrun_magic.gateway.chain.status import chain_time
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.gateway.responses import Response, error_from_response
from blockrun_magic.gateway.uploads import UNSUPPORTED_BODY_STATUSES, send
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.limits import NO_CAPS, check_agreed, check_markup, check_price
from blockrun_magic.payments.ledger.price_cache import cache_quote, cached_quote
from blockrun_magic.payments.x402.protocol import PaymentRequirements, read_challenge, select_requirements
from blockrun_magic.studio.options import Options
from blockrun_magic.studio.payment.probe import asking, may_buy, remember_quotes, remember_seller
from blockrun_magic.studio.payment.signers import check_clock, is_clock_right
from blockrun_magic.studio.payment.unasked import AnsweredUnasked
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from blockrun_magic.gateway.classroom.account import ClassroomAccount

__all__ = [
    "Price",
    "cached_price",
    "check_offer",
    "classroom_price",
    "fetch_price",
    "list_price",
    "placeholder_image",
]


_ACCEPTED = 202


_PAYMENT_REQUIRED = 402


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a request, in micro-USDC: the gateway's `terms`, or an estimate if it quotes none.

    `money` names the means of payment: "Base", "prepaid credit of the account".
    """

    amount: int
    money: str
    terms: PaymentRequirements | None = None
    exact: bool = False
    """Whether the price is a classroom's, which has no terms."""

    @property
    def estimated(self) -> bool:
        """Whether the amount is our list price instead of the gateway's quote."""
        return self.terms is None and not self.exact


def list_price(gateway: Gateway, request: ImageRequest, catalog: Catalog, max_price: int | None) -> Price:
    """Return the list price of `request` if the gateway quotes none, else the most that it may cost.

    The higher price of the gateway's own list and of our snapshot is reserved. Raises RequestError for a model
    without a list price, unless `max_price` is the amount to reserve.
    """
    prices = (catalog.list_price(request.price_key), SNAPSHOT.list_price(request.price_key))
    price = max((price for price in prices if price is not None), default=max_price)
    if price is None:
        raise RequestError(
            f"{gateway.name} quotes no price, and {request.model} at {request.size} has no list price.",
            "Set the amount to reserve with --max-price, or choose a model from `%blockrun models`.",
        )
    return Price(price, gateway.money)


async def classroom_price(
    account: ClassroomAccount, gateway: Gateway, request: ImageRequest, *, ahead: bool = False
) -> Price:
    """Return the class's price for `request`; with `ahead`, one of the last minutes. Raises BlockrunError."""
    asked = _with_tiny_images(request) if request.images else request
    return Price(await account.price(gateway, asked, ahead=ahead), gateway.money, exact=True)


def check_offer(ledger: Ledger, gateway: Gateway, request: ImageRequest, amount: int, options: Options) -> None:
    """Raise BudgetError unless `amount` for `request` is within every bound that needs no sum of payments.

    In a class, its own limits decide, and the list price is not compared.
    """
    in_class = gateway.paid_by is Payer.CLASSROOM
    check_price(amount, request.n, ledger.caps(NO_CAPS) if in_class else ledger.caps(), options.max_price)
    check_markup(amount, None if in_class else SNAPSHOT.list_price(request.price_key), options.max_price)
    check_agreed(amount, options.handling.agreed)


async def fetch_price(
    client: Client,
    ledger: Ledger,
    gateway: Gateway,
    request: ImageRequest,
    payer: str,
    job: str | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> PaymentRequirements:
    """Return the gateway's price for `request` as validated terms, and cache it; nothing is signed to learn it.

    `job` is the address of a slow job: if it asks for a payment, its price counts. If a `payer` will sign the
    terms, our clock has to agree with the gateway's. Raises TermsRefused for terms that we do not sign, ClockError,
    GatewayError for any other answer than a 402, UsageError for an address that may be a ClawRouter.
    """
    async with asking(client, ledger, gateway):
        started = clock()
        answer = None if job is None else await client.get(gateway, job)
        of_job = answer is not None and answer.status == _PAYMENT_REQUIRED
        if answer is None or not of_job:
            answer = await _send_unpaid(client, ledger, gateway, request)
        if answer.status in (200, _ACCEPTED):
            raise await run_io(_answered_unasked, ledger, gateway, request, answer)
        if answer.status != _PAYMENT_REQUIRED:
            raise error_from_response(answer, gateway)
        challenge = read_challenge(answer.headers, answer.body)
        terms = select_requirements(challenge, gateway.networks, gateway.base_url, payer)
        await run_io(remember_quotes, ledger, gateway)
    date = answer.date if answer.date is not None or not payer else await chain_time(client, gateway)
    if payer:
        check_clock(gateway.name, date, started, clock())
    if not of_job and is_clock_right(date, started, clock()):  # a job's price is its own
        await run_io(cache_quote, ledger, gateway.name, str(request.price_key), terms)
    return terms


def _answered_unasked(ledger: Ledger, gateway: Gateway, request: ImageRequest, answer: Response) -> InvalidResponse:
    """Return the error for an answered request without payment; an address that may have bought is not asked again."""
    message = f"{gateway.name} answered without asking for a payment"
    if not may_buy(gateway):
        hint = "This is the gateway's fault; try again later or use another gateway."
        return InvalidResponse(f"{message}.", hint, Money.nothing_signed())
    remember_seller(ledger, gateway)
    return AnsweredUnasked(
        f"{message}: it may have paid on its own.",
        "Choose another gateway with `%blockrun use`; a ClawRouter is `%blockrun use clawrouter`.",
        Money.unknown(SNAPSHOT.list_price(request.price_key) or 0, estimated=True),
        answer,
    )


def cached_price(ledger: Ledger, gateway: Gateway, request: ImageRequest, payer: str) -> PaymentRequirements | None:
    """Return the gateway's terms of the last hour for such a request, validated, or None if it must be asked.

    On Solana the gateway is always asked: a second signature could be cashed in addition to the first.
    """
    quoted = cached_quote(ledger, gateway.name, str(request.price_key))
    if quoted is None:
        return None
    try:
        terms = select_requirements(quoted, gateway.networks, gateway.base_url, payer)
    except TermsRefused:
        return None
    return terms if terms.network.shares_nonces else None


async def _send_unpaid(client: Client, ledger: Ledger, gateway: Gateway, request: ImageRequest) -> Response:
    """Send `request` without a payment, its images replaced by tiny ones; return the response.

    The price does not depend on them (gateway protocol, section 3), and megabytes are sent only once. A gateway
    that refuses the tiny images is asked with the real ones.
    """
    if request.images:
        answer = await send(client, ledger, gateway, _with_tiny_images(request))
        if answer.status not in UNSUPPORTED_BODY_STATUSES:
            return answer
    return await send(client, ledger, gateway, request)


def _with_tiny_images(request: ImageRequest) -> ImageRequest:
    images = tuple(placeholder_image("RGB") for _ in request.images)
    return replace(request, images=images, mask=None if request.mask is None else placeholder_image("L"))


@cache
def placeholder_image(mode: str = "RGB") -> Upload:
    """Return a white image of 64x64, sent instead of a real one to ask for a price."""
    from PIL import Image

    from blockrun_magic.images.conversion import to_upload

    return to_upload(Image.new(mode, (64, 64), "white"))
