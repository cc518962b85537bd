"""A student against the real service: one order, one payment, and two ledgers that agree."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from PIL import Image

from blockrun_magic.errors import BlockrunError, ContentPolicyViolation, Fate
from blockrun_magic.gateway.classroom.account import ClassroomAccount
from blockrun_magic.gateway.classroom.refusals import ClassLimitReached, ClassRefusal, PassRefused
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.classroom_pass import PassFile
from blockrun_magic.practice.server.hook import Exchange
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import Options, Progress, Studio
from blockrun_magic.studio.batch import BatchProgress, make_all
from blockrun_magic.studio.payment.classroom.adoption import adopt_orders
from blockrun_magic.studio.payment.retry import RetryPolicy
from fakes.between import Between
from fakes.gateway import studio_over
from harness.classroom import PRICE, Class, Student, running_class

_REQUEST = ImageRequest("generate", "a heron in the reeds", "google/nano-banana")
_STRIDE = 1 if os.environ.get("KILLS") else 5
_FAULTS = ("lose the request", "lose the answer", "repeat", "late")
_BROKEN_FAULTS = ("cut the answer", "only the head", "twice at once")


@dataclass
class Gate:
    """A hook that holds the gateway's requests at a point until it is opened."""

    point: str = ""
    opened: threading.Event = field(default_factory=threading.Event)
    seen: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, point: str, _: Exchange) -> None:
        """Hold a request at the point."""
        if point == self.point:
            self.seen.set()
            while not self.opened.is_set():  # noqa: ASYNC110  a thread sets the event
                await asyncio.sleep(0.01)

    def hold(self, point: str) -> None:
        """Hold all further requests at `point`."""
        self.point = point
        self.opened.clear()
        self.seen.clear()


@pytest.fixture(scope="module")
def gate() -> Gate:
    """Return the gateway's hook."""
    return Gate()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[Class]:
    """Yield a class with play money and almost without a rate limit."""
    home = tmp_path_factory.mktemp("class")
    with PracticeServer(hook=gate) as gateway, running_class(home / "home", gateway) as running:
        running.owner.set_policy("class", rate=10_000)
        try:
            yield running
        finally:
            gate.opened.set()


@dataclass
class Pupil:
    """A student of a test, and the network between them and the class."""

    room: Class
    between: Between
    folder: Path
    name: str

    @asynccontextmanager
    async def kernel(self, session: str = "first", **more: Any) -> AsyncIterator[tuple[Studio, Gateway]]:
        """Open a studio as a new kernel of this student does; the first one joins."""

        def account(client: Client) -> ClassroomAccount:
            return ClassroomAccount(client, PassFile(self.folder / "classroom.json"), None)

        async with studio_over(self.folder, account=account, session=session, **more) as studio:
            joined = studio.wallets.account()
            gateway = joined.gateway(self.between.url)
            if gateway is None:
                gateway, _ = await joined.join(self.between.url, Secret(self.invite()))
            yield studio, gateway

    def invite(self) -> str:
        """Return a new join code."""
        later = self.room.records.database.now() + 3600
        return self.room.owner.invite(self.name, groups=[], expires_at=later)

    @property
    def spent(self) -> int:
        """The sum that the class has paid for this student, by its own ledger, in micro-USDC."""
        member = self.room.member(self.name)
        standing = self.room.records.ledger.standing("practice", (member.subject,))
        return max((each.used for each in standing if each.period == "total"), default=0)

    def lose(self, only: str, *faults: str) -> None:
        """Add faults to the next requests that contain `only`."""
        self.between.network.only = only
        self.between.network.faults.extend(faults)


