"""Proxies from the environment, selected when a URL is opened.

`NO_PROXY` lists host names (with their subdomains), addresses, networks (`10.0.0.0/8`) and `*`, each with or without
a port. Invalid entries are ignored.
"""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit

from blockrun_magic.errors import GatewayUnreachable
from blockrun_magic.text import public_url, quoted

__all__ = ["proxy_for"]

_SCHEMES = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5"}
"""Proxies by their schemes; a SOCKS proxy is always given names, as `socks5h` says."""


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy for `url`, or None if it is opened directly; raises GatewayUnreachable.

    URLs on this machine never use a proxy.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if _is_local(host):
        return None
    proxies = urllib.request.getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind, "").strip()
    if not proxy or _is_excluded(host, parts.port, proxies.get("no", "")):
        return None
    return _checked(proxy, f"{kind}_proxy")


def _checked(proxy: str, name: str) -> str:
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme.lower() in _SCHEMES and bool(parts.hostname) and parts.port != 0
        usable = usable and address.isprintable() and " " not in address
    except ValueError:
        usable = False
    variable = next((each for each in (name, name.upper()) if os.environ.get(each)), name.upper())
    if not usable:
        raise GatewayUnreachable(
            f"{variable} names a proxy that cannot be used: {quoted(public_url(proxy, 60))}.",
            f"Set {variable} to http://HOST:PORT or socks5://HOST:PORT, or unset it, then run the cell again.",
            sent=False,
        )
    scheme = _SCHEMES[parts.scheme.lower()]
    if scheme == "socks5":
        _require_socks(variable)
    return parts._replace(scheme=scheme).geturl()


def _require_socks(variable: str) -> None:
    try:
        import socksio  # noqa: F401
    except ImportError:
        raise GatewayUnreachable(
            f"{variable} names a SOCKS proxy, and support for SOCKS is not installed.",
            f"Run `%pip install 'httpx[socks]'` and restart the kernel, or unset {variable}.",
            sent=False,
        ) from None


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _is_excluded(host: str, port: int | None, listed: str) -> bool:
    return any(_matches(host, port, entry.strip().lower()) for entry in listed.split(",")[:1000])


def _matches(host: str, port: int | None, entry: str) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):
        return _within(host, ipaddress.ip_network(entry.strip("[]"), strict=False))
    try:
        parts = urlsplit(entry if "://" in entry else f"//{entry}")
        name, only = (parts.hostname or "").lstrip("*").strip("."), parts.port
    except ValueError:
        return False
    here = only in (None, port) and bool(name)
    return here and (host.lower() == name or host.lower().endswith(f".{name}"))


def _within(host: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
