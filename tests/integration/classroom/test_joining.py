"""Joining, and the rights of a pass: it opens only its owner's data, until it is revoked or expires."""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from blockrun_magic.classroom.hub import HubUser
from blockrun_magic.classroom.joining import Joining
from blockrun_magic.classroom.storage.members import secret_hash
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.classroom import Class, Student, running_class
from harness.postgresql import Cluster


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Class]:
    """Yield a running classroom, on each of the two engines."""
    database = cluster.empty_database() if request.param == "postgresql" else None
    home = tmp_path_factory.mktemp("class")
    with PracticeServer() as gateway, running_class(home, gateway, database=database) as running:
        yield running


def invite(room: Class, name: str, seconds: float = 3600.0) -> str:
    """Return a join code for a name."""
    return room.owner.invite(name, groups=[], expires_at=room.records.database.now() + seconds)


def join(room: Class, code: object, **more: object) -> tuple[int, str]:
    """Return the status of joining with a code, and the code of the refusal."""
    answer = room.client.post(f"{room.url}/v1/join", json={"code": code} | more)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def test_a_code_joins_once(room: Class) -> None:
    """A code is accepted in any case and with any separators, but only once, and it is not stored."""
    code = invite(room, "once")
    typed = code.lower().replace("-", " ")

    assert (16, 3) == (len(code.replace("-", "")), code.count("-"))
    assert (200, "") == join(room, typed)
    assert (401, "code_used") == join(room, code)
    assert (401, "bad_code") == join(room, "0000-0000-0000-0000")
    assert (401, "bad_code") == join(room, "x" * 5000)
    assert (401, "bad_code") == join(room, "\0")
    assert 422 == join(room, 7)[0]


def test_an_expired_code(room: Class) -> None:
    """A code expires after its time, and is void when its person is revoked."""
    code = invite(room, "late")
    with room.records.database.transaction() as connection:
        connection.execute("UPDATE invitations SET expires_at = 1 WHERE member_id = ?", (room.member("late").id,))
    assert (401, "code_expired") == join(room, code)

    code = invite(room, "gone")
    room.owner.revoke(room.member("gone"))
    assert (401, "bad_code") == join(room, code)


def test_a_code_for_several_people(room: Class) -> None:
    """Each person chooses a new name; a used name is refused, and only the invited number of people can join."""
    code = room.owner.invite_people(3, groups=["blue"], expires_at=room.records.database.now() + 60)

    assert (200, "") == join(room, code, name="dora")
    assert (422, "name_taken") == join(room, code, name="dora")
    assert (422, "bad_request") == join(room, code, name="\u202eevil")
    assert (200, "") == join(room, code)
    assert (200, "") == join(room, code, name="=cmd()")
    assert (401, "code_used") == join(room, code, name="emil")
    assert ("blue",) == room.member("dora").groups


def test_a_lost_answer_to_joining(room: Class) -> None:
    """The same attempt with the same code joins again as the same person."""
    code, attempt = invite(room, "lost"), secrets.token_hex(16)
    answers = [room.client.post(f"{room.url}/v1/join", json={"code": code, "attempt": attempt}) for _ in range(2)]

    first, second = (Student(room.url, answer.json()["pass"], room.client) for answer in answers)
    assert [200, 200] == [student.call("GET", "/v1/me").status_code for student in (first, second)]
    assert first.secret != second.secret
    assert (401, "code_used") == join(room, code, attempt=secrets.token_hex(16))


@pytest.mark.parametrize("people", [None, 3], ids=["for one", "for three"])
def test_a_code_at_once(room: Class, people: int | None) -> None:
    """A code is sent sixteen times at the same moment: each use admits one person, and one attempt is one person."""
    later = room.records.database.now() + 60
    name = f"at once {people}"

    def at_once(**more: str) -> list[tuple[int, int | str]]:
        invited = invite(room, name) if people is None else room.owner.invite_people(3, groups=[], expires_at=later)
        with ThreadPoolExecutor(16) as pool:
            posts = [pool.submit(post, json={"code": invited} | more) for _ in range(16)]
        answers = [sent.result() for sent in posts]
        return [(sent.status_code, sent.json().get("member", {}).get("id", "")) for sent in answers]

    post = partial(httpx.post, f"{room.url}/v1/join", timeout=PATIENCE)
    by_chance, same = at_once(), at_once(attempt=secrets.token_hex(16))

    assert {200: people or 1, 401: 16 - (people or 1)} == Counter(status for status, _ in by_chance)
    assert [200] * 16 == [status for status, _ in same]
    assert 1 == len({member for _, member in same})


def test_an_attempt_is_good_for_a_while(room: Class) -> None:
    """An attempt can be repeated for a short time; later, or after the invitation is withdrawn, it is refused."""
    for number, change in enumerate(("UPDATE passes SET created_at = 1", "UPDATE invitations SET revoked_at = 1")):
        code, attempt = invite(room, f"soon {number}"), secrets.token_hex(16)
        assert (200, "") == join(room, code, attempt=attempt)
        with room.records.database.transaction() as connection:
            connection.execute(f"{change} WHERE member_id = ?", (room.member(f"soon {number}").id,))
        assert 401 == join(room, code, attempt=attempt)[0]


