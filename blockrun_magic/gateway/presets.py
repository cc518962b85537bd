"""Where requests go: the gateways by name, and any other x402 gateway by its URL.

Source: gateway protocol, section 1. A gateway says which networks it may be paid on; its 402 can
only choose among them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from blockrun_magic.errors import FlagError
from blockrun_magic.payments.networks import BASE, BASE_SEPOLIA, PRACTICE, Network
from blockrun_magic.suggest import did_you_mean, quoted

__all__ = ["PRESETS", "Gateway", "gateway_at", "gateway_named", "is_loopback", "practice_at"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """One place that answers image requests; `base_url` has no trailing slash."""

    name: str
    base_url: str
    networks: tuple[Network, ...]

    @property
    def realm(self) -> str:
        """What kind of money this gateway takes: "real", "testnet" or "practice"."""
        return self.networks[0].realm

    @property
    def label(self) -> str:
        """The gateway as people read it: "base (https://blockrun.ai/api)"."""
        return self.name if self.name == self.base_url else f"{self.name} ({self.base_url})"

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL without a path."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def owns(self, url: str) -> bool:
        """Return whether `url` is on the gateway's own origin, however its scheme, host and port are written."""
        try:
            return "@" not in urlsplit(url).netloc and _origin_of(url) == _origin_of(self.base_url)
        except ValueError:
            return False

    @property
    def on_loopback(self) -> bool:
        """Whether the gateway is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


PRESETS: dict[str, Gateway] = {
    gateway.name: gateway
    for gateway in (
        Gateway("base", "https://blockrun.ai/api", (BASE,)),
        Gateway("testnet", "https://testnet.blockrun.ai/api", (BASE_SEPOLIA,)),
    )
}


def gateway_named(name: str) -> Gateway:
    """Return the gateway called `name`, or the x402 gateway at the URL `name`.

    Raises FlagError for anything else. Practice needs a server first: see `practice_at`.
    """
    preset = PRESETS.get(name.lower())
    if preset is not None:
        return preset
    if "://" in name:
        return gateway_at(name)
    names = ("practice", *PRESETS)
    raise FlagError(
        f"There is no gateway called {quoted(name)}.",
        f"{did_you_mean(name, names)}Use one of {', '.join(names)}, or the https URL of an x402 gateway.",
    )


def gateway_at(url: str) -> Gateway:
    """Return the gateway at `url`, paid in real USDC on Base; raises FlagError for an unsafe URL."""
    base_url = _checked_url(url)
    for preset in PRESETS.values():
        if base_url == preset.base_url:
            return preset
    return Gateway(base_url, base_url, (BASE,))


def practice_at(url: str) -> Gateway:
    """Return the practice gateway at `url`; it is only ever paid in play money."""
    return Gateway("practice", _checked_url(url), (PRACTICE,))


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
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


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip().rstrip("/"))
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.username or parts.password or parts.query or parts.fragment:
        raise FlagError(
            "A gateway's address is a plain URL: no user name, no query.",
            "Write it like https://blockrun.ai/api.",
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise FlagError(
            f"A payment may not travel to {parts.scheme}://{host}: the connection is not encrypted.",
            "Use https; plain http is for this machine (localhost) only.",
        )
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}{f':{port}' if port else ''}{parts.path}"
