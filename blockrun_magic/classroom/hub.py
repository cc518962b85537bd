"""Requests to JupyterHub: the owner of a kernel's token, and the person who logs in to the teacher's page.

A kernel's token is valid if the hub confirms that it belongs to a user and has access to this service. A token that
another service got for a login has no access. The hub is asked at most once about a token, and its answer is cached for
a few minutes, so that a kernel that joins again after a lost answer causes no second request.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec

from blockrun_magic.errors import BlockrunError, UsageError
from blockrun_magic.payments.secrets import Secret

__all__ = ["Hub", "HubRefused", "HubSettings", "HubUnavailable", "HubUser"]

_NEEDED = ("JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN")
_RECIPE = "Set it to the value in c.JupyterHub.services, or unset JUPYTERHUB_SERVICE_PREFIX."
_REMEMBERED_SECONDS = 300.0
_MAX_REMEMBERED = 10_000
_QUESTIONS_AT_ONCE = 16
"""A hub answers in 20 ms; more requests at once would only wait in its queue."""
_MAX_ANSWER = 256 * 1024
_MAX_TOKEN = 512
_TIMEOUT = httpx.Timeout(20.0, connect=5.0)


class HubRefused(BlockrunError):
    """The hub does not know the token, or the token has no access to this service."""


class HubUnavailable(BlockrunError):
    """The hub gave no usable answer; the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class HubUser:
    """A user of the hub, and their groups there."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub's addresses and this service's name and token, from the variables that the hub or a recipe sets.

    `prefix` is the path below which the hub's proxy forwards to this service, with a slash at both ends. `host` is the
    hub's own address if servers and services have their own domains, else "": then all share one origin. `callback` is
    the address to which the hub sends a browser back after the login.
    """

    api_url: str
    token: Secret
    prefix: str
    name: str
    host: str = ""
    client_id: str = ""
    callback: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> HubSettings | None:
        """Return the settings, or None outside of a hub; raises UsageError if some are missing.

        Without the prefix of a service, the process is not one: a notebook server's prefix is like /user/ada/.
        """
        prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX", "").strip("/")
        if "services/" not in f"{prefix}/":
            return None
        api_url, token = (environ.get(name, "").strip() for name in ("JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN"))
        missing = [name for name, value in zip(_NEEDED, (api_url, token), strict=True) if not value]
        if missing:
            raise UsageError(f"{' and '.join(missing)} must be set for a service of JupyterHub.", _RECIPE)
        name = environ.get("JUPYTERHUB_SERVICE_NAME") or prefix.rpartition("/")[2]
        host = environ.get("JUPYTERHUB_HOST", "").rstrip("/")
        scheme, _, domain = host.partition("//")
        own = f"{scheme}//{name}--service.{domain}" if host else ""  # the hub's name for a service's domain
        return cls(
            api_url=api_url.rstrip("/"),
            token=Secret(token),
            prefix=f"/{prefix}/",
            name=name,
            host=host,
            client_id=environ.get("JUPYTERHUB_CLIENT_ID") or f"service-{name}",
            callback=environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL") or f"{own}/{prefix}/oauth_callback",
        )

    @property
    def scope(self) -> str:
        """The scope that a token needs to use this service."""
        return f"access:services!service={self.name}"

    @property
    def hub_prefix(self) -> str:
        """The path of the hub's own pages, with a slash at both ends."""
        return self.prefix.partition("services/")[0] + "hub/"

    def login_url(self, state: str) -> str:
        """Return the hub's login page, which sends the browser back with a code and `state`."""
        query = {"client_id": self.client_id, "redirect_uri": self.callback, "response_type": "code", "state": state}
        return f"{self.host}{self.hub_prefix}api/oauth2/authorize?{urlencode(query, quote_via=quote)}"


