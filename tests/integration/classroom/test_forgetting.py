"""Deletion of content: by name and by age, but never from the audit."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockrun_magic.classroom.storage.forgetting import erase_old, forget_member
from blockrun_magic.classroom.storage.reports import report_rows
from blockrun_magic.errors import LedgerError
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import PRICE, Class, order_of, running_class
from harness.gates import Gate

_DAY = 86_400.0


@pytest.fixture(params=["sqlite", "postgresql"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Class]:
    """Yield a running classroom, on each engine."""
    database = request.getfixturevalue("cluster").empty_database() if request.param == "postgresql" else None
    with PracticeServer() as gateway, running_class(tmp_path / "home", gateway, database=database) as running:
        yield running


def everything(room: Class) -> str:
    """Return the contents of the database as text."""
    tables = ("members", "orders", "order_images", "purchases", "pictures", "authorizations", "audit", "invitations")
    with room.records.database.reading() as connection:
        return "\n".join(
            str([*row])
            for table in tables
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
        )


def images(room: Class) -> set[str]:
    """Return the names of the stored files."""
    return {path.stem for path in (room.home / "magic" / "pictures").glob("??/*")}


def test_somebody_is_forgotten(room: Class) -> None:
    """Name, prompts, uploads and images are deleted; amounts, limits and the content of other people stay."""
    ada, bob = room.student("ada lovelace"), room.student("bob")
    picture = base64.b64decode(ada.put("a secret garden").json()["data"][0]["b64_json"])
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    edit = order_of("a hidden door", path="/v1/images/image2image", model="openai/gpt-image-1", image=uri)
    assert 200 == ada.call("PUT", f"/v1/orders/{secrets.token_hex(16)}", 25, json=edit).status_code
    kept = base64.b64decode(bob.put("a fox of bob").json()["data"][0]["b64_json"])
    before = {row.member.id: (row.spent, row.at_risk) for row in report_rows(room.records)}

    left = forget_member(room.records, room.owner, room.member("ada lovelace"))

    assert 0 == left
    for words in ("ada lovelace", "secret garden", "hidden door"):
        assert words not in everything(room)
    assert "a fox of bob" in everything(room)
    assert images(room) == {room.records.store.name_of(kept)}
    assert before == {row.member.id: (row.spent, row.at_risk) for row in report_rows(room.records)}
    assert before[1][0] > PRICE
    assert 401 == ada.call("GET", "/v1/me").status_code
    assert room.agrees
    again = room.student("ada lovelace")
    assert again.joined["member"]["id"] not in before


def test_what_is_old_is_deleted(room: Class) -> None:
    """After `keep_days`, content is deleted and amounts stay; an image that a newer order shows also stays."""
    ada = room.student("ada")
    for prompt in ("old", "shared"):
        ada.put(prompt)
    with room.records.database.transaction() as connection:
        connection.execute("UPDATE orders SET created_at = created_at - ?", (200 * _DAY,))
    young = ada.put("shared").json()
    room.owner.set_policy("class", keep_days=300)
    assert (0, 2) == (erase_old(room.records), len(images(room)))
    room.owner.set_policy("class", keep_days=180)

    assert 0 == erase_old(room.records)

    assert {410} == {ada.get(order.key).status_code for order in room.records.orders.listed() if order.is_erased}
    assert "'old'" not in everything(room)
    assert '"prompt": "old"' not in everything(room)
    assert 1 == len(images(room))
    assert young["data"] == ada.get(young["order"]).json()["data"]
    assert 2 * PRICE == report_rows(room.records)[0].spent
    assert PRICE == ada.put("old").json()["charged_micros"]


def test_open_orders_are_not_erased(tmp_path: Path) -> None:
    """An order in progress is erased only after it has ended."""
    gate = Gate("paid")
    with PracticeServer(hook=gate) as gateway, running_class(tmp_path / "home", gateway) as room:
        ada, key = room.student("ada"), secrets.token_hex(16)
        assert 202 == ada.put("unfinished", key, wait=0).status_code
        assert gate.seen.wait(PATIENCE)
        assert 1 == forget_member(room.records, room.owner, room.member("ada"))
        gate.opened.set()
        [order] = room.records.orders.listed()
        while not order.is_final:
            order = room.records.orders.by_id(order.id)

        assert ("done", 0) == (order.state, erase_old(room.records))
        assert "unfinished" not in everything(room)
        assert PRICE == report_rows(room.records)[0].spent


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_the_audit_is_append_only(room: Class, statement: str) -> None:
    """The database itself refuses to change or remove an entry."""
    room.owner.pause(paused=True)
    before = room.records.audit.entries()

    with pytest.raises(LedgerError), room.records.database.transaction() as connection:
        connection.execute(statement)

    assert before == room.records.audit.entries()
    assert ("owner", "rule paused", "class", "False", "True") == (
        before[0].actor,
        *(before[0].action, before[0].subject, before[0].old_value, before[0].new_value),
    )
