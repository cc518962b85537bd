"""Connections inside TLS: direct, through a proxy, and through a proxy with TLS of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from blockrun_magic.errors import GatewayUnreachable
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.payments.x402.networks import BASE

_HOST = "127.0.0.1"
_SOURCE = random.Random(1).randbytes(3_000_000)  # noqa: S311  not secrets
_ANSWER = random.Random(2).randbytes(3_000_000)  # noqa: S311
_Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Certificate(NamedTuple):
    """A certificate for this machine: its file, and a server context with its key."""

    file: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate that is trusted only where its file is given."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))])
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoded = built.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder = tmp_path_factory.mktemp("tls")
    file, both = folder / "certificate.pem", folder / "both.pem"
    file.write_bytes(encoded)
    both.write_bytes(private + encoded)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return Certificate(file, context)


@asynccontextmanager
async def _served(handler: _Handler, context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Yield the host and port of a server."""
    writers: list[asyncio.StreamWriter] = []
    running: list[asyncio.Future[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        running.append(asyncio.get_running_loop().create_future())
        with suppress(asyncio.IncompleteReadError, OSError):
            await handler(reader, writer)
        await _end(writer)
        running[writers.index(writer)].set_result(None)

    server = await asyncio.start_server(handle, _HOST, 0, ssl=context)
    try:
        yield f"{_HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*running)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def _gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request that contains the source."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")]
        body = await reader.readexactly(length)
        status = b"200 OK" if _SOURCE in body else b"400 Bad Request"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(_ANSWER)) + _ANSWER)
        await writer.drain()


async def _proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward a connection to the requested address."""
    host, _, port = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().partition(":")
    further, back = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(65_536):
                target.write(piece)
                await target.drain()
        await _end(target)

    await asyncio.gather(pipe(reader, back), pipe(further, writer))


async def _edit(client: Client, address: str) -> list[tuple[int, bytes]]:
    """Return status and body of two edits over one connection."""
    gateway = Gateway("base", f"https://{address}/api", (BASE,))
    upload = Upload.from_file_bytes(_SOURCE, "image/png")
    request = ImageRequest("edit", "a cat", "openai/gpt-image-1", images=(upload,))
    return [(answer.status, answer.body) for answer in [await client.post_files(gateway, request) for _ in range(2)]]


@pytest.mark.parametrize("proxy", ["", "http", "https"])
def test_megabytes_go_both_ways(certificate: Certificate, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A large source and a large answer are transferred completely, twice over the same connection."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))

    async def main() -> list[tuple[int, bytes]]:
        inside = certificate.context if proxy == "https" else None
        async with _served(_gateway, certificate.context) as address, _served(_proxy, inside) as between:
            # Requests to this machine ignore the environment's proxy, so the test sets one.
            found = f"{proxy}://{between}" if proxy else None
            monkeypatch.setattr("blockrun_magic.gateway.network.transport.proxy_for", lambda _: found)
            async with Client() as client:
                return await _edit(client, address)

    assert [(200, _ANSWER)] * 2 == asyncio.run(asyncio.wait_for(main(), 60))


def test_a_stranger_is_not_talked_to(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with an untrusted certificate gets no request."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    async def main() -> None:
        async with _served(_gateway, certificate.context) as address, Client() as client:
            await _edit(client, address)

    with pytest.raises(GatewayUnreachable) as caught:
        asyncio.run(asyncio.wait_for(main(), 60))

    assert not caught.value.sent