@dataclass
class _Remembered:
    """One request to the hub, shared by all callers."""

    answer: asyncio.Task[HubUser]
    until: float = field(default_factory=lambda: time.monotonic() + _REMEMBERED_SECONDS)

    @property
    def usable(self) -> bool:
        """Whether the answer is pending, or is a success that has not expired."""
        if not self.answer.done():
            return True
        good = not self.answer.cancelled() and self.answer.exception() is None
        return good and time.monotonic() < self.until


class Hub:
    """One hub, asked from one event loop."""

    def __init__(self, settings: HubSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._free = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        self._known: dict[str, _Remembered] = {}

    async def aclose(self) -> None:
        """Close the connections."""
        for remembered in self._known.values():
            remembered.answer.cancel()
        await self._client.aclose()

    async def user_of_kernel(self, token: str) -> HubUser:
        """Return the user to whom a notebook server's token belongs; raises HubRefused or HubUnavailable."""
        _checked(token)
        key = hashlib.sha256(token.encode()).hexdigest()
        remembered = self._known.get(key)
        if remembered is None or not remembered.usable:
            self._forget_old()
            question = asyncio.create_task(self._user(token))
            question.add_done_callback(lambda done: done.cancelled() or done.exception())  # even if no caller waits
            remembered = self._known[key] = _Remembered(question)
        return await asyncio.shield(remembered.answer)

    async def user_of_code(self, code: str) -> HubUser:
        """Return the user whom the hub has logged in and sent back with `code`; raises HubRefused or HubUnavailable."""
        form = {
            "client_id": self.settings.client_id,
            "client_secret": str(self.settings.token.reveal()),
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.callback,
        }
        answer = await self._ask("POST", "/oauth2/token", data=form)
        token = answer.get("access_token")
        if not isinstance(token, str):
            raise _unusable()
        return await self._user(token)

    async def whoami(self, token: str | None = None) -> dict[str, Any]:
        """Return the hub's description of a token, or of this service's own; raises HubRefused or HubUnavailable."""
        shown = str(self.settings.token.reveal()) if token is None else token
        return await self._ask("GET", "/user", headers={"Authorization": f"token {shown}"})

    async def _user(self, token: str) -> HubUser:
        answer = await self.whoami(token)
        name, groups, scopes = answer.get("name"), answer.get("groups", []), answer.get("scopes", [])
        if answer.get("kind") != "user" or not isinstance(name, str) or not name:
            raise HubRefused("The hub's token belongs to a service, not to a person.", _RESTART)
        if not isinstance(scopes, list) or self.settings.scope not in scopes:
            raise HubRefused(
                f"The token of this notebook server lacks the scope {self.settings.scope}.",
                "Ask the hub's administrator to add it to c.Spawner.server_token_scopes and to the role `user`, "
                "then stop your server and start it again.",
            )
        if not isinstance(groups, list):
            raise _unusable()
        return HubUser(name, tuple(sorted({group for group in groups if isinstance(group, str)})))

    async def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            async with self._free, self._client.stream(method, self.settings.api_url + path, **content) as response:
                body = b""
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _MAX_ANSWER:
                        raise _unusable()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = type(error).__name__
            raise HubUnavailable(f"JupyterHub did not answer ({reason}).", "Wait a minute, then try again.") from None
        if response.status_code in (400, 401, 403, 404):
            raise HubRefused("JupyterHub does not accept this login.", _RESTART)
        if response.status_code != 200:
            raise HubUnavailable(f"JupyterHub answered {response.status_code}.", "Wait a minute, then try again.")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise _unusable() from None

    def _forget_old(self) -> None:
        if len(self._known) >= _MAX_REMEMBERED:
            self._known = {key: remembered for key, remembered in self._known.items() if not remembered.answer.done()}
        self._known = {key: remembered for key, remembered in self._known.items() if remembered.usable}


_RESTART = "Stop your server on the hub's control panel and start it again, then run the cell again."


def _checked(token: str) -> None:
    if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise HubRefused("This is not a JupyterHub token.", _RESTART)


def _unusable() -> HubUnavailable:
    return HubUnavailable("The answer of JupyterHub cannot be read.", "Check JUPYTERHUB_API_URL.")
