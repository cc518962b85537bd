"""Orders: a key is carried out once, even if it is repeated, and pays at most once."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from blockrun_magic.classroom.orders import orders, work
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import PRICE, Class, order_of, running_class
from harness.gates import Gate

PROMPT = "a fox in snow"

on_both = pytest.mark.parametrize("engine", ["sqlite", "postgresql"])


@pytest.fixture
def engine() -> str:
    """Return the engine of the database; tests of the engine's decisions replace it with both."""
    return "sqlite"


@pytest.fixture
def room(request: pytest.FixtureRequest, tmp_path: Path, gate: Gate, engine: str) -> Iterator[Class]:
    """Yield a running classroom."""
    database = request.getfixturevalue("cluster").empty_database() if engine == "postgresql" else None
    with PracticeServer(hook=gate) as gateway:
        try:
            with running_class(tmp_path / "home", gateway, database=database) as running:
                yield running
        finally:
            gate.opened.set()


@on_both
def test_an_order_is_paid_once(room: Class) -> None:
    """A repeated order returns the same images and charge; a different request with its key is refused."""
    ada, key = room.student("ada"), secrets.token_hex(16)

    first, again = ada.put(PROMPT, key), ada.put(PROMPT, key)
    other = ada.put("a cat", key)

    assert (200, 200, 422) == (first.status_code, again.status_code, other.status_code)
    assert first.json() == again.json()
    assert ("done", PRICE, 0) == tuple(first.json()[name] for name in ("state", "charged_micros", "at_risk_micros"))
    assert base64.b64decode(first.json()["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert "other_body" == other.json()["error"]["code"]
    assert 1 == len(room.settlements)
    assert first.json()["payment"]["transaction"] == room.settlements[0]["transaction"]
    assert room.agrees


@on_both
def test_two_notebooks_and_one_purchase(room: Class, gate: Gate) -> None:
    """The same request with two keys, even at the same time, is one purchase; the second order costs nothing."""
    ada, gate.point = room.student("ada"), "paid"
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ada.put, PROMPT) for _ in range(2)]
        assert gate.seen.wait(PATIENCE)
        gate.opened.set()
        orders = [answer.result().json() for answer in answers]

    assert ["done", "done"] == [order["state"] for order in orders]
    assert [0, PRICE] == sorted(order["charged_micros"] for order in orders)
    assert orders[0]["data"] == orders[1]["data"]
    assert 1 == len(room.settlements)


@on_both
def test_a_limit_leaves_no_record(room: Class) -> None:
    """An order above a limit is refused with the amount that is left; after the limit is raised, the same key works."""
    room.owner.set_limit("each", "total", PRICE - 1)
    ada, key = room.student("ada"), secrets.token_hex(16)

    refused = ada.put(PROMPT, key)
    unknown = ada.get(key)
    room.owner.set_limit(room.member("ada").subject, "total", PRICE)
    done = ada.put(PROMPT, key)

    error = refused.json()["error"]
    assert (402, "limit", "you", "total", PRICE - 1, None) == (
        refused.status_code,
        *(error[name] for name in ("code", "subject", "period", "left_micros", "resets_at")),
    )
    assert (404, "unknown_order") == (unknown.status_code, unknown.json()["error"]["code"])
    assert (200, PRICE) == (done.status_code, done.json()["charged_micros"])
    assert 402 == ada.put("another").status_code
    assert 1 == len(room.settlements)
    assert room.agrees


@on_both
def test_every_limit_holds(room: Class) -> None:
    """The limits of a group, of the class and the ceiling apply in addition to a person's own limit."""
    room.owner.set_limit("each", "day", 10 * PRICE)
    room.owner.set_limit("group:red", "total", 2 * PRICE)
    room.owner.set_limit("all", "total", 3 * PRICE)
    ada, bob, cy = room.student("ada", groups=("red",)), room.student("bob", groups=("red",)), room.student("cy")

    answers = [ada.put("1"), bob.put("2"), bob.put("3"), cy.put("4"), cy.put("5")]

    assert [200, 200, 402, 200, 402] == [answer.status_code for answer in answers]
    assert ["group:red", "class"] == [answers[index].json()["error"]["subject"] for index in (2, 4)]
    assert "all" not in {limit["subject"] for limit in cy.call("GET", "/v1/me").json()["limits"]}
    mine = ada.call("GET", "/v1/me").json()["limits"]
    assert {"subject": "group:red", "period": "total", "limit": 2 * PRICE, "spent": 2 * PRICE} == {
        name: value
        for name, value in next(limit for limit in mine if limit["subject"] == "group:red").items()
        if name in ("subject", "period", "limit", "spent")
    }


