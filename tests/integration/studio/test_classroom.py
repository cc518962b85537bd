"""Payments through a classroom: the effect of each answer on the student's ledger. The service here is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.errors import BlockrunError, BudgetError, Fate, PaymentOutcomeUnknown
from blockrun_magic.gateway.classroom.account import ClassroomAccount
from blockrun_magic.gateway.classroom.refusals import ClassLimitReached, ClassRefusal, PassRefused
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, classroom_at
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.states import State, Witness
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.classroom_pass import HubProof, PassFile
from blockrun_magic.studio import Options, Studio
from blockrun_magic.studio.batch import BatchProgress, make_all
from fakes.classroom import CODE, PRICE, TOKEN, FakeClassroom
from fakes.gateway import studio_over
from fakes.silence import gives_up

_REQUEST = ImageRequest("generate", "a heron in the reeds", "google/nano-banana")


@pytest.fixture
def room() -> Iterator[FakeClassroom]:
    """Return a classroom that answers at once."""
    with FakeClassroom() as room:
        yield room


@asynccontextmanager
async def student(
    folder: Path, room: FakeClassroom, *, hub: bool = False, **more: Any
) -> AsyncIterator[tuple[Studio, Gateway]]:
    """Open the studio of a student who has joined, as a new kernel over `folder` does."""
    proof = HubProof(room.url, Secret(TOKEN)) if hub else None

    def account(client: Client) -> ClassroomAccount:
        return ClassroomAccount(client, PassFile(folder / "classroom.json"), proof)

    async with studio_over(folder, account=account, **more) as studio:
        joined = studio.wallets.account()
        if not hub and joined.gateway(room.url) is None:
            await joined.join(room.url, Secret(CODE))
        yield studio, classroom_at(room.url, Realm(room.realm))


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run `work` on a loop of its own and return its result."""
    return asyncio.run(_coroutine(work))


async def _coroutine(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    while not condition():  # noqa: ASYNC110  another thread changes it
        await asyncio.sleep(0.01)


async def states(studio: Studio) -> list[tuple[State, int]]:
    """Return the state and the amount of every payment in the ledger."""
    rows = studio.ledger.query("SELECT state, amount FROM authorizations ORDER BY id", ())
    return [(State(row["state"]), row["amount"]) for row in rows]


def test_an_image_is_ordered_and_charged_once(tmp_path: Path, room: FakeClassroom) -> None:
    """The key is in the ledger before the order arrives; the same request is free, even in the next kernel."""

    async def twice() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            result = await studio.make(_REQUEST, gateway)
            again = await studio.make(_REQUEST, gateway)

            assert (PRICE, True, "classroom") == (
                result.receipt.amount,
                result.receipt.settled,
                result.receipt.gateway,
            )
            assert again.receipt.cached
            [payment] = studio.ledger.payments(result.receipt.purchase_id or "")
            assert [payment.nonce] == list(room.orders)
            assert {} == studio.ledger.check()
        async with student(tmp_path, room, session="second") as (studio, gateway):
            assert (await studio.make(_REQUEST, gateway)).receipt.cached

    run(twice)

    assert PRICE == room.charged
    assert 1 == sum(line.startswith("PUT") for line in room.network.seen)


def test_the_money_of_the_class_is_not_the_students(tmp_path: Path) -> None:
    """A payment of the class with real money is in the student's ledger, but not in the cost log of their wallet."""
    folder = tmp_path / "home" / "magic"
    folder.mkdir(parents=True)

    async def buys(room: FakeClassroom) -> None:
        async with student(folder, room) as (studio, gateway):
            assert Realm.REAL == (await studio.make(_REQUEST, gateway)).receipt.realm
            assert [(State.SETTLED, PRICE)] == await states(studio)

    with FakeClassroom(realm="real") as room:
        run(lambda: buys(room))

    assert not (folder.parent / "cost_log.jsonl").exists()


def test_an_answer_that_comes_too_late(tmp_path: Path, room: FakeClassroom) -> None:
    """After a silence, the kernel asks about the order and does not repeat it."""
    room.network.only, room.network.faults = "PUT ", type(room.network.faults)([1.5])

    async def once() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            assert (await studio.make(_REQUEST, gateway)).receipt.settled

    with gives_up(room.network.silent):
        run(once)

    assert [PRICE] == [order.charged for order in room.orders.values()]


def test_a_service_that_stays_away(tmp_path: Path, room: FakeClassroom) -> None:
    """The amount stays at risk; the next kernel gets the image of the same order, which is paid once."""
    room.network.only = "PUT "
    room.network.faults.extend(["lose the answer"])

    async def lost() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            room.network.only = ""
            room.network.faults.clear()
            room.network.faults.extend([0.0, "lose the answer", *["lose the request"] * 30])
            with pytest.raises(PaymentOutcomeUnknown) as caught:
                await studio.make(_REQUEST, gateway)
            assert caught.value.money is not None
            assert (Fate.UNKNOWN, PRICE) == (caught.value.money.fate, caught.value.money.amount)
            assert [(State.UNKNOWN, PRICE)] == await states(studio)

    async def found() -> None:
        async with student(tmp_path, room, session="second") as (studio, gateway):
            assert (await studio.make(_REQUEST, gateway)).receipt.settled
            assert [(State.SETTLED, PRICE)] == await states(studio)

    run(lost)
    room.network.faults.clear()
    run(found)

    assert PRICE == room.charged
    assert 1 == len(room.orders)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (
            402,
            {"code": "limit", "subject": "you", "period": "day", "left_micros": 1, "resets_at": 2e9},
            ClassLimitReached,
        ),
        (403, {"code": "model", "models": ["openai/dall-e-3"]}, ClassRefusal),
        (403, {"code": "paused"}, ClassRefusal),
        (413, {"code": "too_large"}, ClassRefusal),
        (422, {"code": "bad_request", "message": "Your size is odd."}, ClassRefusal),
        (402, {"code": "price", "price_micros": 70_000}, BudgetError),
        (401, {"code": "revoked"}, PassRefused),
    ],
)
def test_a_refusal_costs_nothing(
    tmp_path: Path, room: FakeClassroom, status: int, error: dict[str, Any], kind: type[BlockrunError]
) -> None:
    """The error has a message and a hint, the payment is released, and the cell works once the class allows it."""
    room.refusals.append((status, error))

    async def refused() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            with pytest.raises(kind) as caught:
                await studio.make(_REQUEST, gateway)
            assert all(caught.value.lines)
            assert caught.value.money is not None
            assert Fate.NOT_CHARGED == caught.value.money.fate
            assert [(State.RELEASED, PRICE)] == await states(studio)
            assert (await studio.make(_REQUEST, gateway)).receipt.settled

    run(refused)

    assert PRICE == room.charged


