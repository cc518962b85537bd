"""Gateways: the named ones, and any other x402 image endpoint by its URL.

A gateway defines who pays, its abilities, and the networks for which we sign; its 402 can only choose among them.
Source: gateway protocol, sections 1 and 9.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Flag, StrEnum, auto
from urllib.parse import urljoin, urlsplit

from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.request import ENDPOINTS
from blockrun_magic.gateway.urls import CHECK_CONNECTION, Endpoint, checked_url
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.x402.networks import ARC, BASE, BASE_SEPOLIA, PRACTICE, SOLANA, SVM, Network
from blockrun_magic.text import did_you_mean, quoted

__all__ = [
    "CLASSROOM",
    "PRACTICE_NAME",
    "PRESETS",
    "RPC_QUORUM",
    "Capability",
    "Gateway",
    "Payer",
    "classroom_at",
    "gateway_at",
    "gateway_named",
    "practice_at",
    "preset",
]


_IMAGE_PATHS = frozenset(ENDPOINTS.values())
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[\w.~:@+-]+)+/?", re.ASCII)

CLASSROOM = "classroom"
"""The name of the classroom's gateway; like practice, it has no address of its own."""
PRACTICE_NAME = "practice"
"""The name of the practice gateway."""
RPC_QUORUM = 2
"""Number of RPC servers of a chain that must agree before money is booked."""


class Payer(StrEnum):
    """Payer at a gateway."""

    SIGNATURE = "signature"
    """You: each payment is signed on this machine."""
    PROXY = "proxy"
    """A ClawRouter on this machine, from its own wallet."""
    CREDIT = "credit"
    """The prepaid credit of an account, which an API key opens."""
    CLASSROOM = "classroom"
    """A class: its teacher's service buys for everyone, within limits."""


class Capability(Flag):
    """Abilities of a gateway beside selling images: to quote a price, deliver a slow job, list a balance or models."""

    QUOTE = auto()
    POLL = auto()
    BALANCE = auto()
    CATALOG = auto()


_CAPABILITIES = {
    Payer.SIGNATURE: ~Capability(0),
    Payer.PROXY: Capability.BALANCE | Capability.CATALOG,
    Payer.CREDIT: ~Capability.QUOTE,
    Payer.CLASSROOM: ~Capability(0),
}
_LIMITATIONS = {
    Capability.QUOTE: (
        "it quotes no prices: the list price is reserved, and booked as estimated unless the response has a price"
    ),
    Capability.POLL: "it cannot deliver a slow edit: the outcome of such a request stays unknown",
    Capability.BALANCE: "it does not report a balance",
}


@dataclass(frozen=True, slots=True)
class Gateway(Endpoint):
    """A service that answers image requests.

    `networks` are those that we may sign for (none if others pay). `path` replaces the OpenAI-like paths of an endpoint
    with its own path. `class_money` is the kind of money that a classroom pays with.
    """

    networks: tuple[Network, ...]
    paid_by: Payer = Payer.SIGNATURE
    path: str | None = None
    class_money: Realm = Realm.REAL

    @property
    def realm(self) -> Realm:
        """The kind of money this gateway takes."""
        return self.networks[0].realm if self.networks else self.class_money

    @property
    def prepaid(self) -> bool:
        """Whether others pay: nothing is signed here, so no chain can prove a charge."""
        return self.paid_by is not Payer.SIGNATURE

    @property
    def on_solana(self) -> bool:
        """Whether it is paid on Solana, where an image is charged when it is ordered, not when it is delivered."""
        return any(network.namespace == SVM for network in self.networks)

    @property
    def capabilities(self) -> Capability:
        """What it can do, by who pays there."""
        return _CAPABILITIES[self.paid_by]

    @property
    def connection_hint(self) -> str:
        """The hint for a failed connection: a ClawRouter may not be running."""
        if self.paid_by is Payer.PROXY:
            return f"Start ClawRouter at {self.base_url}; BLOCKRUN_PROXY_PORT changes the port."
        return CHECK_CONNECTION

    @property
    def limitations(self) -> tuple[str, ...]:
        """The things it cannot do, one clause each."""
        return tuple(words for ability, words in _LIMITATIONS.items() if ability not in self.capabilities)

    @property
    def money(self) -> str:
        """The means of payment, as a short text: "USDC on Base"."""
        if self.paid_by is Payer.PROXY:
            return "USDC of ClawRouter's own wallet"
        if self.paid_by is Payer.CREDIT:
            return "prepaid credit of the account"
        if self.paid_by is Payer.CLASSROOM:
            return "the money of the class"
        return f"USDC on {', '.join(network.label for network in self.networks)}"

    def address(self, path: str) -> str:
        """Return the URL of an image endpoint or another path of this gateway."""
        return self.base_url + (self.path if self.path and path in _IMAGE_PATHS else path)

    def job_address(self, poll_url: str) -> str:
        """Return the URL of a job from the `poll_url` of a response.

        An account's jobs are named by the x402 gateway, as `/api/v1/...`; the account's host serves them at
        `/v1/...` and answers `/api/...` with `wrong_host`. Raises ValueError for a text that is not a URL.
        """
        url = urljoin(f"{self.origin}/", poll_url)
        parts = urlsplit(url)
        if self.paid_by is not Payer.CREDIT or not self.same_origin(url) or not parts.path.startswith("/api/"):
            return url
        return self.base_url + parts._replace(scheme="", netloc="", path=parts.path.removeprefix("/api")).geturl()

    @property
    def label(self) -> str:
        """The gateway as people read it: "base (https://blockrun.ai/api)"."""
        return self.name if self.name == self.base_url else f"{self.name} ({self.base_url})"


