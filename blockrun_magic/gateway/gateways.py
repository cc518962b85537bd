"""Where requests go: the gateways by name, and any other x402 gateway by its URL.

Source: gateway protocol, section 1. A gateway says who pays there, what it can do, and, where we
sign, which networks it may be paid on; its 402 can only choose among them.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urlsplit

from blockrun_magic.errors import FlagError
from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA, PRACTICE, SOLANA, Network, SolanaNetwork
from blockrun_magic.text import did_you_mean, quoted

__all__ = [
    "PRESETS",
    "RPC_QUORUM",
    "Gateway",
    "Payer",
    "gateway_at",
    "gateway_named",
    "is_loopback",
    "practice_at",
    "preset",
]


RPC_QUORUM = 2
"""So many servers of a chain have to agree where money is decided."""


class Payer(StrEnum):
    """Who pays at a gateway."""

    SIGNATURE = "signature"
    """We do: each payment is signed here."""
    PROXY = "proxy"
    """A ClawRouter on this machine does, from its own wallet."""
    CREDIT = "credit"
    """An account's prepaid credit does, which an API key opens."""


_ABILITIES = {
    Payer.SIGNATURE: frozenset({"quote", "poll", "balance", "catalog"}),
    Payer.PROXY: frozenset({"balance", "catalog"}),
    Payer.CREDIT: frozenset({"poll", "catalog"}),
}
_WITHOUT = {
    "quote": "it quotes no price: the list price is reserved, and booked as estimated unless the answer names its own",
    "poll": "it cannot collect a slow edit: such a job ends with its outcome unknown",
    "balance": "it tells no balance: see your account on BlockRun's dashboard",
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One place that answers image requests; `base_url` has no trailing slash.

    `networks` are those that we may sign for; none where somebody else pays.
    """

    name: str
    base_url: str
    networks: tuple[Network | SolanaNetwork, ...]
    paid_by: Payer = Payer.SIGNATURE

    @property
    def realm(self) -> str:
        """What kind of money this gateway takes: "real", "testnet" or "practice"."""
        return self.networks[0].realm if self.networks else "real"

    @property
    def prepaid(self) -> bool:
        """Whether somebody else pays: nothing is signed here, and nothing can prove a charge."""
        return self.paid_by is not Payer.SIGNATURE

    def can(self, ability: str) -> bool:
        """Return whether it can "quote", "poll", tell a "balance" or a "catalog"."""
        return ability in _ABILITIES[self.paid_by]

    @property
    def limitations(self) -> tuple[str, ...]:
        """What it cannot do, a clause each."""
        return tuple(words for ability, words in _WITHOUT.items() if not self.can(ability))

    @property
    def money(self) -> str:
        """What it is paid with, in a few words: "USDC on Base"."""
        if self.paid_by is Payer.PROXY:
            return "USDC of ClawRouter's own wallet"
        if self.paid_by is Payer.CREDIT:
            return "prepaid credit of the account"
        return f"USDC on {', '.join(network.label for network in self.networks)}"

    @property
    def label(self) -> str:
        """The gateway as people read it: "base (https://blockrun.ai/api)"."""
        return self.name if self.name == self.base_url else f"{self.name} ({self.base_url})"

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a URL without a path."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def relative(self, url: str) -> str:
        """Return `url` as a path below `base_url` where it is one: that holds when the gateway changes its port."""
        path = url.removeprefix(self.base_url)
        return path if path.startswith("/") and path != url else url

    def same_origin(self, url: str) -> bool:
        """Return whether `url` is on the gateway's own origin, however its scheme, host and port are written."""
        try:
            return "@" not in urlsplit(url).netloc and _origin_of(url) == _origin_of(self.base_url)
        except ValueError:
            return False

    def loopback_alias(self, url: str) -> str | None:
        """Return `url` on the gateway's own host, when it is this machine's by another of its names.

        A ClawRouter reached at 127.0.0.1 names its pictures http://localhost:PORT/... (gateway protocol,
        section 7). Scheme and port must be the gateway's; anything else is None.
        """
        try:
            parts, own = urlsplit(url), urlsplit(self.base_url)
            same = (parts.scheme, _origin_of(url)[2]) == (own.scheme, _origin_of(self.base_url)[2])
        except ValueError:
            return None
        if not same or "@" in parts.netloc or not (self.on_loopback and is_loopback(parts.hostname or "")):
            return None
        return parts._replace(netloc=own.netloc).geturl()

    @property
    def on_loopback(self) -> bool:
        """Whether the gateway is on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


PRESETS: dict[str, Gateway] = {
    gateway.name: gateway
    for gateway in (
        Gateway("base", "https://blockrun.ai/api", (BASE,)),
        Gateway("testnet", "https://testnet.blockrun.ai/api", (BASE_SEPOLIA,)),
        Gateway("solana", "https://sol.blockrun.ai/api", (SOLANA,)),
        Gateway("clawrouter", "http://127.0.0.1:8402", (), Payer.PROXY),
        Gateway("account", "https://api.blockrun.ai", (), Payer.CREDIT),
    )
}


def preset(name: str, environ: Mapping[str, str] = os.environ) -> Gateway:
    """Return the preset `name`, moved to where the environment says it is; raises FlagError.

    `BLOCKRUN_PROXY_PORT` is ClawRouter's port, `BLOCKRUN_API_KEY_URL` the account's address. The latter is
    not `BLOCKRUN_API_URL`: an API key never follows the address of an x402 gateway. `BLOCKRUN_SOLANA_RPC` lists
    Solana's servers, two at least, separated by commas.
    """
    gateway = PRESETS[name]
    servers = environ.get("BLOCKRUN_SOLANA_RPC")
    if gateway.networks == (SOLANA,) and servers:
        return replace(gateway, networks=(replace(SOLANA, rpc_urls=_rpc_urls(servers)),))
    port, address = environ.get("BLOCKRUN_PROXY_PORT"), environ.get("BLOCKRUN_API_KEY_URL")
    if gateway.paid_by is Payer.PROXY and port:
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise FlagError(
                "BLOCKRUN_PROXY_PORT is not a port.", "Set it to the number that ClawRouter listens on, such as 8402."
            )
        return replace(gateway, base_url=f"http://127.0.0.1:{int(port)}")
    if gateway.paid_by is Payer.CREDIT and address:
        return replace(gateway, base_url=_checked_url(address))
    return gateway


def gateway_named(name: str, environ: Mapping[str, str] = os.environ) -> Gateway:
    """Return the gateway called `name`, or the x402 gateway at the URL `name`.

    Raises FlagError for anything else. Practice needs a server first: see `practice_at`.
    """
    if name.lower() in PRESETS:
        return preset(name.lower(), environ)
    if "://" in name:
        return gateway_at(name, environ)
    names = ("practice", *PRESETS)
    raise FlagError(
        f"There is no gateway called {quoted(name)}.",
        f"{did_you_mean(name, names)}Use one of {', '.join(names)}, or the https URL of an x402 gateway.",
    )


def gateway_at(url: str, environ: Mapping[str, str] = os.environ) -> Gateway:
    """Return the gateway at `url`, paid in real USDC on Base unless it is a preset's; raises FlagError.

    ClawRouter's port is known by any of this machine's names: asked for a price, it would buy.
    """
    base_url = _checked_url(url)
    for known in (preset(name, environ) for name in PRESETS):
        if base_url == known.base_url or (known.paid_by is Payer.PROXY and known.loopback_alias(base_url)):
            return known
    return Gateway(base_url, base_url, (BASE,))


def practice_at(url: str) -> Gateway:
    """Return the practice gateway at `url`; it is only ever paid in play money."""
    return Gateway("practice", _checked_url(url), (PRACTICE,))


def _rpc_urls(servers: str) -> tuple[str, ...]:
    urls = tuple(_checked_url(url) for url in servers.split(",") if url.strip())
    if len(set(urls)) < RPC_QUORUM:
        raise FlagError(
            "BLOCKRUN_SOLANA_RPC names fewer than two servers.",
            "Separate their URLs by commas: what became of a payment is believed when two say so.",
        )
    return urls


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