@pytest.mark.parametrize("busy", [(429, {"code": "rate"}), (503, {"code": "busy"}), (503, {"code": "stopping"})])
def test_a_busy_service_is_asked_again(tmp_path: Path, room: FakeClassroom, busy: tuple[int, dict[str, Any]]) -> None:
    """The kernel repeats the order with the same key, after the time that the service asks for."""
    room.refusals.append(busy)

    async def waits() -> float:
        async with student(tmp_path, room) as (studio, gateway):
            return (await studio.make(_REQUEST, gateway)).seconds

    assert 1.0 <= run(waits)
    assert 1 == len(room.orders)
    assert 2 == sum(line.startswith("PUT") for line in room.network.seen)


@pytest.mark.parametrize(
    ("end", "state", "fate"),
    [
        ({"state": "failed"}, State.RELEASED, Fate.NOT_CHARGED),
        ({"state": "refused"}, State.RELEASED, Fate.NOT_CHARGED),
        ({"state": "failed", "charged": PRICE}, State.SETTLED, Fate.PAID),
        ({"state": "failed", "at_risk": PRICE}, State.UNKNOWN, Fate.UNKNOWN),
    ],
)
def test_the_order_is_the_witness(
    tmp_path: Path, room: FakeClassroom, end: dict[str, Any], state: State, fate: Fate
) -> None:
    """The student's ledger follows the order's report about the money."""
    room.end = end | {"error": {"code": "content_policy", "message": "The content policy refused this."}}

    async def fails() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            with pytest.raises(BlockrunError) as caught:
                await studio.make(_REQUEST, gateway)
            assert caught.value.money is not None
            assert fate == caught.value.money.fate
            assert [(state, PRICE)] == await states(studio)

    run(fails)