def test_the_price_that_was_agreed_to(room: Class) -> None:
    """An order above its own price limit is refused before anything is signed."""
    refused = room.student("ada").put(PROMPT, max_price_micros=PRICE - 1)

    assert (402, "price", PRICE) == (
        refused.status_code,
        *(refused.json()["error"][name] for name in ("code", "price_micros")),
    )
    assert [] == room.settlements


def test_a_teachers_image_is_free_for_all(room: Class) -> None:
    """An image of a teacher answers the same request of everybody for free; an image of a student does not."""
    teacher, ada, bob = room.student("tess", role="teacher"), room.student("ada"), room.student("bob")
    teacher.put(PROMPT)
    ada.put("mine")

    free, own = ada.put(PROMPT), bob.put("mine")

    assert [0, PRICE] == [answer.json()["charged_micros"] for answer in (free, own)]
    assert ada.call("POST", "/v1/price", json=order_of(PROMPT)).json()["stored"] is True
    assert 3 == len(room.settlements)


@on_both
def test_a_dropped_connection_ends_nothing(room: Class, gate: Gate) -> None:
    """The service finishes an order without its caller, who finds the images with the key."""
    ada, key, gate.point = room.student("ada"), secrets.token_hex(16), "paid"
    body = json.dumps(order_of(PROMPT)).encode()
    head = f"PUT /v1/orders/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ada.secret}\r\n"
    head += f"Content-Type: application/json\r\nPrefer: wait=25\r\nContent-Length: {len(body)}\r\n\r\n"
    address = urlsplit(room.url)
    with socket.create_connection((address.hostname or "", address.port or 0), PATIENCE) as caller:
        caller.sendall(head.encode() + body)
        assert gate.seen.wait(PATIENCE)
    waiting = ada.get(key)
    listed = ada.call("GET", "/v1/orders?open=1").json()["orders"]
    gate.opened.set()
    done = ada.get(key, wait=25)

    assert (202, "working", PRICE) == (
        waiting.status_code,
        *(waiting.json()[name] for name in ("state", "at_risk_micros")),
    )
    assert "1" == waiting.headers["retry-after"]
    assert [key] == [order["order"] for order in listed]
    assert PROMPT == listed[0]["request"]["prompt"]
    assert (200, PRICE) == (done.status_code, done.json()["charged_micros"])
    assert [] == ada.call("GET", "/v1/orders?open=1").json()["orders"]
    assert 1 == len(room.settlements)


@on_both
def test_cancelling(room: Class, gate: Gate) -> None:
    """An order is cancelled before it is signed; a cancellation of an unknown key refuses the later order."""
    ada, keys = room.student("ada"), [secrets.token_hex(16) for _ in range(3)]
    gate.point = "challenge"
    assert 202 == ada.put(PROMPT, keys[0], wait=0).status_code
    assert gate.seen.wait(PATIENCE)
    unsigned = ada.delete(keys[0])
    unknown, late = ada.delete(keys[1]), ada.put(PROMPT, keys[1])
    gate.point = "paid"
    gate.seen.clear()
    assert 202 == ada.put("signed", keys[2], wait=0).status_code
    assert gate.seen.wait(PATIENCE)
    signed = ada.delete(keys[2])
    gate.opened.set()
    done = ada.get(keys[2], wait=25)

    assert (200, "cancelled", 0) == (
        unsigned.status_code,
        *(unsigned.json()[name] for name in ("state", "at_risk_micros")),
    )
    assert (200, "cancelled") == (unknown.status_code, unknown.json()["state"])
    assert (409, "cancelled") == (late.status_code, late.json()["error"]["code"])
    assert 409 == ada.put(PROMPT, keys[0]).status_code
    assert (409, "working", PRICE) == (
        signed.status_code,
        *(signed.json()[name] for name in ("state", "at_risk_micros")),
    )
    assert (200, PRICE) == (done.status_code, done.json()["charged_micros"])
    assert 1 == len(room.settlements)
    assert room.agrees


