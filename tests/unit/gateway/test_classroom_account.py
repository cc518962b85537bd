"""A student's secrets: a join code, a pass and a hub's token go only to their own server, and are never shown."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from blockrun_magic.errors import BlockrunError, UsageError, WalletError, WalletMissing
from blockrun_magic.gateway.classroom.account import ClassroomAccount
from blockrun_magic.gateway.classroom.refusals import PassRefused
from blockrun_magic.gateway.client import Client, Timeouts
from blockrun_magic.gateway.gateways import classroom_at
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.secrets import RedactedEnviron, Secret
from blockrun_magic.payments.wallets.classroom_pass import ClassroomPass, HubProof, JoinedClassroom, PassFile, hub_proof
from fakes.classroom import CODE, TOKEN, FakeClassroom
from fakes.http_server import Served
from harness import PATIENCE

_PASS = "brc_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


class Answers(Served):
    """A server with one answer to every request; it records the requests."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> Starlette:
        """Return the application."""

        async def every(request: Request) -> Response:
            self.seen.append(f"{request.url.path} {dict(request.headers)} {await request.body()!r}")
            return self.answer(request)

        return Starlette(routes=[Route("/{path:path}", every, methods=["GET", "POST", "PUT", "DELETE"])])


def with_account(
    folder: Path, work: Callable[[ClassroomAccount], Awaitable[Any]], proof: HubProof | None = None
) -> Any:
    """Return the result of `work` with the account of a new kernel."""

    async def begun() -> Any:
        async with Client(Timeouts(connect=PATIENCE, answer=PATIENCE, image=PATIENCE)) as client:
            return await work(ClassroomAccount(client, PassFile(folder / "classroom.json"), proof))

    return asyncio.run(begun())


def test_the_token_goes_to_the_address_of_the_server_only(tmp_path: Path) -> None:
    """Another classroom never gets the hub's token, even if it refuses its own pass."""
    no_pass = JSONResponse({"error": {"code": "no_pass", "message": "No.", "hint": "Join."}}, 401)
    with FakeClassroom() as room, Answers(lambda _: no_pass) as other:
        elsewhere = classroom_at(other.url, Realm.PRACTICE)

        async def asks(account: ClassroomAccount) -> None:
            await account.join_on_hub()
            with pytest.raises(WalletMissing):
                await account.call("GET", elsewhere, "/v1/me")
            PassFile(tmp_path / "classroom.json").write(
                JoinedClassroom(other.url, Realm.PRACTICE, ClassroomPass(Secret(_PASS), None))
            )
            with pytest.raises(PassRefused):
                await account.membership(elsewhere)

        with_account(tmp_path, asks, HubProof(room.url, Secret(TOKEN)))

        assert [{"hub_token": TOKEN}] == room.joined
        assert 1 == len(other.seen)
        assert TOKEN not in other.seen[0]


def test_a_redirect_takes_no_pass_along(tmp_path: Path) -> None:
    """A service's redirect is not followed."""
    with Answers(lambda _: JSONResponse({})) as other, Answers(lambda _: RedirectResponse(other.url, 307)) as room:
        PassFile(tmp_path / "classroom.json").write(
            JoinedClassroom(room.url, Realm.PRACTICE, ClassroomPass(Secret(_PASS), None))
        )

        async def asks(account: ClassroomAccount) -> None:
            with pytest.raises(BlockrunError):
                await account.membership(classroom_at(room.url, Realm.PRACTICE))
            with pytest.raises(BlockrunError):
                await account.join(room.url, Secret(CODE))

        with_account(tmp_path, asks)

        assert [] == other.seen


def test_a_service_that_repeats_what_it_was_sent(tmp_path: Path) -> None:
    """A service's message is shown without the code, the token and the pass."""

    def echo(request: Request) -> Response:
        said = f"You sent {CODE}, {TOKEN} and {request.headers.get('authorization')} {_PASS}."
        return JSONResponse({"error": {"code": "odd", "message": said, "hint": said}}, 400)

    with Answers(echo) as room:

        async def asks(account: ClassroomAccount) -> str:
            said = []
            for joining in (account.join(room.url, Secret(CODE)), account.join_on_hub()):
                with pytest.raises(BlockrunError) as caught:
                    await joining
                said.append(f"{caught.value}{caught.value.args}")
            assert CODE not in said[0]
            assert TOKEN not in said[1]
            return "".join(said)

        assert _PASS not in with_account(tmp_path, asks, HubProof(room.url, Secret(TOKEN)))


def test_a_pass_is_shown_nowhere() -> None:
    """The repr of a pass or the environment shows no secret, and a pass cannot be pickled or copied."""
    ticket = ClassroomPass(Secret(_PASS), None)
    environ = RedactedEnviron({"BLOCKRUN_CLASSROOM_URL": "http://127.0.0.1:1", "JUPYTERHUB_API_TOKEN": TOKEN})
    shown = repr([ticket, ticket.headers(), hub_proof(environ), environ, JoinedClassroom("u", Realm.REAL, ticket)])

    assert _PASS not in shown
    assert TOKEN not in shown
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(ticket)


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    """The file has mode 0600 when it is made, and again after it is read with another mode."""
    file = PassFile(tmp_path / "magic" / "classroom.json")
    before = os.umask(0)
    try:
        file.write(JoinedClassroom("https://class.example", Realm.REAL, ClassroomPass(Secret(_PASS), 2e9)))
    finally:
        os.umask(before)
    assert 0o600 == stat.S_IMODE(file.path.stat().st_mode)
    file.path.chmod(0o644)
    joined = file.read("https://class.example")

    assert joined is not None
    assert joined.ticket is not None
    assert {"Authorization": f"Bearer {_PASS}"} == dict(joined.ticket.headers())
    assert 0o600 == stat.S_IMODE(file.path.stat().st_mode)
    assert file.read("https://other.example") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"classrooms"'])
def test_a_file_that_cannot_be_read_is_two_lines(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be read causes a WalletError with two lines."""
    file = PassFile(tmp_path / "classroom.json")
    file.path.write_bytes(content)

    with pytest.raises(WalletError) as caught:
        file.read("u")

    assert all(caught.value.lines)


@pytest.mark.parametrize("content", [b'{"classrooms": 3}', b'{"classrooms": {"u": {"money": "gold"}}}'])
def test_an_entry_that_is_none_counts_as_not_joined(tmp_path: Path, content: bytes) -> None:
    """An invalid entry is ignored, so that the student can join again."""
    file = PassFile(tmp_path / "classroom.json")
    file.path.write_bytes(content)

    assert file.read("u") is None


@pytest.mark.parametrize(
    "url", ["http://class.example", "ftp://class.example", "https://ada:pw@class.example", "https://"]
)
def test_an_address_that_is_typed_is_encrypted(tmp_path: Path, url: str) -> None:
    """An address without encryption is refused before a request is sent; only a hub's operator may set one."""

    async def asks(account: ClassroomAccount) -> None:
        with pytest.raises(UsageError):
            account.known(url)

    with_account(tmp_path, asks)

    async def of_a_hub(account: ClassroomAccount) -> str | None:
        return account.hub_url

    assert "http://hub:8081/services/classroom" == with_account(
        tmp_path, of_a_hub, HubProof("http://hub:8081/services/classroom/", Secret(TOKEN))
    )
