"""Checks of the four settings that connect JupyterHub and the classroom.

They are the service's entry, the role that lets everyone use it, the scope of the notebook servers' tokens, and the
address in their environment. `check_config` reads all four from the hub's configuration file. `check_live` asks the
running hub: as the service it sees the entry, and in a notebook server it sees the scope and the address.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockrun_magic.classroom.hub import Hub, HubRefused, HubSettings, HubUnavailable
from blockrun_magic.errors import UsageError
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.text import sanitize

__all__ = ["ADDRESS", "ENTRY", "ROLE", "SCOPE", "SUBDOMAINS", "Check", "check_config", "check_live", "read_config"]

ENTRY = "c.JupyterHub.services"
ROLE = "c.JupyterHub.load_roles"
SCOPE = "c.Spawner.server_token_scopes"
ADDRESS = "BLOCKRUN_CLASSROOM_URL in c.Spawner.environment"
SUBDOMAINS = "c.JupyterHub.subdomain_host"
"""The settings, by the names in the hub's documentation."""

_READ = """
import json, sys
from traitlets.config.loader import PyFileConfigLoader
print(json.dumps(PyFileConfigLoader(sys.argv[1], path=None).load_config(), default=lambda value: None))
"""
_TIMEOUT = 60
_ELSEWHERE = "give --hub-config FILE, or run `doctor` in a terminal of a notebook server"


@dataclass(frozen=True, slots=True)
class Check:
    """One setting: whether it is correct (None if unknown here), and its value or the missing step."""

    setting: str
    good: bool | None
    message: str

    def __str__(self) -> str:
        mark = {True: "ok", False: "MISSING", None: "unknown"}[self.good]
        return f"{mark:8} {self.setting}: {self.message}"


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the settings in a jupyterhub_config.py, which runs in a separate process; raises UsageError."""
    command = [sys.executable, "-c", _READ, str(path.resolve())]
    try:
        read = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT, cwd=path.parent)
        return dict(json.loads(read.stdout.strip().rpartition("\n")[2]))
    except subprocess.CalledProcessError as error:
        reason = sanitize(str(error.stderr).strip().rpartition("\n")[2], 160)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = type(error).__name__
    raise UsageError(f"{path} could not be read: {reason}.", "Run the command with the hub's own environment.")


def check_config(config: Mapping[str, Any], name: str = "classroom") -> list[Check]:
    """Return the checks of the four settings and of the domains in a hub's configuration."""
    hub, spawner = _section(config, "JupyterHub"), _section(config, "Spawner")
    scope = f"access:services!service={name}"
    return [
        _entry(hub.get("services"), name),
        _role(hub.get("load_roles"), scope),
        _scopes(spawner.get("server_token_scopes", []), scope),
        _address(spawner.get("environment", {})),
        _subdomains(hub.get("subdomain_host")),
    ]


async def check_live(environ: Mapping[str, str]) -> list[Check]:
    """Return the checks that are possible here: as the hub's service, or in a notebook server; else none.

    A setting that only the hub's configuration shows is unknown.
    """
    try:
        settings = HubSettings.from_environ(environ)
    except UsageError as error:
        return [Check(ENTRY, False, error.message)]
    if settings is not None:
        return [await _live_entry(settings), *(Check(name, None, _ELSEWHERE) for name in (ROLE, SCOPE, ADDRESS))]
    if environ.get("JUPYTERHUB_USER") and environ.get("JUPYTERHUB_API_TOKEN"):
        return [await _live_scope(environ), await _live_address(environ)]
    return []


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _entry(services: Any, name: str) -> Check:
    entries = [entry for entry in services or [] if isinstance(entry, Mapping) and entry.get("name") == name]
    if not entries:
        return Check(ENTRY, False, f"add an entry with the name {name}, a url and an api_token")
    absent = [key for key in ("url", "api_token") if not entries[0].get(key)]
    if absent and not entries[0].get("command"):
        return Check(ENTRY, False, f"the entry {name} has no {' and no '.join(absent)}")
    return Check(ENTRY, True, f"there is an entry {name}")


def _role(roles: Any, scope: str) -> Check:
    holders = [role["name"] for role in roles or [] if isinstance(role, Mapping) and scope in role.get("scopes", [])]
    if not holders:
        return Check(ROLE, False, f'add {{"name": "user", "scopes": ["self", "{scope}"]}}')
    return Check(ROLE, True, f"the role {', '.join(holders)} has {scope}")


def _scopes(scopes: Any, scope: str) -> Check:
    if scopes is None:
        return Check(SCOPE, None, f"a function sets it; its result must include {scope}")
    if scope not in scopes:
        return Check(SCOPE, False, f"add {scope}, next to users:activity!user and access:servers!server")
    return Check(SCOPE, True, f"it has {scope}")


def _address(environment: Any) -> Check:
    given = environment.get("BLOCKRUN_CLASSROOM_URL", "") if isinstance(environment, Mapping) else ""
    if given is None:
        return Check(ADDRESS, None, "a function sets it")
    if not given:
        return Check(ADDRESS, False, "set it to the address at which notebook servers reach the classroom")
    return Check(ADDRESS, True, str(given))


def _subdomains(host: Any) -> Check:
    if not host:
        advice = "without it, a page in a student's notebook can act as a teacher who opens it"
        return Check(SUBDOMAINS, False, advice)
    return Check(SUBDOMAINS, True, str(host))


async def _live_entry(settings: HubSettings) -> Check:
    hub = Hub(settings)
    try:
        answer = await hub.whoami()
    except HubRefused:
        return Check(ENTRY, False, "the hub does not know JUPYTERHUB_API_TOKEN; give the entry the same api_token")
    except HubUnavailable as error:
        return Check(ENTRY, None, f"{error.message} Check JUPYTERHUB_API_URL ({settings.api_url}).")
    finally:
        await hub.aclose()
    if (answer.get("kind"), answer.get("name")) != ("service", settings.name):
        return Check(ENTRY, False, f"the token belongs to {answer.get('kind')} {answer.get('name')}")
    return Check(ENTRY, True, f"the hub knows this service as {settings.name}")


async def _live_scope(environ: Mapping[str, str]) -> Check:
    _, is_service, name = environ.get("BLOCKRUN_CLASSROOM_URL", "").rstrip("/").rpartition("/services/")
    name = name if is_service and name else "classroom"
    settings = HubSettings(environ.get("JUPYTERHUB_API_URL", ""), Secret(""), f"/services/{name}/", name)
    hub = Hub(settings)
    try:
        await hub.user_of_kernel(environ["JUPYTERHUB_API_TOKEN"])
    except HubRefused as error:
        return Check(SCOPE, False, f"{error.message} {error.hint}")
    except HubUnavailable as error:
        return Check(SCOPE, None, error.message)
    finally:
        await hub.aclose()
    return Check(SCOPE, True, f"this server's token has {settings.scope}")


async def _live_address(environ: Mapping[str, str]) -> Check:
    check = _address(environ)
    if not check.good:
        return check
    problem = await asyncio.to_thread(_problem_at, environ["BLOCKRUN_CLASSROOM_URL"].rstrip("/"))
    if problem:
        return Check(ADDRESS, False, f"no classroom answers at {check.message}: {problem}")
    return Check(ADDRESS, True, f"a classroom answers at {check.message}")


def _problem_at(address: str) -> str:
    """Return the reason why no classroom answers at an address, or "" if one does."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10) as response:  # noqa: S310  as the spawner set it
            return "" if json.loads(response.read(1000)).get("status") == "ok" else "another service answers"
    except (OSError, ValueError, AttributeError) as error:
        return sanitize(error, 100) or type(error).__name__
