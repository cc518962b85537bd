"""A real JupyterHub with its proxy, DummyAuthenticator and a simple spawner: each user's server is a local process.

It uses the recipe of the documentation, docs/recipes/jupyterhub_config.py, like an administrator. Every password is
accepted; grace is a teacher, ada and bob are students in the group red.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from harness import PATIENCE, ROOT
from harness.jupyter import behind_us, end_family
from harness.kernel import clean_environ
from harness.node import PROXY_ADVICE, find_proxy

__all__ = ["Hub", "free_ports", "log_in", "plan_hub", "running_hub"]

RECIPE = ROOT / "docs" / "recipes" / "jupyterhub_config.py"
_CONFIG = """
import os, sys

exec(compile(open({recipe!r}).read(), {recipe!r}, "exec"))

c.JupyterHub.bind_url = {public!r}
c.JupyterHub.hub_bind_url = {hub!r}
c.ConfigurableHTTPProxy.api_url = {proxy_api!r}
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.JupyterHub.db_url = "sqlite:///" + {folder!r} + "/hub.sqlite"
c.JupyterHub.cookie_secret_file = {folder!r} + "/cookie_secret"
c.JupyterHub.cleanup_servers = True
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.load_groups.update({{"red": {{"users": ["ada", "bob"]}}}})
c.JupyterHub.load_roles.append(
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens", "groups"]}}
)
c.JupyterHub.services.append({{"name": "tests", "api_token": {tests_token!r}}})
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {folder!r} + "/homes/{{username}}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = c.Spawner.http_timeout = {timeout}
c.Spawner.environment.update({environ!r})
c.Spawner.env_keep = ["PATH", "LANG", "TERM", "PYTHONPATH"]
{more}
"""


@dataclass(frozen=True)
class Hub:
    """A running hub: its public address, its API's address, and the address at which it expects the classroom."""

    url: str
    api_url: str
    classroom_address: str
    folder: Path
    service_token: str = field(repr=False)
    tests_token: str = field(repr=False)

    @property
    def service_environ(self) -> dict[str, str]:
        """The variables for the classroom's process, as in the recipes."""
        return {
            "JUPYTERHUB_API_TOKEN": self.service_token,
            "JUPYTERHUB_API_URL": self.api_url,
            "JUPYTERHUB_SERVICE_PREFIX": "/services/classroom/",
            "JUPYTERHUB_SERVICE_NAME": "classroom",
        }

    def ask(self, method: str, path: str, **content: object) -> httpx.Response:
        """Send a request to the hub's API as an administrator, and return the answer."""
        headers = {"Authorization": f"token {self.tests_token}"}
        answer = httpx.request(method, f"{self.api_url}{path}", headers=headers, timeout=PATIENCE, **content)  # type: ignore[arg-type]
        answer.raise_for_status()
        return answer

    def token_of(self, name: str, *scopes: str) -> str:
        """Return a token of a user with `scopes`, or with the scopes of a notebook server's token."""
        wanted = scopes or (f"access:servers!user={name}", "access:services!service=classroom")
        return str(self.ask("POST", f"/users/{name}/tokens", json={"scopes": list(wanted)}).json()["token"])


def log_in(browser: httpx.Client, name: str) -> None:
    """Log a person in to the hub in `browser`, a client with the hub's address."""
    browser.get("/hub/login")
    form = {"username": name, "password": "any", "_xsrf": browser.cookies.get("_xsrf", path="/hub/") or ""}
    answer = browser.post("/hub/login", data=form)

    assert answer.url.path != "/hub/login", answer.text


def free_ports(count: int) -> list[int]:
    """Return ports that are free at the moment."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def plan_hub(folder: Path) -> Hub:
    """Return a hub with addresses and tokens that does not run yet: the classroom starts first."""
    public, own, classroom = free_ports(3)
    (folder / "homes").mkdir(parents=True)
    return Hub(
        url=f"http://127.0.0.1:{public}",
        api_url=f"http://127.0.0.1:{own}/hub/api",
        classroom_address=f"http://127.0.0.1:{classroom}",
        folder=folder,
        service_token=secrets.token_hex(32),
        tests_token=secrets.token_hex(32),
    )


@contextmanager
def running_hub(hub: Hub, environ: Mapping[str, str] | None = None, more: str = "") -> Iterator[None]:
    """Run a hub; `environ` is added to every user's server, and `more` to the end of its configuration.

    A hub waits half a minute for a silent service, so something must listen at `classroom_address`.
    """
    proxy = find_proxy()

    assert proxy, PROXY_ADVICE
    folder = hub.folder
    config = folder / "jupyterhub_config.py"
    config.write_text(
        _CONFIG.format(
            recipe=str(RECIPE),
            public=hub.url,
            hub=hub.api_url.removesuffix("/hub/api"),
            proxy_api=f"http://127.0.0.1:{free_ports(1)[0]}",
            proxy=proxy,
            folder=str(folder),
            tests_token=hub.tests_token,
            environ=dict(environ or {}),
            timeout=PATIENCE,
            more=more,
        )
    )
    settings = {
        "HUB_URL": hub.url,
        "CLASSROOM_ADDRESS": hub.classroom_address,
        "CLASSROOM_TOKEN": hub.service_token,
        "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32),
    }
    log = folder / "hub.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            behind_us("jupyterhub", "-f", str(config)),
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            env=clean_environ(folder, **settings),
            cwd=folder,
            start_new_session=True,
        )
        try:
            _wait_for(hub, process, log)
            yield
        finally:
            end_family(process)


def _wait_for(hub: Hub, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the hub answers through its proxy; raises AssertionError with its log if it ends or stays silent."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{hub.url}/hub/api/", timeout=PATIENCE).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"the hub did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