@pytest.fixture
def pupil(service: Class, gate: Gate, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pupil]:
    """Yield a student whose limit allows ten images."""
    gate.hold("")
    name = f"ada {abs(hash(request.node.name)) % 10**9}"
    with Between(service.url) as between:
        pupil = Pupil(service, between, tmp_path, name)
        pupil.invite()
        service.owner.set_limit(service.member(name).subject, "total", 10 * PRICE)
        yield pupil
        gate.opened.set()
    assert service.agrees


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run `work` on a loop of its own and return its result."""

    async def begun() -> Any:
        return await work()

    return asyncio.run(begun())


def paid(studio: Studio) -> list[tuple[State, int]]:
    """Return the state and the amount of every payment in the student's ledger."""
    rows = studio.ledger.query("SELECT state, amount FROM authorizations ORDER BY id", ())
    return [(State(row["state"]), row["amount"]) for row in rows]


@pytest.mark.parametrize(
    ("only", "fault"),
    [*product(("POST /v1/", "PUT ", "/v1/orders/"), _FAULTS), *product(("PUT ",), _BROKEN_FAULTS)],
)
def test_each_answer_lost_late_or_repeated(pupil: Pupil, only: str, fault: str) -> None:
    """If joining, price, order or question fails twice, there is one settlement, and one charge in both ledgers."""
    before = len(pupil.room.settlements)
    faults = ("lose the answer", fault, fault) if only == "/v1/orders/" else (fault, fault)

    async def buys() -> None:
        pupil.lose(only, *faults)
        async with pupil.kernel(retry=RetryPolicy(first_wait=0.01)) as (studio, gateway):
            result = await studio.make(_REQUEST, gateway, Options(fresh=True))
            assert (PRICE, True) == (result.receipt.amount, result.receipt.settled)
            assert [(State.SETTLED, PRICE)] == paid(studio)
            assert {} == studio.ledger.check()

    run(buys)

    assert PRICE == pupil.spent
    assert before + 1 == len(pupil.room.settlements)


def test_stop_before_the_signature(pupil: Pupil, gate: Gate) -> None:
    """A waiting order is cancelled in both ledgers, and the next run buys the image."""
    gate.hold("received")
    other = Student(
        pupil.room.url,
        pupil.room.client.post(f"{pupil.room.url}/v1/join", json={"code": pupil.invite()}).json()["pass"],
        pupil.room.client,
    )
    first = [other.put(f"{number} before {pupil.name}", wait=0) for number in range(2)]
    assert {202} == {answer.status_code for answer in first}

    async def stopped() -> None:
        async with pupil.kernel() as (studio, gateway):
            progress = Progress()
            making = asyncio.create_task(studio.make(_REQUEST, gateway, Options(fresh=True), progress))
            await until(lambda: any(line.startswith("PUT") for line in pupil.between.network.seen))
            making.cancel()
            with suppress(asyncio.CancelledError):
                await making
            await studio.running.wait_idle()
            assert [(State.RELEASED, PRICE)] == paid(studio)
            assert progress.cancelled
            gate.opened.set()
            assert (await studio.make(_REQUEST, gateway, Options(fresh=True))).receipt.settled

    run(stopped)

    assert 3 * PRICE == pupil.spent


def test_stop_after_the_signature(pupil: Pupil, gate: Gate) -> None:
    """The image arrives in the background and is paid once."""
    gate.hold("received")

    async def stopped() -> None:
        async with pupil.kernel() as (studio, gateway):
            making = asyncio.create_task(studio.make(_REQUEST, gateway, Options(fresh=True)))
            await until(gate.seen.is_set)
            making.cancel()
            with suppress(asyncio.CancelledError):
                await making
            gate.opened.set()
            await studio.running.wait_idle()
            assert [(State.SETTLED, PRICE)] == paid(studio)

    run(stopped)

    assert PRICE == pupil.spent