def test_kernels_of_one_user_at_once(room: Class) -> None:
    """A user of the hub who opens several notebooks is one person, with the latest groups."""
    records = room.records
    joining = Joining(records.database, records.members, records.invitations, records.audit)
    users = [HubUser("hubert", ("red",)), HubUser("hubert", ("blue", "red"))] * 4
    with ThreadPoolExecutor(8) as pool:
        joined = list(pool.map(joining.admit_hub_user, users))

    assert 1 == len({each.member.id for each in joined})
    assert 8 == len({each.secret for each in joined})
    assert joining.admit_hub_user(users[1]).member.groups == ("blue", "red")


def test_passes(room: Class) -> None:
    """Requests without a pass, or with a wrong, expired or revoked one, are refused."""
    ada = room.student("ada")
    paths = ["/v1/me", "/v1/models", "/v1/orders", f"/v1/orders/{secrets.token_hex(16)}", f"/v1/images/{'0' * 64}"]
    stranger = Student(room.url, f"brc_{secrets.token_urlsafe(32)}", room.client)

    for path in paths:
        assert (401, "no_pass") == (
            stranger.call("GET", path).status_code,
            stranger.call("GET", path).json()["error"]["code"],
        )
        assert 401 == room.client.get(room.url + path, headers={"Cookie": f"session={ada.secret}"}).status_code
        assert 401 == room.client.get(room.url + path, headers={"Authorization": ada.secret}).status_code
    with room.records.database.transaction() as connection:
        connection.execute("UPDATE passes SET expires_at = 1 WHERE hash = ?", (secret_hash(ada.secret),))
    assert "expired" == ada.call("GET", "/v1/me").json()["error"]["code"]
    again = room.student("ada")
    assert room.member("ada").id == again.joined["member"]["id"]
    room.owner.revoke(room.member("ada"))
    assert "revoked" == again.call("GET", "/v1/me").json()["error"]["code"]
    assert "revoked" == again.put("a fox").json()["error"]["code"]


def test_another_persons_things(room: Class) -> None:
    """Orders and images of other people are not found; an image of a teacher is found."""
    eve, bob, key = room.student("eve"), room.student("bob"), secrets.token_hex(16)
    bob.put("bob's", key)
    [image] = room.records.orders.images(room.records.orders.listed(room.member("bob").id)[0].id)

    assert 200 == bob.call("GET", f"/v1/images/{image.file}").status_code
    assert 404 == eve.call("GET", f"/v1/images/{image.file}").status_code
    assert 404 == eve.get(key).status_code
    room.student("tess", role="teacher").put("the teacher's")
    [shown] = room.records.orders.images(room.records.orders.listed(room.member("tess").id)[0].id)
    assert 200 == eve.call("GET", f"/v1/images/{shown.file}").status_code
    assert [] == eve.call("GET", "/v1/orders").json()["orders"]
    assert "cancelled" == eve.delete(key).json()["state"]
    assert 200 == bob.get(key).status_code


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/../../etc/passwd",
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/images/%00",
        f"/v1/images/{'0' * 63}%00",
        f"/v1/images/{'0' * 64}.png",
        "/v1/orders/..",
        "/v1/orders/%00",
        "/v1/orders/%2e%2e%2fjoin",
        f"/v1/orders/{'A' * 32}",
        "/v1/../v1/me%00",
    ],
)
def test_odd_paths(room: Class, path: str) -> None:
    """No path reaches a file or causes an internal error; a raw socket sends it, because a client would clean it."""
    frank = room.student("frank")
    for method in ("GET", "PUT", "DELETE"):
        answer = raw(room, f"{method} {path} HTTP/1.1", f"Host: {urlsplit(room.url).netloc}", *pass_lines(frank))
        assert answer.split(b" ")[1] in (b"404", b"405", b"422"), (method, answer)
        assert b"root:" not in answer


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""])
def test_a_forged_host(room: Class, host: str) -> None:
    """A request with another host name is refused, even with a pass; so is a request with two host names."""
    grace = room.student("grace")

    assert raw(room, "GET /v1/me HTTP/1.1", f"Host: {host}", *pass_lines(grace)).split(b" ")[1] in (b"403", b"400")
    good = f"Host: {urlsplit(room.url).netloc}"
    assert raw(room, "GET /v1/me HTTP/1.1", good, "Host: evil.example", *pass_lines(grace)).split(b" ")[1] in (
        b"400",
        b"403",
    )
    assert b"access-control" not in raw(room, "GET /v1/me HTTP/1.1", good, "Origin: null", *pass_lines(grace)).lower()


def pass_lines(student: Student) -> list[str]:
    """Return the header lines for a pass and for an empty body."""
    return [f"Authorization: Bearer {student.secret}", "Content-Length: 0"]


def raw(room: Class, *lines: str) -> bytes:
    """Send these lines unchanged and return the answer."""
    address = urlsplit(room.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer
