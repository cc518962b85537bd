"""The HTTP transport: lazy, proxied, without cookies or logs, and limited in size, rate and time."""

from __future__ import annotations

import asyncio
import builtins
import gzip
import logging
import random
import socket
import threading
import tomllib
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import httpx
import pytest

from blockrun_magic.errors import BlockrunError, GatewayUnreachable, InvalidResponse, RequestError, SourceError
from blockrun_magic.gateway.client import USER_AGENT, Client, Timeouts
from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.gateway.network import streams
from blockrun_magic.gateway.network.streams import Incoming, Stream
from blockrun_magic.gateway.network.transport import Transport
from blockrun_magic.gateway.proxies import proxy_for
from blockrun_magic.gateway.reading import Pace
from blockrun_magic.payments.x402.networks import BASE
from fakes.raw_socket import RawServer, http, json_http, raw_server
from harness import PATIENCE, ROOT

T = TypeVar("T")

PAGE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Homepage"]
PUBLIC = Gateway("base", "https://blockrun.example/api", (BASE,))
PATH = "/v1/images/generations"
HASTY = Timeouts(connect=PATIENCE, answer=PATIENCE, image=PATIENCE, pace=Pace(grace=0.3, rate=1_000_000, total=1))
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def run(use: Callable[[Client], Awaitable[T]], timeouts: Timeouts | None = None) -> T:
    """Return the result of `use` with a client, and close the client."""

    async def main() -> T:
        async with Client(timeouts) as client:
            return await use(client)

    return asyncio.run(main())


def at(server: RawServer) -> Gateway:
    """Return a gateway on this machine."""
    return practice_at(server.url)


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return the environment without the proxies and certificates of this machine."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


# -- the environment