PRESETS: dict[str, Gateway] = {
    gateway.name: gateway
    for gateway in (
        Gateway("base", "https://blockrun.ai/api", (BASE,)),
        Gateway("testnet", "https://testnet.blockrun.ai/api", (BASE_SEPOLIA,)),
        Gateway("arc", "https://arc.blockrun.ai/api", (ARC,)),
        Gateway("solana", "https://sol.blockrun.ai/api", (SOLANA,)),
        Gateway("clawrouter", "http://127.0.0.1:8402", (), Payer.PROXY),
        Gateway("account", "https://api.blockrun.ai", (), Payer.CREDIT),
    )
}
_RPC_VARIABLES = {ARC.id: "BLOCKRUN_ARC_RPC", SOLANA.id: "BLOCKRUN_SOLANA_RPC"}
_ACCOUNT_VARIABLES = ("BLOCKRUN_API_KEY_URL", "BLOCKRUN_API_BASE_URL")


def preset(name: str, environ: Mapping[str, str] = os.environ) -> Gateway:
    """Return the preset `name`, moved to the address in the environment; raises UsageError.

    `BLOCKRUN_PROXY_PORT` is ClawRouter's port. `BLOCKRUN_API_KEY_URL` (or `BLOCKRUN_API_BASE_URL`, the name in
    the TypeScript SDK) is the account's address; an API key never follows `BLOCKRUN_API_URL`, which names an x402
    gateway. `BLOCKRUN_SOLANA_RPC` and `BLOCKRUN_ARC_RPC` list at least two RPC servers, separated by commas.
    """
    gateway = PRESETS[name]
    if gateway.paid_by is Payer.PROXY:
        return _at_port(gateway, environ.get("BLOCKRUN_PROXY_PORT", ""))
    if gateway.paid_by is Payer.CREDIT:
        address = next((text for name in _ACCOUNT_VARIABLES if (text := environ.get(name, "").strip())), None)
        # Users of the SDKs write the address with or without its version.
        return replace(gateway, base_url=checked_url(address).removesuffix("/v1")) if address else gateway
    network = gateway.networks[0]
    variable = _RPC_VARIABLES.get(network.id, "")
    servers = environ.get(variable)
    if not servers:
        return gateway
    return replace(gateway, networks=(replace(network, rpc_urls=_rpc_urls(servers, variable)),))


def _at_port(gateway: Gateway, port: str) -> Gateway:
    if not port:
        return gateway
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError("BLOCKRUN_PROXY_PORT is not a port number.", "Set it to ClawRouter's port, such as 8402.")
    return replace(gateway, base_url=f"http://127.0.0.1:{int(port)}")


def gateway_named(name: str, environ: Mapping[str, str] = os.environ) -> Gateway:
    """Return the gateway called `name`, or the x402 endpoint at the URL `name`.

    Raises UsageError for anything else. Practice and a classroom need more than a name: `practice_at`, `classroom_at`.
    """
    if name.lower() in PRESETS:
        return preset(name.lower(), environ)
    if "://" in name:
        return gateway_at(name, environ)
    names = (PRACTICE_NAME, CLASSROOM, *PRESETS)
    raise UsageError(
        f"Unknown gateway: {quoted(name)}.",
        f"{did_you_mean(name, names)}Use {', '.join(names)}, or the https URL of an x402 image endpoint.",
    )


def gateway_at(url: str, environ: Mapping[str, str] = os.environ) -> Gateway:
    """Return the gateway at `url`, paid in real USDC on Base unless it is a preset's; raises UsageError.

    `url` may end in the OpenAI-like path itself, or in `#/path` for an endpoint at another one. ClawRouter's port
    is recognized under any name of this machine, because ClawRouter buys when it is asked for a price.
    """
    address, _, path = url.strip().partition("#")
    base_url = checked_url(address)
    for ending in (*_IMAGE_PATHS, "/v1"):
        base_url = base_url.removesuffix(ending)
    for named in (preset(name, environ) for name in PRESETS):
        if base_url == named.base_url or (named.paid_by is Payer.PROXY and named.loopback_alias(base_url)):
            return named
    if not path:
        return Gateway(base_url, base_url, (BASE,))
    path = _checked_path(path)
    return Gateway(f"{base_url}#{path}", base_url, (BASE,), path=path)


def practice_at(url: str) -> Gateway:
    """Return the practice gateway at `url`; it is only ever paid in play money."""
    return Gateway(PRACTICE_NAME, checked_url(url), (PRACTICE,))


def classroom_at(url: str, money: Realm) -> Gateway:
    """Return the classroom at `url`, a checked address, which pays with `money`."""
    return Gateway(CLASSROOM, url, (), Payer.CLASSROOM, class_money=money)


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise UsageError(
            f"{quoted(path)} is not the path of an endpoint.", "Write it like --path /v1/images/generations."
        )
    return path


def _rpc_urls(servers: str, variable: str) -> tuple[str, ...]:
    urls = tuple(checked_url(url) for url in servers.split(",") if url.strip())
    if len(set(urls)) < RPC_QUORUM:
        raise UsageError(
            f"{variable} lists fewer than two servers.",
            "List at least two URLs, separated by commas. A payment's status counts only when two servers agree.",
        )
    return urls
