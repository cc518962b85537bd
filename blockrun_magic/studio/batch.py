"""Batches: many requests that are priced and reserved together, and made in parallel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from blockrun_magic.errors import BlockrunError, BudgetError, Money
from blockrun_magic.garbage import give_back_memory, only_new_garbage
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest, PriceKey
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, NO_CAPS, check_agreed
from blockrun_magic.payments.money import format_usd
from blockrun_magic.studio.payment.pricing import check_offer
from blockrun_magic.studio.progress import Progress
from blockrun_magic.studio.results.batch import Failure, ImageResults
from blockrun_magic.studio.results.pixels import PixelBudget
from blockrun_magic.studio.results.result import ImageResult, Quote
from blockrun_magic.studio.studio import Options, Studio
from blockrun_magic.threads import run_cpu, run_io, start_threads

__all__ = ["DEFAULT_JOBS", "BatchProgress", "make_all", "quote_all"]

DEFAULT_JOBS = 8
_FEW = 8
"""Number of images below which little memory can be returned."""


@dataclass(slots=True)
class BatchProgress:
    """A running batch; `total` and `spent` are in micro-USDC, `started` on the monotonic clock."""

    count: int
    total: int | None = None
    done: int = 0
    failed: int = 0
    spent: int = 0
    stage: str = "asking the price"
    hint: str = ""
    """A warning that the wallet holds less than the batch costs, or an empty string."""
    failed_at_risk: int = 0
    """Micro-USDC that failed requests have cost or may have cost, according to the ledger."""
    parts: list[Progress] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def eta(self) -> float | None:
        """Estimated seconds left at the current speed, or None before the first result."""
        ended = self.done + self.failed
        return self.elapsed / ended * (self.count - ended) if ended else None

    @property
    def in_flight(self) -> list[Progress]:
        """The parts whose payment was sent and whose images have not arrived."""
        return [part for part in self.parts if part.sent]

    @property
    def undecided(self) -> int:
        """Number of running parts whose payment may not have been sent yet."""
        return sum(part.running and not part.sent for part in self.parts)


async def make_all(
    studio: Studio,
    requests: Sequence[ImageRequest],
    gateway: Gateway,
    options: Options,
    progress: BatchProgress,
    jobs: int = DEFAULT_JOBS,
) -> ImageResults:
    """Return the results of all `requests`, at most `jobs` at a time.

    The total is checked against the limits first: raises BudgetError, RequestError or GatewayError before
    anything is signed. Afterwards a failed request does not stop the others. Stored images cost nothing, so that
    running a batch again pays only for the missing images.
    """
    if not options.unchecked:
        for request in requests:
            studio.catalogs.at(gateway).check(request)
    pixels = PixelBudget((request.size, request.n) for request in requests)
    options = replace(options, handling=replace(options.handling, pixels=pixels), unchecked=True)  # checked by now
    prices = await _priced(studio, requests, gateway, options)
    total = sum(prices)
    progress.total, progress.stage = total, "making"
    defaults = NO_CAPS if gateway.paid_by is Payer.CLASSROOM else DEFAULT_CAPS
    hold = await run_io(studio.ledger.hold, gateway.realm, total, defaults) if total else None
    parts = [_part(options, hold, price) for price in prices]
    warning = asyncio.create_task(_warn(studio, gateway, progress, total))  # not awaited: it is only a hint
    try:
        with only_new_garbage():
            outcomes = await _side_by_side(studio, requests, gateway, parts, progress, jobs)
    finally:
        warning.cancel()
        if hold is not None:
            await run_io(studio.ledger.drop_hold, hold)
    results = [outcome for outcome in outcomes if isinstance(outcome, ImageResult)]
    failures = [
        Failure(index, requests[index].to_record(), outcome)
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, BlockrunError)
    ]
    return ImageResults(results, failures)


def _part(options: Options, hold: int | None, price: int) -> Options:
    """Return the options of one request; its limit is its own price, so that it cannot use the others' share."""
    max_price = None if options.max_price is None else price
    handling = options.handling
    handling = replace(handling, hold=hold, agreed=None if handling.agreed is None else price)
    return replace(options, max_price=max_price, handling=handling)


