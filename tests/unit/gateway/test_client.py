"""The HTTP client over real sockets: errors of broken connections, and addresses that are refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx
import pytest

from blockrun_magic.errors import GatewayUnreachable, InvalidResponse, SourceError
from blockrun_magic.gateway import client as client_module
from blockrun_magic.gateway.client import Client, Timeouts
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.network.transport import Transport
from blockrun_magic.gateway.responses import Response
from blockrun_magic.payments.x402.networks import BASE
from fakes.raw_socket import RESET, RawServer, http, json_http, raw_server

T = TypeVar("T")

PATH = "/v1/images/generations"
PUBLIC = Gateway("base", "https://blockrun.example/api", (BASE,))
HASH = "0x" + "ab" * 32
PAYMENT = {"PAYMENT-SIGNATURE": "the payload"}


def run(use: Callable[[Client], Awaitable[T]], timeouts: Timeouts | None = None) -> T:
    """Return the result of `use` with a client, and close the client."""

    async def main() -> T:
        async with Client(timeouts) as client:
            return await use(client)

    return asyncio.run(main())


def at(server: RawServer) -> Gateway:
    """Return a gateway on this machine."""
    return practice_at(f"{server.url}/api")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the hosts of attempted connections; no connection is made."""
    tried: list[str] = []

    async def refuse(self: Transport, request: httpx.Request) -> httpx.Response:
        tried.append(request.url.host)
        raise httpx.ConnectError("no connection leaves this test", request=request)

    monkeypatch.setattr(Transport, "handle_async_request", refuse)
    return tried


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return a table of names and addresses that replaces DNS; numeric addresses are resolved as usual."""
    table: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name in table:
            return [entry for address in table[name] for entry in real(address, port, *rest, **more)]
        if any(letter.isalpha() for letter in name) and not name.startswith("0x") and ":" not in name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


# -- requests to the gateway


def test_a_post_brings_the_body_and_the_answer() -> None:
    """JSON and the payment header go to the path below the gateway's base; status, headers and body come back."""
    with raw_server(json_http({"data": []}, 402, PAYMENT_REQUIRED="terms")) as server:
        answer = run(lambda client: client.post(at(server), PATH, {"prompt": "море 🌊"}, PAYMENT))

    [seen] = server.seen

    assert ("POST", "/api" + PATH) == (seen.method, seen.target)
    assert {"prompt": "море 🌊"} == json.loads(seen.body)
    assert "the payload" == seen.headers["payment-signature"]
    assert (402, "terms", {"data": []}) == (answer.status, answer.headers["payment-required"], answer.json())


def test_a_get_takes_a_path_or_an_address_of_the_gateway() -> None:
    """A path is below the gateway's base; an absolute URL must be on the gateway's origin."""
    with raw_server(json_http({})) as server:
        gateway = at(server)
        run(lambda client: client.get(gateway, "/v1/models"))
        run(lambda client: client.get(gateway, f"{server.url}/api/v1/jobs/1", PAYMENT))

    assert ["/api/v1/models", "/api/v1/jobs/1"] == [seen.target for seen in server.seen]
    assert "payment-signature" not in server.seen[0].headers
    assert "the payload" == server.seen[1].headers["payment-signature"]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/jobs/1",
        "http://blockrun.example/api",
        "https://blockrun.example.evil.example/",
        "https://blockrun.example@evil.example/",
        "https://blockrun.example:8443/",
        "//evil.example/",
        "v1/jobs/1",
        "https://blockrun.example/\x01",
    ],
)
def test_a_get_goes_nowhere_else(offline: list[str], url: str) -> None:
    """A payment header goes to the gateway's own origin only; odd URLs cause an error of ours."""
    with pytest.raises((InvalidResponse, GatewayUnreachable)):
        run(lambda client: client.get(PUBLIC, url, PAYMENT))

    assert set(offline) <= {"blockrun.example"}


def test_a_refused_connection_sent_nothing() -> None:
    """If the connection is refused, no request was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(practice_at(f"http://127.0.0.1:{port}"), PATH, {}, PAYMENT))

    assert not caught.value.sent


def test_an_unknown_name_sent_nothing(names: dict[str, list[str]]) -> None:
    """If the gateway's name cannot be resolved, no request was sent."""
    with pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(PUBLIC, PATH, {}, PAYMENT))

    assert not caught.value.sent