@on_both
def test_two_at_a_time(room: Class, gate: Gate) -> None:
    """A third order of one person waits for its turn; if that does not come, it is refused without a record."""
    ada, gate.point, third = room.student("ada"), "paid", secrets.token_hex(16)
    assert [202, 202] == [ada.put(prompt, wait=0).status_code for prompt in ("1", "2")]

    refused = ada.put("3", third, wait=0)
    gone = ada.get(third)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ada.put, "3", third)
        time.sleep(0.5)
        early = len(room.settlements)
        gate.opened.set()
        done = waiting.result()

    assert (429, "rate") == (refused.status_code, refused.json()["error"]["code"])
    assert int(refused.headers["retry-after"]) > 0
    assert 404 == gone.status_code
    assert (0, 200) == (early, done.status_code)
    assert 3 == len(room.settlements)


@on_both
def test_ten_a_minute(room: Class) -> None:
    """Orders above the rate are refused for a while; repeated orders do not count."""
    room.owner.set_policy("class", rate=3)
    ada, key = room.student("ada"), secrets.token_hex(16)

    answers = [ada.put(PROMPT, key).status_code for _ in range(5)] + [
        ada.put("2").status_code,
        ada.put("3").status_code,
    ]
    refused = ada.put("4")

    assert [200] * 7 == answers
    assert (429, "rate") == (refused.status_code, refused.json()["error"]["code"])
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert 200 == room.student("bob").put("4").status_code