async def quote_all(
    studio: Studio, requests: Sequence[ImageRequest], gateway: Gateway, options: Options, *, ahead: bool = False
) -> list[Quote]:
    """Return the quote of each request, asking once for each kind; raises RequestError or GatewayError.

    With `ahead`, quotes of the last hour are used again.
    """
    quotes = await _quotes(studio, requests, gateway, options, ahead=ahead)
    stored = await run_io(_are_stored, studio, requests, gateway, options)
    return [
        replace(quotes[request.price_key], cached=is_stored)
        for request, is_stored in zip(requests, stored, strict=True)
    ]


async def _quotes(
    studio: Studio, requests: Sequence[ImageRequest], gateway: Gateway, options: Options, *, ahead: bool
) -> dict[PriceKey, Quote]:
    """Return one quote for each kind of request."""
    kinds = {request.price_key: request for request in requests}
    asked = (studio.quote(request, gateway, options, ahead=ahead) for request in kinds.values())
    return dict(zip(kinds, await asyncio.gather(*asked), strict=True))


def _are_stored(studio: Studio, requests: Sequence[ImageRequest], gateway: Gateway, options: Options) -> list[bool]:
    return [studio.is_stored(request, gateway, options) for request in requests]


async def _warn(studio: Studio, gateway: Gateway, progress: BatchProgress, total: int) -> None:
    """Set the hint of `progress` when the wallet holds less than `total` micro-USDC."""
    with suppress(BlockrunError):
        balance = await studio.balance(gateway)
        if balance is None:
            return
        # The balance may already include payments that were made or sent meanwhile.
        paid = progress.spent + sum(part.price or 0 for part in progress.in_flight)
        if balance.micros + paid < total:
            held = format_usd(balance.micros)
            progress.hint = (
                f"only {held} is left of your limits: some of these will be refused"
                if gateway.paid_by is Payer.CLASSROOM
                else f"the wallet holds only {held}: fund it, or some of these will be refused"
            )


async def _priced(studio: Studio, requests: Sequence[ImageRequest], gateway: Gateway, options: Options) -> list[int]:
    """Return the price of each request in micro-USDC, zero for stored images; raises BudgetError."""
    stored = await run_io(_are_stored, studio, requests, gateway, options)
    missing = [request for request, is_stored in zip(requests, stored, strict=True) if not is_stored]
    if missing:
        await run_cpu(studio.wallets.check, gateway)  # a missing key fails once, before anything is sent
    quotes = await _quotes(studio, missing, gateway, options, ahead=True)
    for request in {request.price_key: request for request in missing}.values():
        await run_io(check_offer, studio.ledger, gateway, request, quotes[request.price_key].total, options)
    total = sum(quotes[request.price_key].total for request in missing)
    check_agreed(total, options.handling.agreed)
    if options.max_price is not None and total > options.max_price:
        raise BudgetError(
            f"These {len(missing)} requests cost {format_usd(total)}, more than the {format_usd(options.max_price)}"
            " that you allowed.",
            f"Allow it with --max-price {format_usd(total)}, or ask for fewer.",
            Money.nothing_signed(),
        )
    prices = zip(requests, stored, strict=True)
    return [0 if is_stored else quotes[request.price_key].total for request, is_stored in prices]


async def _side_by_side(
    studio: Studio,
    requests: Sequence[ImageRequest],
    gateway: Gateway,
    options: Sequence[Options],
    progress: BatchProgress,
    jobs: int,
) -> list[ImageResult | BlockrunError]:
    # Twice as many parts as `jobs`: while the gateway makes images, others are prepared or stored.
    await start_threads(min(2 * jobs, len(requests)))
    turn, slot = asyncio.Semaphore(2 * jobs), asyncio.Semaphore(jobs)

    async def one(request: ImageRequest, its_options: Options) -> ImageResult | BlockrunError:
        async with turn:
            part = Progress()
            progress.parts.append(part)
            try:
                handling = replace(its_options.handling, slot=slot)
                result = await studio.make(request, gateway, replace(its_options, handling=handling), part)
            except BlockrunError as error:
                progress.failed += 1
                progress.failed_at_risk += error.money.amount if error.money is not None else 0
                progress.parts.remove(part)
                return error
        progress.done += 1
        progress.spent += result.cost_micros
        progress.parts.remove(part)
        return result

    outcomes = await asyncio.gather(*map(one, requests, options))
    if len(requests) > _FEW:
        await run_cpu(give_back_memory)
    return list(outcomes)