@pytest.mark.parametrize(
    "answer",
    [RESET, b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n", http(b"{", length=500)],
    ids=["reset", "nothing", "a first line", "another protocol", "half a body"],
)
def test_a_broken_answer_may_have_been_paid(answer: Any) -> None:
    """A reset, silence, half a head or half a body after the request counts as sent."""
    with raw_server(answer) as server, pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(at(server), PATH, {}, PAYMENT))

    assert caught.value.sent
    assert 1 == len(server.seen)


def test_half_a_body_still_shows_its_headers() -> None:
    """If the body breaks off, the error still has the headers, which contain the settlement."""
    half = http(b'{"data": [{"url"', length=4000, PAYMENT_RESPONSE="c2V0dGxlZA==", X_Payment_Receipt=HASH)
    with raw_server(half) as server, pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(at(server), PATH, {}, PAYMENT))

    assert HASH == caught.value.headers["x-payment-receipt"]
    assert "c2V0dGxlZA==" == caught.value.headers["payment-response"]


def test_a_body_that_cannot_be_unpacked_still_shows_its_headers() -> None:
    """A body that is not valid gzip is a broken answer, and the error has its headers."""
    broken = http(b"not gzip at all", content_encoding="gzip", X_Payment_Receipt=HASH)
    with raw_server(broken) as server, pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(at(server), PATH, {}, PAYMENT))

    assert caught.value.sent
    assert HASH == caught.value.headers["x-payment-receipt"]


def test_a_silent_gateway_is_not_waited_for_without_end() -> None:
    """A silent gateway causes an error after the timeout, and the payment may have been made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gateway = practice_at(f"http://127.0.0.1:{listener.getsockname()[1]}")

        with pytest.raises(GatewayUnreachable) as caught:
            run(lambda client: client.post(gateway, PATH, {}, PAYMENT), Timeouts(answer=0.05))

    assert caught.value.sent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_a_payment(status: int) -> None:
    """The gateway's redirect is returned as an answer: no other address gets the request or its header."""
    with raw_server(json_http({})) as other:
        moved = http(b"", status, location=f"{other.url}/api{PATH}")
        with raw_server(moved) as server:
            posted = run(lambda client: client.post(at(server), PATH, {}, PAYMENT))
            got = run(lambda client: client.get(at(server), "/v1/jobs/1", PAYMENT))

    assert (status, status) == (posted.status, got.status)
    assert [] == other.seen


@pytest.mark.parametrize("location", ["data:image/png;base64,AAAA", "https://[::1", "http://x:port/", "/\x01"])
def test_a_redirect_to_no_address_is_a_response(location: str) -> None:
    """A redirect to an invalid address is returned as an answer, because it is not followed."""
    with raw_server(http(b"", 302, location=location)) as server:
        answer = run(lambda client: client.post(at(server), PATH, {}, PAYMENT))

    assert 302 == answer.status


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_oversized_answer_is_not_read(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """An answer above the limit is refused, even if its compressed form is below it."""
    monkeypatch.setattr(client_module, "_MAX_ANSWER", 100_000)
    body = b"x" * 1_000_000
    answer = http(gzip.compress(body), content_encoding="gzip") if packed else http(body)

    with raw_server(answer) as server, pytest.raises(InvalidResponse):
        run(lambda client: client.post(at(server), PATH, {}))


def test_an_answer_hides_its_body() -> None:
    """The repr of an answer does not show the body, which may be an image of megabytes."""
    assert "picture" not in repr(Response(200, {}, b"picture"))


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine do not use the environment's proxy."""
    with raw_server(http(b"proxied")) as proxy, raw_server(http(b"direct")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        answer = run(lambda client: client.post(at(server), PATH, {}))

    assert b"direct" == answer.body
    assert [] == proxy.seen


# -- downloading results


def test_a_picture_on_the_own_origin_is_fetched() -> None:
    """A gateway on this machine serves its images over http; the request has no payment header."""
    with raw_server(http(b"\x89PNG")) as server:
        data = run(lambda client: client.download(f"{server.url}/images/1.png", at(server)))

    assert b"\x89PNG" == data
    assert "payment-signature" not in server.seen[0].headers
    assert f"127.0.0.1:{server.port}" == server.seen[0].headers["host"]


def test_redirects_are_followed_a_little() -> None:
    """Up to three redirects are followed, relative ones included."""
    steps = [http(b"", 302, location="/second"), http(b"", 307, location="third?x=1"), http(b"picture")]
    with raw_server(*steps) as server:
        data = run(lambda client: client.download(f"{server.url}/images/first", at(server)))

    assert b"picture" == data
    assert ["/images/first", "/second", "/third?x=1"] == [seen.target for seen in server.seen]


@pytest.mark.parametrize("location", ["/again", None], ids=["loop", "no location"])
def test_redirects_end(location: str | None) -> None:
    """The client gives up after three redirects."""
    where = {} if location is None else {"location": location}
    with raw_server(http(b"", 302, **where)) as server, pytest.raises(InvalidResponse):
        run(lambda client: client.download(f"{server.url}/again", at(server)))

    assert 4 == len(server.seen)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "ftp://127.0.0.1/x",
        "https://[::1",
        "https://user:password@cdn.example/x",
        "data:image/png;base64,AAAA",
        "/\x01",
    ],
)
def test_a_redirect_is_checked_like_the_first_address(location: str) -> None:
    """A redirect to an address that is refused directly is refused too."""
    with raw_server(http(b"", 302, location=location)) as server:
        with pytest.raises((InvalidResponse, GatewayUnreachable)):
            run(lambda client: client.download(f"{server.url}/x", at(server)))

        assert 1 == len(server.seen)