def test_a_charge_below_the_price_gives_back(tmp_path: Path, room: FakeClassroom) -> None:
    """An image that the teacher has bought costs a student nothing."""
    room.end = {"state": "done", "charged": 0}

    async def free() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            result = await studio.make(_REQUEST, gateway)
            assert (0, True) == (result.receipt.amount, result.receipt.settled)
            assert [(State.SETTLED, 0)] == await states(studio)
            assert {} == studio.ledger.check()

    run(free)


def test_a_kernel_that_ended_finds_its_order(tmp_path: Path, room: FakeClassroom) -> None:
    """The next kernel finds the key in the ledger and asks for the order, which is the witness of the payment."""
    room.hold, room.signed = 1.5, True

    async def ends() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            making = asyncio.create_task(studio.make(_REQUEST, gateway))
            await until(lambda: bool(room.orders))
            making.cancel()

    async def looks() -> None:
        async with student(tmp_path, room, session="second") as (studio, gateway):
            [payment] = studio.ledger.open_payments()
            assert list(room.orders) == [payment.nonce]
            await asyncio.sleep(1.0)
            assert 1 == await studio.reconcile(gateway)
            [purchase] = studio.ledger.open_purchases()
            result = await studio.resume(purchase, gateway)
            assert (True, PRICE) == (result.receipt.settled, result.receipt.amount)
            rows = studio.ledger.query("SELECT witness FROM authorizations", ())
            assert [Witness.CLASSROOM] == [row["witness"] for row in rows]

    run(ends)
    run(looks)

    assert 1 == len(room.orders)


def test_an_order_that_never_arrived_is_released(tmp_path: Path, room: FakeClassroom) -> None:
    """The look-up first cancels the key, so that the order cannot arrive later."""

    async def never() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            room.network.only = "PUT "
            room.network.faults.extend(["lose the request"] * 30)
            making = asyncio.create_task(studio.make(_REQUEST, gateway))
            await until(lambda: bool(studio.ledger.open_payments()))
            with pytest.raises(BlockrunError):
                await making
            assert [(State.UNKNOWN, PRICE)] == await states(studio)
            assert 1 == await studio.reconcile(gateway)
            assert [(State.RELEASED, PRICE)] == await states(studio)

    run(never)

    assert ["cancelled"] == [order.state for order in room.orders.values()]


def test_the_students_own_limit_holds(tmp_path: Path, room: FakeClassroom) -> None:
    """A limit that a student sets applies in a class."""

    async def limited() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            studio.ledger.set_caps(day=PRICE)
            await studio.make(_REQUEST, gateway)
            with pytest.raises(BudgetError):
                await studio.make(_REQUEST, gateway, Options(fresh=True))

    run(limited)

    assert 1 == len(room.orders)


def test_a_hub_is_joined_once_and_again_when_the_pass_expires(tmp_path: Path, room: FakeClassroom) -> None:
    """The pass stays in memory, and neither the pass nor the token is written to the disk."""

    async def class_begins() -> None:
        async with student(tmp_path, room, hub=True) as (studio, gateway):
            many = [ImageRequest("generate", f"heron {number}", "google/nano-banana") for number in range(3)]
            await make_all(studio, many, gateway, Options(), BatchProgress(3))
            assert 1 == len(room.joined)
            room.passes = dict.fromkeys(room.passes, "expired")
            assert (await studio.make(_REQUEST, gateway)).receipt.settled
            assert 2 == len(room.joined)

    run(class_begins)

    stored = (tmp_path / "classroom.json").read_text()
    assert "brc_" not in stored
    assert TOKEN not in stored


def test_another_classroom_is_not_asked_about_an_order(tmp_path: Path, room: FakeClassroom) -> None:
    """An order belongs to the class where it was made: no other class knows its key."""
    room.hold, room.signed = 30.0, True

    async def leaves() -> None:
        async with student(tmp_path, room) as (studio, gateway):
            making = asyncio.create_task(studio.make(_REQUEST, gateway))
            await until(lambda: bool(room.orders))
            making.cancel()

    async def elsewhere(other: FakeClassroom) -> None:
        async with student(tmp_path, other, session="second") as (studio, gateway):
            with pytest.raises(PaymentOutcomeUnknown):
                await studio.make(_REQUEST, gateway)
            assert not other.orders
            [payment] = studio.ledger.open_payments()
            assert payment.payer == room.url

    run(leaves)
    with FakeClassroom() as other:
        run(lambda: elsewhere(other))