def test_too_many_orders(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process works on a limited number of orders, lets a limited number wait, and refuses the others."""
    monkeypatch.setattr(work, "_AT_ONCE", 1)
    monkeypatch.setattr(orders, "_MAX_WAITING", 1)
    gate.point = "paid"
    with PracticeServer(hook=gate) as gateway, running_class(tmp_path / "home", gateway) as room:
        people, keys = [room.student(name) for name in ("ada", "bob", "cy")], [secrets.token_hex(16) for _ in range(3)]
        first = people[0].put("1", keys[0], wait=0)
        assert gate.seen.wait(PATIENCE)
        second, third = people[1].put("2", keys[1], wait=0), people[2].put("3", keys[2], wait=0)
        gone = people[2].get(keys[2])
        gate.opened.set()
        done = [person.put(str(number), key) for number, (person, key) in enumerate(zip(people, keys, strict=True), 1)]

        assert [202, 202, 503] == [answer.status_code for answer in (first, second, third)]
        assert ("queued", "busy", 404) == (second.json()["state"], third.json()["error"]["code"], gone.status_code)
        assert int(third.headers["retry-after"]) > 0
        assert [200] * 3 == [answer.status_code for answer in done]
        assert 3 == len(room.settlements)


@pytest.mark.parametrize(
    ("rules", "more", "code"),
    [
        ({"models": ("openai/gpt-image-1",)}, {}, "model"),
        ({"max_size": "512x512"}, {}, "size"),
        ({"max_n": 1}, {"n": 2}, "n"),
        ({"paused": True}, {}, "paused"),
        ({"starts_at": 4e9}, {}, "not_started"),
        ({"ends_at": 1e9}, {}, "ended"),
    ],
)
def test_rules(room: Class, rules: dict[str, Any], more: dict[str, Any], code: str) -> None:
    """Every rule of a group refuses orders with a code of its own; people outside the group can order."""
    ada, bob = room.student("ada", groups=("red",)), room.student("bob")
    room.owner.set_policy("group:red", **rules)

    refused = ada.put(PROMPT, **more)

    assert (403, code) == (refused.status_code, refused.json()["error"]["code"])
    assert 200 == bob.put(PROMPT).status_code
    assert 1 == len(room.settlements)


BAD_BODIES = [
    b"",
    b"[]",
    b"{",
    b'{"prompt": 3}',
    b'{"prompt": "a\\u0000b"}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "x", "take": 0}',
    b'{"prompt": "x", "take": true}',
    b'{"prompt": "x", "max_price_micros": -1}',
    b'{"prompt": "x", "max_price_micros": 1.5}',
    b'{"prompt": "x", "digest": "sha256:x"}',
    b'{"prompt": "x", "path": "/etc/passwd"}',
    b'{"prompt": "x", "model": "no such model"}',
    b'{"prompt": "x", "n": 99}',
    b'{"prompt": "x", "size": "1x1"}',
    b'{"prompt": "x", "fields": "unknown"}',
    b'{"prompt": "x", "path": "/v1/images/image2image", "image": "/etc/passwd"}',
    b'{"prompt": "x", "path": "/v1/images/image2image", "image": "http://127.0.0.1/x.png"}',
    b'{"prompt": "x", "path": "/v1/images/image2image", "image": "data:image/png;base64,AAAA"}',
    b'{"prompt": "x", "path": "/v1/images/image2image"}',
]


def test_a_bad_body(room: Class) -> None:
    """An invalid order is refused with a message and a hint, and nothing is recorded."""
    ada = room.student("ada")
    for body in BAD_BODIES:
        key = secrets.token_hex(16)
        headers = {"Content-Type": "application/json"}
        answer = ada.call("PUT", f"/v1/orders/{key}", 5, content=body, headers=headers)

        assert (422, "bad_request") == (answer.status_code, answer.json()["error"]["code"]), body
        assert answer.json()["error"]["message"]
        assert answer.json()["error"]["hint"]
        assert 404 == ada.get(key).status_code
    assert [] == room.settlements


def test_an_edit_as_a_form_and_as_json(room: Class) -> None:
    """Edits with images as files and as data URIs are the same request."""
    ada = room.student("ada")
    picture = base64.b64decode(ada.put(PROMPT).json()["data"][0]["b64_json"])
    fields = order_of("in summer", path="/v1/images/image2image", model="openai/gpt-image-1")

    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    first = ada.call("PUT", f"/v1/orders/{secrets.token_hex(16)}", 25, json=fields | {"image": uri})
    form = {name: str(value) for name, value in fields.items()}
    files = [("image[]", ("a.png", picture, "image/png"))]
    again = ada.call("PUT", f"/v1/orders/{secrets.token_hex(16)}", 25, data=form, files=files)

    assert (200, 200) == (first.status_code, again.status_code)
    assert first.json()["charged_micros"] > again.json()["charged_micros"] == 0
    assert first.json()["data"] == again.json()["data"]
    assert 2 == len(room.settlements)


@pytest.mark.parametrize(
    ("point", "prompt", "fate"),
    [
        *((point, PROMPT, "lost") for point in ("challenge", "received", "paid", "settled", "witness")),
        *((point, "practice:slow=0.2", "lost") for point in ("job", "poll", "polled")),
        ("media", "practice:url", "lost"),
        *((point, PROMPT, "late") for point in ("paid", "settled", "witness")),
    ],
)
def test_an_answer_between_service_and_gateway(room: Class, gate: Gate, point: str, prompt: str, fate: str) -> None:
    """If any answer of the gateway is lost or late, there is one payment, one charge and the image."""
    gate.lost, gate.late = ([point], []) if fate == "lost" else ([], [point])
    ada, key = room.student("ada"), secrets.token_hex(16)
    done = ada.put(prompt, key)
    while done.status_code == 202:
        done = ada.get(key, wait=25)

    assert (200, "done", PRICE) == (
        done.status_code,
        *(done.json()[name] for name in ("state", "charged_micros")),
    )
    assert [] == gate.lost + gate.late
    assert 1 == len(room.settlements)
    assert room.agrees