BROKEN = [
    ("ALL_PROXY", "socks://127.0.0.1:1080/"),
    ("HTTPS_PROXY", "socks://x"),
    ("HTTPS_PROXY", "http://[::1"),
    ("HTTPS_PROXY", "http://proxy:port"),
    ("HTTPS_PROXY", "ftp://proxy:21"),
    ("HTTPS_PROXY", "http://"),
    ("HTTPS_PROXY", "http://\x01:3128"),
    ("HTTPS_PROXY", "http://my proxy:3128"),
    ("HTTPS_PROXY", "proxy:0"),
    ("SSLKEYLOGFILE", "/nowhere/keys.log"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ("SSL_CERT_FILE", "/"),
    ("SSL_CERT_FILE", __file__),
]


@pytest.mark.parametrize(("name", "value"), BROKEN)
def test_a_broken_environment_does_not_disturb_this_machine(environ: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Practice needs no network, so proxies and certificates of the environment are not read."""
    environ.setenv(name, value)
    with raw_server(json_http({"data": []})) as server:
        answer = run(lambda client: client.post(at(server), PATH, {}))

    assert 200 == answer.status


@pytest.mark.parametrize(("name", "value"), BROKEN)
def test_a_broken_environment_is_named_where_it_is_needed(environ: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A public gateway causes an error in two lines that names the variable; no request is sent."""
    environ.setenv(name, value)

    with pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(PUBLIC, PATH, {}))
    with pytest.raises(SourceError) as source:
        run(lambda client: client.fetch("https://cdn.example/x.png"))

    assert not caught.value.sent
    assert name in caught.value.message
    assert name in source.value.message
    assert all(2 == len(str(error.value).splitlines()) for error in (caught, source))


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_socks_without_its_library_names_it(environ: pytest.MonkeyPatch, scheme: str) -> None:
    """The error for a SOCKS proxy names the missing extra of httpx."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "socksio":
            raise ImportError(name)
        return real(name, *rest, **more)

    environ.setattr(builtins, "__import__", without)
    environ.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:1080")

    with pytest.raises(GatewayUnreachable) as caught:
        run(lambda client: client.post(PUBLIC, PATH, {}))

    assert "httpx[socks]" in caught.value.hint


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("listed", "url", "proxied"),
    [
        ("", "https://blockrun.ai/x", True),
        ("*", "https://blockrun.ai/x", False),
        ("blockrun.ai", "https://blockrun.ai/x", False),
        ("blockrun.ai", "https://api.blockrun.ai/x", False),
        ("blockrun.ai", "https://notblockrun.ai/x", True),
        (".blockrun.ai", "https://api.blockrun.ai/x", False),
        ("*.blockrun.ai", "https://api.blockrun.ai/x", False),
        ("BLOCKRUN.AI", "https://blockrun.ai/x", False),
        ("blockrun.ai:8443", "https://blockrun.ai/x", True),
        ("blockrun.ai:8443", "https://blockrun.ai:8443/x", False),
        ("[::1],blockrun.ai", "https://blockrun.ai/x", False),
        ("fe80::/10,[::1,blockrun.ai", "https://blockrun.ai/x", False),
        ("http://[,a..b,\x01,10.0.0.0/99,blockrun.ai", "https://blockrun.ai/x", False),
        ("10.0.0.0/8", "https://10.1.2.3/x", False),
        ("10.0.0.0/8", "https://11.1.2.3/x", True),
        ("10.1.2.3", "https://10.1.2.3/x", False),
        ("[2606:4700::]/32", "https://[2606:4700::1]/x", True),
        ("2606:4700::/32", "https://[2606:4700::1]/x", False),
        ("https://blockrun.ai", "https://blockrun.ai/x", False),
        (",,,", "https://blockrun.ai/x", True),
    ],
)
def test_who_goes_through_the_proxy(environ: pytest.MonkeyPatch, listed: str, url: str, proxied: bool) -> None:
    """Invalid entries in NO_PROXY are ignored; the others count."""
    environ.setenv("HTTPS_PROXY", PROXY)
    environ.setenv("NO_PROXY", listed)

    assert (PROXY if proxied else None) == proxy_for(url)


def test_a_blank_proxy_is_none(environ: pytest.MonkeyPatch) -> None:
    """A variable with only spaces counts as unset."""
    environ.setenv("HTTPS_PROXY", "  ")

    assert proxy_for("https://blockrun.ai/api") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "gateway.localhost", "[::1]", "LOCALHOST"])
def test_this_machine_is_never_behind_a_proxy(environ: pytest.MonkeyPatch, host: str) -> None:
    """Requests to this machine never use a proxy, whatever the environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environ.setenv(name, PROXY)

    assert {None} == {proxy_for(f"{scheme}://{host}:8402/x") for scheme in ("http", "https")}


def test_behind_a_proxy_the_name_is_sent(environ: pytest.MonkeyPatch) -> None:
    """The proxy resolves names, because this machine may not be able to."""

    def nowhere(*_: Any, **__: Any) -> list[Any]:
        raise AssertionError("a name was resolved here")

    with raw_server(http(b"", 502)) as proxy:
        environ.setenv("HTTPS_PROXY", proxy.url)
        environ.setattr(socket, "getaddrinfo", _only_numbers(nowhere))
        with pytest.raises(GatewayUnreachable):
            run(lambda client: client.download("https://cdn.example/x.png", PUBLIC))
        with pytest.raises(SourceError):
            run(lambda client: client.fetch("https://cdn.example/y.png"))

    assert [("CONNECT", "cdn.example:443")] * 2 == [(seen.method, seen.target) for seen in proxy.seen]


def _only_numbers(other: Callable[..., Any]) -> Callable[..., Any]:
    real = socket.getaddrinfo
    return lambda host, *rest, **more: (real if str(host).startswith("127.") else other)(host, *rest, **more)


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/x", "https://169.254.169.254/x", "https://2130706433/", "https://[::1]/"]
)
def test_behind_a_proxy_private_addresses_are_still_refused(environ: pytest.MonkeyPatch, url: str) -> None:
    """A private numeric address is refused without DNS."""
    environ.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    with pytest.raises(InvalidResponse):
        run(lambda client: client.download(url, PUBLIC))


# -- connections


