"""Image addresses from a gateway: only safe ones are opened, at the IP address that was checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from blockrun_magic.errors import GatewayUnreachable, InvalidResponse
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.proxies import proxy_for
from blockrun_magic.text import public_url, sanitize

__all__ = ["CheckedAddress", "checked_address"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class CheckedAddress:
    """Target of a connection: a URL, the Host header, httpx extensions, and the host of the certificate."""

    url: str
    host: str
    extensions: Mapping[str, Any]
    verified_for: str


async def checked_address(url: str, gateway: Gateway) -> CheckedAddress:
    """Return the connection target of `url`; raises InvalidResponse for an unsafe URL, or GatewayUnreachable.

    A public host is connected to at the very address that was checked. Where a proxy resolves names, the proxy
    gets the name.
    """
    url = gateway.loopback_alias(url) or url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    own = gateway.same_origin(url)
    if not host or parts.username or parts.password or not (parts.scheme == "https" or own):
        raise InvalidResponse(
            f"The gateway names an image at an address we do not open ({public_url(url)}).",
            "Only https is opened. Report this to the gateway.",
        )
    if own or gateway.on_loopback:
        return CheckedAddress(url, parts.netloc, {}, "")
    if _literal_address(host) is None and proxy_for(url) is not None:
        return CheckedAddress(url, parts.netloc, {}, host)
    addresses = await _resolve(host, port or 443)
    if not addresses or not all(map(_is_public, addresses)):
        raise InvalidResponse(
            f"The gateway names an image on a private network ({sanitize(host, 80)}).",
            "It was not opened. Report this to the gateway.",
        )
    literal = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    target = parts._replace(netloc=f"{literal}:{port}" if port else literal).geturl()
    return CheckedAddress(target, parts.netloc, {"sni_hostname": host}, host)


async def _resolve(host: str, port: int) -> list[_Address]:
    """Return the addresses of `host`; raises GatewayUnreachable for a name that cannot be found."""
    loop = asyncio.get_running_loop()
    try:
        entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise GatewayUnreachable(
            f"The host of the image, {sanitize(host, 80)}, cannot be found.",
            "Check the connection and run the cell again: the image is downloaded, not bought, again.",
        ) from error
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]


def _literal_address(host: str) -> _Address | None:
    """Return the address that `host` spells out, including decimal, hex and short forms; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:  # the C library also reads 2130706433 and 0x7f.1
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host.isascii() else None
    except (OSError, ValueError):
        return None


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    inside = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        # The form of every IPv4 address on networks that have only IPv6.
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return _is_public(inside) if inside else address.is_global and address in _UNICAST
