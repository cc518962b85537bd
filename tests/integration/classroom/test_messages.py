"""Lost, late or repeated answers between a kernel and the service, and secrets that no answer or file may contain."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import pytest

from blockrun_magic.practice.server.server import PracticeServer
from fakes.between import Between
from harness import PATIENCE
from harness.classroom import PRICE, Class, Student, order_of, run_command, running_class, served_class
from harness.gates import Gate
from harness.postgresql import Cluster

GATEWAY_FAULTS = (
    "lose the request",
    "lose the answer",
    "cut the answer",
    "only the head",
    "repeat",
    "twice at once",
    "late",
    1.0,
)
FATES = ("lost", "late", "twice", "twice at once", "broken off")


@pytest.fixture
def room(tmp_path: Path, gate: Gate) -> Iterator[Class]:
    """Yield a running classroom."""
    with PracticeServer(hook=gate) as gateway, running_class(tmp_path / "home", gateway) as running:
        yield running


class Unreliable(httpx.BaseTransport):
    """A network that delivers every request, and changes the next answer as `fate` says."""

    def __init__(self) -> None:
        self.fate = ""
        self._wire = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request once or twice; return its answer, or lose the answer."""
        fate, self.fate = self.fate, ""
        if fate == "twice at once":
            with ThreadPoolExecutor(2) as pool:
                return [pool.submit(self._sent, request) for _ in range(2)][1].result().result()
        answer = self._sent(request).result()
        if fate == "twice":
            answer = self._sent(request).result()
        if fate == "late":
            time.sleep(1)
        if fate in ("lost", "broken off"):
            raise httpx.ReadError("lost") if fate == "lost" else httpx.RemoteProtocolError("broken off")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def _sent(self, request: httpx.Request) -> _Answer:
        again = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        response = self._wire.handle_request(again)
        response.read()
        return _Answer(response)


class _Answer:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def result(self) -> httpx.Response:
        """Return the answer as a new response."""
        return httpx.Response(
            self._response.status_code, headers=self._response.headers, content=self._response.content
        )


def persistent(client: httpx.Client, method: str, url: str, **content: object) -> httpx.Response:
    """Repeat a request until an answer arrives, like a kernel, and return the answer."""
    for _ in range(5):
        try:
            return client.request(method, url, **content)  # type: ignore[arg-type]
        except httpx.TransportError:
            continue
    raise AssertionError("no answer came")


@pytest.mark.parametrize("fate", FATES)
def test_every_call_of_an_order(room: Class, fate: str) -> None:
    """If any answer is lost, late or repeated, there is still one member, one payment, one charge and one image."""
    network, key, attempt = Unreliable(), secrets.token_hex(16), secrets.token_hex(16)
    code = room.owner.invite("ada", groups=[], expires_at=room.records.database.now() + 60)
    with httpx.Client(transport=network, timeout=PATIENCE) as client:
        network.fate = fate
        joined = persistent(client, "POST", f"{room.url}/v1/join", json={"code": code, "attempt": attempt})
        headers = {"Authorization": f"Bearer {joined.json()['pass']}", "Prefer": "wait=25"}
        answers = []
        for method, path, content in (
            ("GET", "/v1/me", {}),
            ("POST", "/v1/price", {"json": order_of("a fox")}),
            ("PUT", f"/v1/orders/{key}", {"json": order_of("a fox")}),
            ("GET", f"/v1/orders/{key}?wait=25", {}),
            ("DELETE", f"/v1/orders/{key}", {}),
        ):
            network.fate = fate
            answers.append(persistent(client, method, room.url + path, headers=headers, **content))

    assert [200, 200, 200, 200, 409] == [answer.status_code for answer in answers]
    assert ["done"] * 3 == [answer.json()["state"] for answer in answers[2:]]
    assert {PRICE} == {answer.json()["charged_micros"] for answer in answers[2:]}
    assert answers[2].json()["data"] == answers[3].json()["data"]
    assert [1, PRICE] == [len(room.settlements), int(room.settlements[0]["amount"])]
    assert 1 == len(room.records.orders.listed())
    assert 1 == len(room.records.members.all())
    assert room.agrees