def test_a_connection_belongs_to_the_name_it_was_verified_for(environ: pytest.MonkeyPatch) -> None:
    """Two hosts at one address do not share a connection, because the certificate is checked for one host."""
    real = socket.getaddrinfo
    environ.setattr(socket, "getaddrinfo", lambda _, *rest, **more: real("8.8.8.8", *rest, **more))
    pools: dict[str, set[int]] = {}

    async def handle(self: Transport, request: httpx.Request) -> httpx.Response:
        pools.setdefault(request.headers["host"], set()).add(id(self))
        assert "8.8.8.8" == request.url.host
        return httpx.Response(200, stream=httpx.ByteStream(b"image"))

    environ.setattr(Transport, "handle_async_request", handle)

    async def use(client: Client) -> None:
        for _ in range(2):
            for name in ("a.example", "b.example"):
                await client.download(f"https://{name}/x.png", PUBLIC)

    run(use)

    assert [1, 1] == [len(pools[name]) for name in ("a.example", "b.example")]
    assert pools["a.example"].isdisjoint(pools["b.example"])


def test_many_hosts_do_not_fill_the_process(environ: pytest.MonkeyPatch) -> None:
    """A gateway with a new host for each image does not leave a connection pool for each."""
    real = socket.getaddrinfo
    environ.setattr(socket, "getaddrinfo", lambda _, *rest, **more: real("8.8.8.8", *rest, **more))
    pools: set[int] = set()

    async def handle(self: Transport, request: httpx.Request) -> httpx.Response:
        pools.add(id(self))
        return httpx.Response(200, stream=httpx.ByteStream(b"image"))

    environ.setattr(Transport, "handle_async_request", handle)

    async def use(client: Client) -> None:
        for number in range(100):
            await client.download(f"https://cdn{number}.example/x.png", PUBLIC)

    run(use)

    assert 40 > len(pools)


def test_no_cookies_are_kept() -> None:
    """Cookies of a server are not sent back to it or to another server."""
    cookie = json_http({}, set_cookie="session=1; Path=/")
    with raw_server(cookie) as first, raw_server(cookie) as second:

        async def use(client: Client) -> None:
            for gateway in (at(first), at(second), at(first)):
                await client.post(gateway, PATH, {})
            await client.fetch(f"{first.url}/x.png")

        run(use)

    assert 4 == len(first.seen + second.seen)
    assert not [seen for seen in first.seen + second.seen if "cookie" in seen.headers]


def test_every_request_says_who_asks() -> None:
    """Every request names our version and page, and asks for an uncompressed body."""
    with raw_server(json_http({})) as server:

        async def use(client: Client) -> None:
            await client.post(at(server), PATH, {})
            await client.get(at(server), "/v1/models")
            await client.download(f"{server.url}/x.png", at(server))
            await client.fetch(f"{server.url}/y.png")

        run(use)

    assert {USER_AGENT} == {seen.headers["user-agent"] for seen in server.seen}
    assert {"identity"} == {seen.headers["accept-encoding"] for seen in server.seen}
    assert USER_AGENT.startswith("blockrun-magic/")
    assert f"(+{PAGE})" in USER_AGENT


@pytest.mark.parametrize("status", [401, 403])
def test_a_site_that_wants_no_programs_is_said_so(status: int) -> None:
    """The error for a 401 or 403 advises downloading the image with a browser."""
    with raw_server(http(b"", status)) as server, pytest.raises(SourceError) as caught:
        run(lambda client: client.fetch(f"{server.url}/mine.png"))

    assert "browser" in caught.value.hint
    assert "path" in caught.value.hint


SECRET = "hunter2"


@pytest.mark.parametrize("answer", [http(b"", 404), http(b"", 403), http(b"", 302, location="/again"), b""])
def test_no_user_info_and_no_query_is_shown_or_logged(caplog: pytest.LogCaptureFixture, answer: bytes) -> None:
    """Secrets in a URL appear neither in the error nor in the log."""
    caplog.set_level(logging.DEBUG)
    with raw_server(answer) as server, pytest.raises(SourceError) as caught:
        run(lambda c: c.fetch(f"http://me:{SECRET}@127.0.0.1:{server.port}/mine.png?token={SECRET}#{SECRET}"))

    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    assert "basic " in server.seen[0].headers["authorization"].lower()
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