@pytest.mark.parametrize("status", [204, 403, 404, 500])
def test_a_picture_that_is_not_there_is_said_so(status: int) -> None:
    """Another status than 200 causes an error that names it."""
    with raw_server(http(b"", status)) as server, pytest.raises(GatewayUnreachable, match=str(status)):
        run(lambda client: client.download(f"{server.url}/x", at(server)))


@pytest.mark.parametrize("answer", [RESET, http(b"half", length=400)], ids=["reset", "half"])
def test_a_picture_that_breaks_off_is_said_so(answer: Any) -> None:
    """An incomplete image causes an error."""
    with raw_server(answer) as server, pytest.raises(GatewayUnreachable):
        run(lambda client: client.download(f"{server.url}/x", at(server)))


def test_a_picture_has_a_greatest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image above the limit is refused."""
    monkeypatch.setattr(client_module, "_MAX_IMAGE", 1000)
    with raw_server(http(b"x" * 1001)) as server, pytest.raises(InvalidResponse):
        run(lambda client: client.download(f"{server.url}/x", at(server)))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://blockrun.example/x.png",
        "http://cdn.example/x.png",
        "http://127.0.0.1/x.png",
        "ftp://cdn.example/x.png",
        "javascript:alert(1)",
        "//cdn.example/x.png",
        "/images/x.png",
        "x.png",
        "",
        "https://",
        "https:///x.png",
        "https://user@cdn.example/x.png",
        "https://user:password@cdn.example/x.png",
        "https://:password@cdn.example/x.png",
        "https://cdn.example:99999/x.png",
        "https://cdn.example:port/x.png",
        "https://[::1",
    ],
)
def test_what_is_not_plain_https_is_not_opened(offline: list[str], names: dict[str, list[str]], url: str) -> None:
    """For a public gateway only https URLs without credentials are opened; no other connection is tried."""
    names |= {"cdn.example": ["8.8.8.8"], "blockrun.example": ["8.8.8.8"]}

    with pytest.raises(InvalidResponse):
        run(lambda client: client.download(url, PUBLIC))

    assert [] == offline


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104  an address to refuse
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_not_opened(offline: list[str], address: str) -> None:
    """A public gateway's URL with a private, local or special address, or an IPv6 form of one, is refused."""
    host = f"[{address}]" if ":" in address else address

    with pytest.raises(InvalidResponse):
        run(lambda client: client.download(f"https://{host}/x.png", PUBLIC))

    assert [] == offline


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "017700000001", "0", "1.1"])
def test_a_disguised_address_is_not_opened(offline: list[str], host: str) -> None:
    """Decimal, hex, octal and short spellings of private addresses are refused too."""
    with pytest.raises(GatewayUnreachable if host == "1.1" else InvalidResponse):
        run(lambda client: client.download(f"https://{host}/x.png", PUBLIC))

    assert host == "1.1" or [] == offline


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_to_a_private_address_is_not_opened(
    offline: list[str], names: dict[str, list[str]], address: str
) -> None:
    """A name is refused if any of its addresses is private."""
    names["cdn.example"] = ["8.8.8.8", address]

    with pytest.raises(InvalidResponse):
        run(lambda client: client.download("https://cdn.example/x.png", PUBLIC))

    assert [] == offline