@dataclass
class _At:
    url: str


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_every_answer_of_the_gateway(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """The first request asks for the price, the others pay: after any fault, an order has one payment and charge."""
    database = cluster.empty_database() if engine == "postgresql" else None
    with PracticeServer() as gateway, Between(gateway.url.removesuffix("/api")) as between:
        between.network.only = "POST "
        at = cast("PracticeServer", _At(f"{between.url}/api"))
        with running_class(tmp_path / "home", at, database=database) as room:
            ada = room.student("ada")
            for number, fault in enumerate(GATEWAY_FAULTS[database is None :: 2]):
                between.network.faults.append(fault)
                done = ada.put(f"fox {number}")
                while done.status_code == 202:
                    done = ada.get(done.json()["order"], wait=25)

                assert ("done", PRICE) == (done.json()["state"], done.json()["charged_micros"]), fault
                assert number + 1 == len(room.settlements), fault
                assert not between.network.faults
            assert room.agrees


@pytest.mark.parametrize("again", [False, True])
def test_an_order_and_its_cancellation_meet(room: Class, gate: Gate, again: bool) -> None:
    """A cancellation before or beside its order ends in one of two ways: cancelled and unpaid, or done and paid."""
    ada, key = room.student("ada"), secrets.token_hex(16)
    with ThreadPoolExecutor(2) as pool:
        order, cancelled = pool.submit(ada.put, "a fox", key), pool.submit(ada.delete, key)
        first, second = order.result(), cancelled.result()
    if again:
        first = ada.put("a fox", key)
    end = ada.get(key, wait=25).json()

    if second.status_code == 200:
        assert ("cancelled", 409, []) == (end["state"], first.status_code, room.settlements)
    else:
        assert (409, "done", PRICE, 1) == (
            second.status_code,
            end["state"],
            end["charged_micros"],
            len(room.settlements),
        )
    assert room.agrees


def test_no_secret_anywhere(tmp_path: Path, gate: Gate) -> None:
    """A pass, code or payment header is in no database, file, log or answer, except the answer to its owner."""
    headers: list[str] = []

    async def noting(point: str, exchange: object) -> None:
        headers.extend(
            value
            for name, value in exchange.http.headers.items()
            if name in ("x-payment", "payment-signature")  # type: ignore[attr-defined]
        )

    with PracticeServer(hook=noting) as gateway, served_class(tmp_path, gateway) as (room, process):  # type: ignore[arg-type]
        code = run_command(room.home, "invite", "ada").stdout.strip()
        joined = room.client.post(f"{room.url}/v1/join", json={"code": code})
        ada = Student(room.url, joined.json()["pass"], room.client)
        texts = [ada.put("a fox").text]
        settled = {*headers}
        texts += [ada.put("practice:403").text, ada.put("a fox", max_price_micros=1, take=2).text]
        texts += [ada.call("GET", path).text for path in ("/v1/me", "/v1/orders", "/v1/models", "/health", "/ready")]
        texts += [room.client.get(room.url + path).text for path in ("/metrics", "/teacher", "/", "/v1/join")]
        texts.append(ada.call("PUT", f"/v1/orders/{secrets.token_hex(16)}", json=[]).text)
        dump = sqlite3.connect(str(room.records.database.path))
        tables = "\n".join(dump.iterdump())
        dump.close()
        process.terminate()
        process.wait(60)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".png"]
    everything = b"\n".join([*files, *(text.encode() for text in texts), tables.encode()])

    assert len({*headers}) > len(settled) == 1
    for secret in (code, code.replace("-", ""), ada.secret, *settled):
        assert secret.encode() not in everything
    for secret in {*headers} - settled:  # the ledger needs the header of an open payment
        assert secret not in "".join(texts) + (tmp_path / "stderr").read_text()
