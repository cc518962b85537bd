"""Stories of a hostile merchant: random actions of a user in several kernels, and the invariants of money.

After each story: a take has at most one payment; the ledger counts at least the sum that was taken or can still be
taken; payments that can be cashed exceed no limit; every error is one of ours.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import httpx

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.network.transport import Transport
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.studio import Options, RetryPolicy, Studio
from blockrun_magic.studio.batch import BatchProgress, make_all
from fakes.gateway import picture_for, studio_over
from fakes.hostile import CLAWROUTER, GATEWAY, GREEDS, HostileMerchant
from harness.virtual_time import World, run_virtually

__all__ = ["Story", "tell"]

_PATIENCE = RetryPolicy(attempts=3, job=120)
_IMAGE, _SESSION, _DAY = 60_000, 150_000, 260_000
_SKEWS = (0, 0, 0, 0, 20, -20, 100, -100, 400, -400, 3600, -7200, 3 * 86_400, -30 * 86_400)
_SOURCE = Upload.from_file_bytes(picture_for("source"), "image/png")
_REQUESTS = (
    ImageRequest("generate", "a cat", "zai/cogview-4"),
    ImageRequest("generate", "a dog", "black-forest/flux-1.1-pro"),
    ImageRequest("generate", "two cats", "zai/cogview-4", n=2),
    ImageRequest("edit", "a blue cat", "openai/gpt-image-1", images=(_SOURCE,)),
    ImageRequest("edit", "a red cat", "google/nano-banana", images=(_SOURCE,)),
)


@dataclass
class Story:
    """One story: a user, a few kernels one after the other, and the merchant."""

    seed: int
    folder: Path
    rng: Random = field(init=False)
    world: World = field(init=False)
    merchant: HostileMerchant = field(init=False)
    allowed: dict[str, int] = field(default_factory=dict)
    """The highest allowed amount of a payload for a prompt, in micro-USDC."""
    skews: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311  a story is repeatable
        self.world = World()
        self.merchant = HostileMerchant(
            self.rng, self.world, greed=self.rng.choice(GREEDS), witness=self.rng.random() < 0.6
        )
        self.log = self.merchant.log

    # -- the actions

    async def run(self) -> None:
        """Run the story in two to four kernels, and check the ledger after each step and kernel."""
        skew = self.rng.choice(_SKEWS) if self.rng.random() < 0.3 else 0
        for kernel in range(self.rng.randint(2, 4)):
            self.merchant.kernel = kernel
            skew = self.rng.choice(_SKEWS) if kernel > 0 and self.rng.random() < 0.25 else skew
            self.merchant.flattery = skew if self.rng.random() < 0.5 else 0
            self.skews.add(skew)
            self.log.append(f"{self.world():.0f} kernel {kernel}, its clock {skew} s ahead")
            await self._kernel(kernel, skew)
            self.check()
        self.merchant.tick()
        self.check()

    async def _kernel(self, kernel: int, skew: float) -> None:
        clock = _Ahead(self.world, skew)
        # Late answers end with the kernel, and closing a kernel is part of the story.
        async with studio_over(
            self.folder, clock=clock, session=f"kernel {kernel}", retry=_PATIENCE, usage_logs=self.folder / "logs"
        ) as studio:
            studio.ledger.set_caps(image=_IMAGE, session=_SESSION, day=_DAY)
            for _ in range(self.rng.randint(1, 4)):
                await self._step(studio)
                self.merchant.tick()
                self.check()

    async def _step(self, studio: Studio) -> None:
        gateway = GATEWAY if self.rng.random() < 0.75 else CLAWROUTER
        steps: tuple[tuple[Callable[[Studio, Gateway], Awaitable[Any]], int], ...] = (
            (self._make, 10),
            (self._twice, 1),
            (self._batch, 1),
            (self._stopped, 2),
            (self._resume, 2),
            (self._reconcile, 2),
            (self._quote, 1),
        )
        step = self.rng.choices([step for step, _ in steps], [weight for _, weight in steps])[0]
        self.log.append(f"{self.world():.0f} {step.__name__.strip('_')} at {gateway.name}")
        try:
            await step(studio, gateway)
        except BlockrunError as error:
            self.log.append(f"{self.world():.0f} {type(error).__name__}: {error.message} | {error.hint}")
        except TimeoutError:
            self.log.append(f"{self.world():.0f} stopped")
        await asyncio.sleep(self.rng.choice((0, 0, 1, 30, 400, 1000, 4000)))

    def _ask(self) -> tuple[ImageRequest, Options]:
        request = self.rng.choice(_REQUESTS)
        limit = self.rng.choice((None, None, None, 30_000, 100_000, 700_000))
        most = _IMAGE * request.n if limit is None else limit
        self.allowed[request.prompt] = max(most, self.allowed.get(request.prompt, 0))
        return request, Options(max_price=limit, fresh=self.rng.random() < 0.15)

    async def _make(self, studio: Studio, gateway: Gateway) -> None:
        request, options = self._ask()
        self.log.append(f"  {request.prompt}, at most {options.max_price}, {'fresh' if options.fresh else ''}")
        result = await studio.make(request, gateway, options)
        self.log.append(f"  {len(result.images)} images, {result.receipt.amount}, cached: {result.receipt.cached}")

    async def _twice(self, studio: Studio, gateway: Gateway) -> None:
        request, options = self._ask()
        both = (studio.make(request, gateway, options) for _ in range(2))
        self._judge(await asyncio.gather(*both, return_exceptions=True))

    async def _batch(self, studio: Studio, gateway: Gateway) -> None:
        requests = self.rng.choices(_REQUESTS, k=3)
        for request in requests:
            self.allowed[request.prompt] = max(_IMAGE * request.n, self.allowed.get(request.prompt, 0))
        results = await make_all(studio, requests, gateway, Options(), BatchProgress(3), jobs=2)
        self.log.append(f"  {len(results)} results")

    async def _stopped(self, studio: Studio, gateway: Gateway) -> None:
        request, options = self._ask()
        await asyncio.wait_for(studio.make(request, gateway, options), self.rng.choice((0.001, 0.3, 3, 30)))

    async def _resume(self, studio: Studio, gateway: Gateway) -> None:
        ours = [purchase for purchase in studio.ledger.open_purchases() if purchase.gateway == gateway.name]
        if ours:
            await studio.resume(self.rng.choice(ours), gateway)

    async def _reconcile(self, studio: Studio, gateway: Gateway) -> None:
        await studio.reconcile(gateway)

    async def _quote(self, studio: Studio, gateway: Gateway) -> None:
        request, options = self._ask()
        await studio.quote(request, gateway, options)

    def _judge(self, outcomes: list[Any]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, BlockrunError):
                raise outcome

    # -- the invariants

    def check(self) -> None:
        """Raise AssertionError if the ledger and the moved money disagree."""
        rows = self._rows()
        booked = {row["nonce"]: row for row in rows if row["nonce"]}
        merchant = self.merchant
        nonces = dict.fromkeys(kept.nonce for kept in merchant.kept)
        assert nonces.keys() <= booked.keys(), "a signature left without a record"
        self._check_amounts(booked)
        self._check_one_payment_a_take(booked)
        self._check_clawrouter(rows)
        for kept in merchant.kept:
            prompt = booked[kept.nonce]["prompt"]
            assert kept.value <= self.allowed[prompt], f"{kept.value} was signed for {prompt}, above what is allowed"
        if len(self.skews) == 1:
            self._check_limits(list(nonces))

    def _check_amounts(self, booked: dict[str, sqlite3.Row]) -> None:
        for nonce in dict.fromkeys(kept.nonce for kept in self.merchant.kept):
            row, potential = booked[nonce], self.merchant.potential(nonce)
            counted = 0 if row["state"] == "released" else row["amount"]
            assert counted >= potential, f"{nonce[:8]}: the ledger counts {counted}, the chain can take {potential}"

    def _check_one_payment_a_take(self, booked: dict[str, sqlite3.Row]) -> None:
        cashable = defaultdict(list)
        for nonce in dict.fromkeys(kept.nonce for kept in self.merchant.kept):
            if self.merchant.potential(nonce):
                cashable[booked[nonce]["purchase_id"]].append(nonce[:8])
        assert {} == {purchase: names for purchase, names in cashable.items() if len(names) > 1}

    def _check_clawrouter(self, rows: list[sqlite3.Row]) -> None:
        for prompt, charges in self.merchant.charges.items():
            counted = [row for row in rows if row["prepaid"] and row["prompt"] == prompt and row["state"] != "released"]
            assert len(charges) <= len(counted), f"ClawRouter charged {prompt} more often than the ledger counts"
            assert sum(charges) <= sum(row["amount"] for row in counted)

    def _check_limits(self, nonces: list[str]) -> None:
        charged = [sum(charges) for charges in self.merchant.charges.values()]
        by_realm = {"practice": sum(map(self.merchant.potential, nonces)), "real": sum(charged)}
        if int((self.world() + min(self.skews)) // 86_400) == int((World().now + min(self.skews)) // 86_400):
            assert max(by_realm.values()) <= _DAY, f"the day's limit is passed: {by_realm}"
        for kernel in {kept.kernel for kept in self.merchant.kept}:
            exposed = sum(self._signed_in(kernel, nonce) for nonce in nonces)
            assert exposed <= _SESSION, f"the session's limit is passed in kernel {kernel}: {exposed}"

    def _signed_in(self, kernel: int, nonce: str) -> int:
        """Return the amount that a kernel's own signatures added to the possible payment of an authorization."""
        potential = self.merchant.potential(nonce)
        kept = [one for one in self.merchant.kept if one.nonce == nonce]
        before = max((one.value for one in kept if one.kernel < kernel), default=0)
        until = max((one.value for one in kept if one.kernel <= kernel), default=0)
        return max(0, min(potential, until) - min(potential, before))

    def _rows(self) -> list[sqlite3.Row]:
        query = """
            SELECT nonce, purchase_id, state, amount, prepaid, authorizations.realm,
                json_extract(request, '$.prompt') AS prompt
            FROM authorizations JOIN purchases ON purchases.id = purchase_id"""
        with closing(sqlite3.connect(self.folder / "ledger.sqlite")) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query).fetchall()


@dataclass(frozen=True)
class _Ahead:
    """A clock that is wrong by `skew` seconds."""

    world: World
    skew: float

    def __call__(self) -> float:
        return self.world() + self.skew


def tell(seed: int, folder: Path) -> None:
    """Run the story of `seed` in `folder`; raises AssertionError with the seed and the last events."""
    story = Story(seed, folder)
    random.seed(seed)  # for the jitter of retries

    async def answer(_transport: Any, request: httpx.Request) -> httpx.Response:
        return await story.merchant.answer(request)

    try:
        with mock.patch.object(Transport, "handle_async_request", answer):
            run_virtually(story.world, story.run())
    except Exception as error:
        happened = "\n".join(story.log[-80:])
        raise AssertionError(f"story {seed}: {type(error).__name__}: {error}\n{happened}") from error
    finally:
        story.merchant.close()