@pytest.mark.parametrize("disk", ["kept", "gone"])
def test_the_next_kernel(pupil: Pupil, gate: Gate, tmp_path: Path, disk: str) -> None:
    """The next kernel finds the order of a killed one by its key, or asks the class for open orders."""
    gate.hold("received")

    async def killed() -> None:
        async with pupil.kernel() as (studio, gateway):
            making = asyncio.create_task(studio.make(_REQUEST, gateway, Options(fresh=True)))
            await until(gate.seen.is_set)
            making.cancel()

    async def collects() -> None:
        async with pupil.kernel("second") as (studio, gateway):
            await adopt_orders(studio.wallets.account(), studio.ledger, gateway)
            gate.opened.set()
            [purchase] = studio.ledger.open_purchases()
            result = await studio.resume(purchase, gateway)
            assert (PRICE, _REQUEST.digest) == (result.receipt.amount, result.receipt.request_digest)
            assert [(State.SETTLED, PRICE)] == paid(studio)

    run(killed)
    if disk == "gone":
        pupil.folder = tmp_path / "elsewhere"
        pupil.folder.mkdir()
    run(collects)

    assert PRICE == pupil.spent


class Died(BaseException):
    """The death of a kernel: its later actions have no effect."""


class Death:
    """Kills a kernel at step number `at`; each write of the ledger and each message has a step before and after it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def step(self) -> None:
        """Count a step; raise Died at the last step and at all later ones."""
        self.steps += 1
        if self.steps >= self.at:
            raise Died

    @contextmanager
    def over(self, studio: Studio) -> Iterator[None]:
        """Count the steps of `studio` during the block."""
        transaction, call = studio.ledger.transaction, studio.client.call

        @contextmanager
        def writing(**options: Any) -> Iterator[Any]:
            self.step()
            with transaction(**options) as connection:
                yield connection
            self.step()

        async def calling(*args: Any, **content: Any) -> Any:
            self.step()
            answer = await call(*args, **content)
            self.step()
            return answer

        with (
            mock.patch.object(studio.ledger, "transaction", writing),
            mock.patch.object(studio.client, "call", calling),
        ):
            yield


def test_a_kernel_that_is_killed_at_any_step(pupil: Pupil) -> None:
    """The next kernel gets the image with one settlement, and both ledgers agree; `make soak` tries every step."""

    async def is_killed(at: int) -> bool:
        request = ImageRequest("generate", f"death {at} of {pupil.name}", "google/nano-banana")
        async with pupil.kernel(f"killed {at}") as (studio, gateway):
            with Death(at).over(studio), suppress(Died):
                await studio.make(request, gateway)
                return False
        async with pupil.kernel(f"after {at}") as (studio, gateway):
            result = await studio.make(request, gateway)
            assert (PRICE, True) == (result.receipt.amount, result.receipt.settled)
            assert {} == studio.ledger.check()
            assert {State.SETTLED} >= {state for state, _ in paid(studio)} - {State.RELEASED}
            assert pupil.spent == sum(amount for state, amount in paid(studio) if state is State.SETTLED)
        return True

    pupil.room.owner.set_limit(pupil.room.member(pupil.name).subject, "total", 100 * PRICE)
    before, at, runs = len(pupil.room.settlements), 1, 1
    while asyncio.run(is_killed(at)):
        at, runs = at + _STRIDE, runs + 1

    assert 12 < at
    assert runs == len(pupil.room.settlements) - before


def test_a_lost_file_is_collected_again(pupil: Pupil) -> None:
    """The kernel gets the image from the class again, without another payment."""

    async def loses() -> None:
        async with pupil.kernel() as (studio, gateway):
            request = ImageRequest("generate", "a lost " + pupil.name, "google/nano-banana")
            first = await studio.make(request, gateway)
            for file in first.files:
                file.unlink()
            again = await studio.make(request, gateway)
            assert first.image.tobytes() == again.image.tobytes()
            assert [(State.SETTLED, PRICE)] == paid(studio)

    run(loses)

    assert PRICE == pupil.spent


def test_the_limit_and_its_raise(pupil: Pupil) -> None:
    """The error names the limit and the amount that is left; the next order works after the limit is raised."""
    subject = pupil.room.member(pupil.name).subject
    pupil.room.owner.set_limit(subject, "day", PRICE + 1)

    async def buys() -> None:
        async with pupil.kernel() as (studio, gateway):
            await studio.make(_REQUEST, gateway, Options(fresh=True))
            with pytest.raises(ClassLimitReached) as caught:
                await studio.make(_REQUEST, gateway, Options(fresh=True))
            error = caught.value
            assert ("you", "day", 1) == (error.subject, error.period, error.left)
            assert error.resets_at is not None
            assert error.money is not None
            assert Fate.NOT_CHARGED == error.money.fate
            assert [(State.SETTLED, PRICE), (State.RELEASED, PRICE)] == paid(studio)
            pupil.room.owner.set_limit(subject, "day", 2 * PRICE)
            assert (await studio.make(_REQUEST, gateway, Options(fresh=True))).receipt.settled
            membership = await studio.wallets.account().membership(gateway)
            [limit] = [each for each in membership.limits if each.period == "day"]
            assert (2 * PRICE, 0, 0) == (limit.spent, limit.at_risk, limit.left)

    run(buys)


def test_what_the_class_does_not_allow(pupil: Pupil) -> None:
    """A pause, a model, a content policy and a revoked pass give two lines each, and nothing is charged."""
    owner, member = pupil.room.owner, pupil.room.member(pupil.name)

    async def refused() -> None:
        async with pupil.kernel() as (studio, gateway):
            errors: list[BlockrunError] = []

            async def attempt(kind: type[BlockrunError], prompt: str = "a paused heron") -> None:
                with pytest.raises(kind) as caught:
                    await studio.make(ImageRequest("generate", prompt, "google/nano-banana"), gateway)
                errors.append(caught.value)

            owner.pause(paused=True)
            await attempt(ClassRefusal)
            owner.pause(paused=False)
            owner.set_policy("class", models=("openai/dall-e-3",))
            await attempt(ClassRefusal)
            assert "openai/dall-e-3" == studio.catalogs.at(gateway).default_model("generate")
            owner.set_policy("class", models=None)
            await attempt(ContentPolicyViolation, "practice:403")
            owner.revoke(member)
            await attempt(PassRefused)
            assert all(len(error.lines) == 2 and all(error.lines) for error in errors)
            assert [State.RELEASED, State.UNKNOWN, State.RELEASED] == [state for state, _ in paid(studio)][-3:]
            assert [Fate.NOT_CHARGED] * 2 + [Fate.UNKNOWN] + [Fate.NOT_CHARGED] == [
                error.money.fate for error in errors if error.money is not None
            ]

    try:
        run(refused)
    finally:
        owner.pause(paused=False)
        owner.set_policy("class", models=None)

    assert PRICE == pupil.spent  # at risk until the gateway can no longer charge the refused order


def test_a_batch_an_edit_and_what_the_teacher_has(pupil: Pupil) -> None:
    """Each part of a batch has its own order; a masked edit is uploaded as files; the teacher's image is free."""
    teacher = pupil.room.student("teacher of " + pupil.name, role="teacher")
    assert 200 == teacher.put("a shared heron").status_code
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(file, "PNG")
    upload = Upload.from_file_bytes(file.getvalue(), "image/png")
    white = io.BytesIO()
    Image.new("L", (64, 64), 255).save(white, "PNG")
    mask = Upload.from_file_bytes(white.getvalue(), "image/png")
    edit = ImageRequest("edit", "add a moon", "openai/gpt-image-1", images=(upload,), mask=mask)
    many = [ImageRequest("generate", f"heron {number} of {pupil.name}", "google/nano-banana") for number in range(4)]

    async def buys() -> int:
        async with pupil.kernel() as (studio, gateway):
            results = await make_all(studio, many, gateway, Options(), BatchProgress(4))
            assert ((), [PRICE] * 4) == (results.failures, [each.receipt.amount for each in results])
            edited = await studio.make(edit, gateway)
            shared = ImageRequest("generate", "a shared heron", "google/nano-banana")
            assert 0 == (await studio.quote(shared, gateway)).total
            free = await studio.make(shared, gateway)
            assert (0, True) == (free.receipt.amount, free.receipt.settled)
            return 4 * PRICE + edited.receipt.amount

    assert run(buys) == pupil.spent


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    while not condition():  # noqa: ASYNC110  another thread changes it
        await asyncio.sleep(0.01)