def test_a_request_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A request logs nothing at level INFO."""
    caplog.set_level(logging.INFO)
    with raw_server(json_http({})) as server:
        run(lambda client: client.post(at(server), PATH, {}))

    assert [] == caplog.records


def test_half_a_character_is_a_request_error() -> None:
    """A prompt with half a character causes an error before a request is sent."""
    with raw_server(json_http({})) as server, pytest.raises(RequestError):
        run(lambda client: client.post(at(server), PATH, {"prompt": "a \ud83d cat"}))

    assert [] == server.seen


# -- limits

BOMB = zlib.compress(bytes(64 * 1024 * 1024))
GZIPPED = gzip.compress(bytes(64 * 1024 * 1024))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(GZIPPED, "gzip"), (BOMB, "deflate"), (gzip.compress(GZIPPED), "gzip, gzip"), (GZIPPED, "gzip, identity, gzip")],
)
def test_a_small_response_does_not_become_a_large_one(environ: pytest.MonkeyPatch, body: bytes, encoding: str) -> None:
    """Bytes are counted during decompression, so that memory stays near the limit."""
    environ.setattr("blockrun_magic.gateway.client._MAX_ANSWER", 4 * 1024 * 1024)
    environ.setattr("blockrun_magic.gateway.client._MAX_IMAGE", 4 * 1024 * 1024)
    with raw_server(http(body, content_encoding=encoding)) as server:
        tracemalloc.start()
        try:
            for use in (
                lambda client: client.post(at(server), PATH, {}),
                lambda client: client.download(f"{server.url}/x", at(server)),
                lambda client: client.fetch(f"{server.url}/x"),
            ):
                with pytest.raises((InvalidResponse, SourceError)):
                    run(use)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert 32 * 1024 * 1024 > peak


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, 3_000_000])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_one_layer_of_compression_is_undone(size: int, pack: Callable[[bytes], bytes]) -> None:
    """A compressed answer is read, because a proxy may compress it unasked."""
    body, encoding = bytes(range(256)) * (size // 256) + bytes(size % 256), pack.__module__
    with raw_server(http(pack(body), content_encoding="deflate" if encoding == "zlib" else "gzip")) as server:
        answer = run(lambda client: client.post(at(server), PATH, {}))

    assert body == answer.body


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x", "gzip;q=1"])
def test_an_encoding_that_nobody_asked_for_is_refused(encoding: str) -> None:
    """Other encodings are refused."""
    with raw_server(http(b"abc", content_encoding=encoding)) as server, pytest.raises(InvalidResponse):
        run(lambda client: client.post(at(server), PATH, {}))


@pytest.mark.parametrize(("status", "most"), [(402, 64 * 1024), (500, 1024 * 1024), (404, 1024 * 1024)])
def test_refusals_are_short(status: int, most: int) -> None:
    """Payment requirements are cut at 64 KB, and errors at a megabyte."""
    with raw_server(http(b"x" * 3_000_000, status)) as server:
        answer = run(lambda client: client.post(at(server), PATH, {}))

    assert most == len(answer.body)


@contextmanager
def dripping(head: bytes, each: bytes) -> Iterator[Gateway]:
    """Run a server that sends `head`, and then `each` ten times a second without end."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(head)
                    while not ended.wait(0.1):
                        connection.sendall(each)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield practice_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    "use",
    [
        lambda client, gateway: client.post(gateway, PATH, {}),
        lambda client, gateway: client.download(f"{gateway.base_url}/x.png", gateway),
        lambda client, gateway: client.fetch(f"{gateway.base_url}/x.png"),
    ],
    ids=["post", "download", "fetch"],
)
def test_a_response_that_drips_ends(use: Callable[[Client, Gateway], Awaitable[Any]]) -> None:
    """A slow response ends at a deadline: it has a minimum rate and a maximum duration."""
    with (
        dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x") as gateway,
        pytest.raises((GatewayUnreachable, SourceError)) as caught,
    ):
        run(lambda client: use(client, gateway), HASTY)

    assert isinstance(caught.value, BlockrunError)


