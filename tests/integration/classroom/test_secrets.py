"""A search for secrets in all files, output and answers of a class."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from blockrun_magic.classroom.storage.members import secret_hash
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import Student, served_class
from harness.postgresql import Cluster

PAGES = ("", "people", "people/1", "orders", "gallery", "limits", "invitations", "audit", "people.csv", "orders.csv")
CODE = re.compile(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}")
HEADER = re.compile(r"eyJ4NDAy[A-Za-z0-9+/=_-]{100,}")
"""A payment header: base64 of JSON that begins with its x402Version."""
CLOSED = """
    SELECT authorizations.id, state FROM authorizations
    LEFT JOIN payloads ON payloads.authorization_id = authorizations.id
    WHERE state IN ('settled', 'released')
    AND (authorizations.header_value IS NOT NULL OR payloads.header_value IS NOT NULL)"""
"""Finished payments that still have a header; a payment at risk needs its header, to be sent again."""
PROMPTS = ("a fox in snow", "practice:500 a cat", "practice:policy a dog", "practice:slow=1 a cow", "")


def written(folder: Path, server: str) -> Iterator[tuple[str, str]]:
    """Yield the files below a folder, without images and with databases as dumps, and the dump of a server."""
    yield "dump", server
    for path in folder.rglob("*"):
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                yield str(path), "\n".join(database.iterdump())
        elif path.is_file() and path.suffix not in (".png", ".jpg", ".jpeg", ".webp"):
            yield str(path), path.read_bytes().decode("utf-8", "replace")


def answers_of(url: str, browser: httpx.Client, student: Student, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the answers of the service to its teacher, to a student, and to wrong requests."""
    for path in PAGES:
        answer = browser.get(f"{url}/teacher/{path}")
        yield path, answer.text
        yield f"headers of {path}", str(dict(answer.headers))
    for number, prompt in enumerate(PROMPTS[:1] if name else PROMPTS):
        order = secret_hash(f"{name} {number}")[:32]
        yield prompt, student.put(f"{prompt} {name}".strip(), order, wait=2).text
        yield f"again {prompt}", student.get(order).text
    for path in ("/v1/me", "/v1/models", "/v1/orders", "/v1/orders?open=1", "/v1/nothing", "/metrics", "/ready"):
        yield path, student.call("GET", path).text
    for wrong in ("brc_wrong", student.secret + "x", student.secret[:-1]):
        yield wrong, httpx.get(f"{url}/v1/me", headers={"Authorization": f"Bearer {wrong}"}, timeout=PATIENCE).text
    yield "a used code", httpx.post(f"{url}/v1/join", json={"code": "0000-0000-0000-0000"}, timeout=PATIENCE).text
    yield "no JSON", httpx.post(f"{url}/v1/join", content=f"{{{student.secret}", timeout=PATIENCE).text


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_shows_a_secret(tmp_path: Path, cluster: Cluster, engine: str) -> None:
    """Keys, passes, codes, tickets, cookies and payment headers are in no dump, file, log, page or answer.

    The same holds after a table is removed, so that calls and background work fail in unexpected ways.
    """
    database = cluster.empty_database() if engine == "postgresql" else None
    key = "0x" + secrets.token_hex(32)
    with (
        PracticeServer() as gateway,
        served_class(tmp_path, gateway, database=database, BLOCKRUN_WALLET_KEY=key) as (room, _),
    ):
        student = room.student("ada", groups=("red",))
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
            browser.get(room.teacher_url)
            page = browser.get(f"{room.url}/teacher/invitations").text
            token = str(re.findall(r'name="form_token" value="(\w+)"', page)[0])
            form = {"form_token": token, "name": "bob", "days": "7"}
            made = browser.post(f"{room.url}/teacher/invitations", data=form, headers={"Origin": room.url}).text
            code = CODE.findall(made)[0]
            joined = httpx.post(f"{room.url}/v1/join", json={"code": code}, timeout=PATIENCE).json()
            answers = list(answers_of(room.url, browser, student))
            with room.records.database.transaction() as connection:
                connection.execute("ALTER TABLE order_images RENAME TO elsewhere")
            answers += answers_of(room.url, browser, student, "after")
            hidden = {
                "key": key,
                "key without sign": key[2:],
                "pass": student.secret,
                "another pass": joined["pass"],
                "code": code,
                "code without signs": code.replace("-", ""),
                "ticket": room.teacher_url.partition("ticket=")[2],
                "cookie": browser.cookies["classroom"],
            }
        files = list(written(tmp_path, cluster.dump("emptied") if database else ""))
        with room.records.database.reading() as connection:
            closed = connection.execute(CLOSED).fetchall()
        ledger = "dump" if database else str(room.records.database.path)

    assert all(len(secret) >= 16 for secret in hidden.values())
    assert {"elsewhere", "ada"} <= set(re.findall(r"\w+", dict(files)[ledger]))
    assert [] == [
        (kind, where) for where, text in [*answers, *files] for kind, secret in hidden.items() if secret in text
    ]
    assert [] == [where for where, text in files if token in text]
    assert [] == [where for where, text in answers if "Traceback" in text or ".py" in text]
    assert [] == [tuple(row) for row in closed]
    assert [] == [where for where, text in [*answers, *files] if where != ledger and HEADER.search(text)]
