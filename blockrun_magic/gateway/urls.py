"""URLs of servers: checks for payments, and detection of this machine."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from blockrun_magic.errors import UsageError

__all__ = ["CHECK_CONNECTION", "Endpoint", "basic_authorization", "checked_url", "is_loopback", "origin_of"]


CHECK_CONNECTION = "Check the connection and run the cell again."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server for requests; `base_url` has no trailing slash."""

    name: str
    base_url: str

    def address(self, path: str) -> str:
        """Return the URL of a path of this server."""
        return self.base_url + path

    @property
    def connection_hint(self) -> str:
        """The hint for a failed connection."""
        return CHECK_CONNECTION

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL without a path."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def relative(self, url: str) -> str:
        """Return `url` as a path below `base_url` if possible, which stays valid when the port changes."""
        path = url.removeprefix(self.base_url)
        return path if path.startswith("/") and path != url else url

    def same_origin(self, url: str) -> bool:
        """Return whether `url` is on the server's own origin, in any spelling of scheme, host and port."""
        try:
            return "@" not in urlsplit(url).netloc and origin_of(url) == origin_of(self.base_url)
        except ValueError:
            return False

    def loopback_alias(self, url: str) -> str | None:
        """Return `url` on the server's own host if it names this machine differently, else None.

        A ClawRouter reached at 127.0.0.1 names its images http://localhost:PORT/... (gateway protocol,
        section 7). Scheme and port must be the server's.
        """
        try:
            parts, own = urlsplit(url), urlsplit(self.base_url)
            same = (parts.scheme, origin_of(url)[2]) == (own.scheme, origin_of(self.base_url)[2])
        except ValueError:
            return None
        if not same or "@" in parts.netloc or not (self.on_loopback and is_loopback(parts.hostname or "")):
            return None
        return parts._replace(netloc=own.netloc).geturl()

    @property
    def on_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL, by default the port of the scheme."""
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
    """Return a gateway's URL without a trailing slash; raises UsageError for one at which we do not pay.

    `plain_http` allows http, for an address in a hub's network that its operator has set.
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
    """Return the header for the user and the password in a URL, or no header."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