@pytest.mark.parametrize(
    ("address", "opened"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("2606:4700::1111", "2606:4700::1111"),
        ("64:ff9b::808:808", "64:ff9b::808:808"),
        ("::ffff:8.8.8.8", "::ffff:808:808"),
    ],
)
def test_the_address_that_was_checked_is_the_one_that_is_opened(
    offline: list[str], names: dict[str, list[str]], address: str, opened: str
) -> None:
    """The connection goes to the checked address, so a name cannot change between check and connection."""
    names["cdn.example"] = [address]

    with pytest.raises(GatewayUnreachable):
        run(lambda client: client.download("https://cdn.example/x.png", PUBLIC))

    assert [ip_address(opened)] == [ip_address(connected) for connected in offline]


@pytest.mark.parametrize("host", ["nowhere.example", "a..b", "a" * 70 + ".example", "x\x00y"])
def test_a_name_that_leads_nowhere_is_said_so(offline: list[str], names: dict[str, list[str]], host: str) -> None:
    """A host that cannot be resolved, or is invalid, causes an error of ours in printable text."""
    with pytest.raises((GatewayUnreachable, InvalidResponse)) as caught:
        run(lambda client: client.download(f"https://{host}/x.png", PUBLIC))

    assert caught.value.message.isprintable()
    assert [] == offline


def test_a_name_outside_ascii_is_an_error_of_ours(offline: list[str], names: dict[str, list[str]]) -> None:
    """A host name outside ASCII is refused, although its address is public."""
    names["b\u00fccher.example"] = ["8.8.8.8"]

    with pytest.raises(InvalidResponse):
        run(lambda client: client.download("https://b\u00fccher.example/x.png", PUBLIC))

    assert [] == offline


def test_a_redirect_to_a_private_address_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]
) -> None:
    """A redirect from a public address to a private one is refused."""
    names |= {"cdn.example": ["8.8.8.8"], "inside.example": ["192.168.1.1"]}
    opened: list[str] = []

    async def redirect(self: Transport, request: httpx.Request) -> httpx.Response:
        opened.append(request.url.host)
        assert "cdn.example" == request.headers["host"]
        assert "cdn.example" == request.extensions["sni_hostname"]
        return httpx.Response(302, headers={"location": "https://inside.example/admin"}, request=request)

    monkeypatch.setattr(Transport, "handle_async_request", redirect)

    with pytest.raises(InvalidResponse):
        run(lambda client: client.download("https://cdn.example/x.png", PUBLIC))

    assert ["8.8.8.8"] == opened


# -- URLs from the user


def test_the_users_own_url_is_the_users_choice() -> None:
    """A user's source URL is fetched over http, from this machine and through redirects."""
    steps = [http(b"", 302, location="/moved.png"), http(b"picture")]
    with raw_server(*steps) as server:
        data = run(lambda client: client.fetch(f"{server.url}/mine.png"))

    assert b"picture" == data
    assert ["/mine.png", "/moved.png"] == [seen.target for seen in server.seen]


@pytest.mark.parametrize(
    "answer",
    [http(b"", 404), http(b"", 500), RESET, http(b"half", length=400), http(b"", 302, location="/loop")],
    ids=["404", "500", "reset", "half", "loop"],
)
def test_a_source_that_does_not_come_is_a_source_error(answer: Any) -> None:
    """The error names the user's URL if the download fails."""
    with raw_server(answer) as server, pytest.raises(SourceError) as caught:
        run(lambda client: client.fetch(f"{server.url}/mine.png"))

    assert f"{server.url}/mine.png" in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://cdn.example/x",
        "not a url",
        "",
        "http://",
        "http://[::1",
        "http://a..b/",
        "http://x\x01y/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://" + "a" * 300 + "/",
    ],
)
def test_a_source_that_is_no_url_is_a_source_error(names: dict[str, list[str]], url: str) -> None:
    """An invalid source URL causes a SourceError with a printable message."""
    with pytest.raises(SourceError) as caught:
        run(lambda client: client.fetch(url))

    assert caught.value.message.isprintable()
    assert ".." not in caught.value.message.replace("a..b", "")


def test_a_source_has_a_greatest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source above the limit is refused."""
    monkeypatch.setattr(client_module, "_MAX_IMAGE", 1000)
    with raw_server(http(b"x" * 1001)) as server, pytest.raises(SourceError):
        run(lambda client: client.fetch(f"{server.url}/x"))
