"""URLs of gateways: which URLs a payment may travel to, and which are on this machine."""

from __future__ import annotations

import base64
import ipaddress
from urllib.parse import unquote, urlsplit

from blockrun_magic.errors import UsageError

__all__ = ["basic_authorization", "checked_url", "is_loopback", "origin_of"]


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL, with the scheme's own port where none is written."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_url(url: str, *, plain_http: bool = False) -> str:
    """Return a gateway's URL without a trailing slash; raises UsageError for one that we do not pay at.

    `plain_http` allows it: in the network of a hub, where the operator has set the address.
    """
    try:
        parts = urlsplit(url.strip().rstrip("/"))
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "A gateway's address is a plain URL, without a user name, query or fragment.",
            "Write it like https://blockrun.ai/api.",
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and (plain_http or is_loopback(host))):
        raise UsageError(
            f"{parts.scheme}://{host} is not encrypted, so nothing is sent there.",
            "Use https. Plain http works only on this machine (localhost).",
        )
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}{f':{port}' if port else ''}{parts.path}"


def basic_authorization(url: str) -> dict[str, str]:
    """Return the header for the user and the password in a URL, none without them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