def test_headers_that_drip_end() -> None:
    """Slow headers end at a deadline too."""
    timeouts = Timeouts(connect=2, answer=0.5)  # the deadline of the headers is the sum of both
    with (
        dripping(b"HTTP/1.1 200 OK\r\nx: ", b"x") as gateway,
        pytest.raises(GatewayUnreachable) as caught,
    ):
        run(lambda client: client.post(gateway, PATH, {}), timeouts)

    assert caught.value.sent


def test_the_certificates_of_the_environment_are_used(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error names an empty certificate file, and a corrected variable is read on the next request."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    environ.setenv("SSL_CERT_FILE", str(empty))
    environ.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-2, "unknown")))

    async def use(client: Client) -> list[str]:
        messages = []
        for _ in range(2):
            try:
                await client.post(PUBLIC, PATH, {})
            except GatewayUnreachable as error:
                messages.append(error.message)
            environ.delenv("SSL_CERT_FILE", raising=False)
        return messages

    first, second = run(use)

    assert "SSL_CERT_FILE" in first
    assert "SSL_CERT_FILE" not in second


# -- fairness of the event loop


def fill(incoming: Incoming, data: bytes) -> None:
    """Deliver `data` at once, as asyncio does."""
    incoming.get_buffer(-1)[: len(data)] = data
    incoming.buffer_updated(len(data))


@pytest.mark.parametrize(
    ("data", "largest"),
    [
        (b"1\r\na\r\n" * 40_000, 8192),
        (b"HTTP/1.1 100 Continue\n\n" * 10_000, 8192),
        (b"a" * 250_000, 131_072),
        (random.Random(1).randbytes(250_000), 131_072),  # noqa: S311  not secrets
    ],
    ids=["chunks", "informational", "base64", "an image"],
)
def test_a_flood_of_events_is_read_a_few_at_a_time(data: bytes, largest: int) -> None:
    """Each line may be an event that httpcore handles without waiting; small pieces let other tasks run."""

    async def main() -> list[bytes]:
        incoming, pieces = Incoming(), []
        stream = Stream(mock.create_autospec(asyncio.Transport), incoming)
        fill(incoming, bytes(len(incoming.get_buffer(-1))))
        await stream.read(65_536)  # a larger buffer follows one that is full
        fill(incoming, data)
        incoming.eof_received()
        while piece := await stream.read(65_536):
            pieces.append(piece)
        return pieces

    pieces = asyncio.run(main())

    assert data == b"".join(pieces)
    assert largest == max(map(len, pieces))


def test_a_bomb_is_inflated_outside_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed bytes are decompressed in pieces, in worker threads."""
    threads = []
    make = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self.inflate = make(bits)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inflate, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            threads.append(threading.get_ident())
            return self.inflate.decompress(data, most)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    packed = gzip.compress(b"0" * 5_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with raw_server(head + packed) as server:
        answer = run(lambda client: client.get(at(server), PATH))

    assert 5_000_000 == len(answer.body)
    assert 5 <= len(threads)
    assert threading.get_ident() not in threads


def test_an_idle_connection_is_not_asked_at_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket of an idle connection is checked once in a while; an ended connection is never reported as idle."""
    asked: list[int] = []
    monkeypatch.setattr(streams, "_PEEK_AGAIN", 60.0)

    def nothing(descriptor: int) -> bool:
        asked.append(descriptor)
        return False

    monkeypatch.setattr(streams, "_is_readable", nothing)

    async def main(port: int) -> list[bool]:
        stream = await streams.Backend().connect_tcp("127.0.0.1", port)
        idle = [stream.get_extra_info("is_readable") for _ in range(3)]
        assert isinstance(stream, Stream)
        stream._incoming.eof_received()
        ended = stream.get_extra_info("is_readable")
        await stream.aclose()
        return [*idle, ended]

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert [False, False, False, True] == asyncio.run(main(server.getsockname()[1]))
    assert 1 == len(asked)
