"""The classroom's JupyterHub settings: its environment and the hub's configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from blockrun_magic.classroom.hub import Hub, HubRefused, HubSettings, HubUnavailable, HubUser
from blockrun_magic.classroom.hub_doctor import (
    ADDRESS,
    ENTRY,
    ROLE,
    SCOPE,
    SUBDOMAINS,
    check_config,
    check_live,
    read_config,
)
from blockrun_magic.errors import UsageError
from harness import ROOT

ENVIRON = {
    "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/hub/api",
    "JUPYTERHUB_API_TOKEN": "token-of-the-service",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/classroom/",
}
RECIPE = ROOT / "docs" / "recipes" / "jupyterhub_config.py"
SCOPES = ["access:servers!server=ada/", "access:services!service=classroom"]
ADA = {"kind": "user", "name": "ada", "groups": ["red", "blue"], "scopes": SCOPES}


def settings() -> HubSettings:
    """Return the settings of `ENVIRON`."""
    found = HubSettings.from_environ(ENVIRON)

    assert found is not None
    return found


def test_settings_come_from_the_environment_of_a_service_only() -> None:
    """The environment of a notebook server is not a service's; a repr never shows the token."""
    found = settings()

    assert HubSettings.from_environ({}) is None
    assert HubSettings.from_environ(ENVIRON | {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}) is None
    assert ("classroom", "service-classroom", "/hub/") == (found.name, found.client_id, found.hub_prefix)
    assert "/services/classroom/oauth_callback" == found.callback
    assert "token-of-the-service" not in repr(found)
    assert "" == found.host
    assert "&state=a%26b" in found.login_url("a&b")


@pytest.mark.parametrize("name", ["JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN"])
def test_a_missing_variable_is_named(name: str) -> None:
    """Without the API URL or the token, the service does not start, and the check names the missing variable."""
    with pytest.raises(UsageError, match=name):
        HubSettings.from_environ(ENVIRON | {name: ""})
    [check] = asyncio.run(check_live(ENVIRON | {name: ""}))
    assert (ENTRY, False) == (check.setting, check.good)
    assert name in check.message


def test_two_hundred_kernels_ask_two_hundred_times() -> None:
    """The hub is asked once for each kernel, however often the kernel joins again."""
    double = HubDouble(ADA)
    tokens = [f"token-{number}" for number in range(200)] * 3

    assert {HubUser("ada", ("blue", "red"))} == set(ask(double, *tokens))
    assert 200 == double.questions


def test_a_hub_with_domains_has_one_for_the_service() -> None:
    """The login URL uses the hub's domain; the callback uses the service's own domain."""
    found = HubSettings.from_environ(ENVIRON | {"JUPYTERHUB_HOST": "https://hub.example.edu"})

    assert found is not None
    assert found.login_url("state").startswith("https://hub.example.edu/hub/api/oauth2/authorize?")
    assert "https://classroom--service.hub.example.edu/services/classroom/oauth_callback" == found.callback


class HubDouble:
    """A hub that always gives the same response and counts the requests."""

    def __init__(self, answer: Any, status: int = 200) -> None:
        self.answer, self.status, self.questions = answer, status, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.questions += 1
        return httpx.Response(self.status, json=self.answer)


def ask(double: HubDouble, *tokens: str) -> list[Any]:
    """Return the user or the error for each token; all tokens are checked at the same time."""

    async def run() -> list[Any]:
        hub = Hub(settings(), httpx.MockTransport(double))
        try:
            return await asyncio.gather(*map(hub.user_of_kernel, tokens), return_exceptions=True)
        finally:
            await hub.aclose()

    return asyncio.run(run())


def test_a_token_is_asked_about_once() -> None:
    """The hub is asked once for each token; repeated joins share its answer."""
    double = HubDouble(ADA)

    assert [HubUser("ada", ("blue", "red"))] * 5 == ask(double, "one", "two", "one", "two", "one")
    assert 2 == double.questions


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (ADA | {"kind": "service"}, 200, HubRefused),
        (ADA | {"name": ""}, 200, HubRefused),
        (ADA | {"scopes": ["access:services!service=other"]}, 200, HubRefused),
        (ADA | {"scopes": "access:services!service=classroom"}, 200, HubRefused),
        (ADA | {"groups": "red"}, 200, HubUnavailable),
        ({"status": 403}, 403, HubRefused),
        ({}, 502, HubUnavailable),
        (["a list"], 200, HubUnavailable),
        ({"padding": "x" * 300_000}, 200, HubUnavailable),
    ],
)
def test_a_token_that_proves_nothing_is_refused(answer: Any, status: int, error: type[Exception]) -> None:
    """A token is valid only if it is a user's and gives access to this service; a failing hub is a separate error."""
    double = HubDouble(answer, status)

    assert [error] == [type(got) for got in ask(double, "token")]
    assert 1 == double.questions


@pytest.mark.parametrize("token", ["", "a\nb", "ü", "x" * 600], ids=["empty", "two lines", "not ascii", "long"])
def test_what_is_no_token_is_not_sent(token: str) -> None:
    """A malformed token is refused without a request to the hub."""
    double = HubDouble(ADA)

    assert [HubRefused] == [type(got) for got in ask(double, token)]
    assert 0 == double.questions


def test_the_recipe_has_all_four_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor finds all settings in the documented configuration."""
    monkeypatch.setenv("CLASSROOM_TOKEN", "0" * 64)

    checks = check_config(read_config(RECIPE))

    assert {ENTRY: True, ROLE: True, SCOPE: True, ADDRESS: True, SUBDOMAINS: True} == {
        check.setting: check.good for check in checks
    }


@pytest.mark.parametrize(
    ("section", "key", "setting"),
    [
        ("JupyterHub", "services", ENTRY),
        ("JupyterHub", "load_roles", ROLE),
        ("Spawner", "server_token_scopes", SCOPE),
        ("Spawner", "environment", ADDRESS),
        ("JupyterHub", "subdomain_host", SUBDOMAINS),
    ],
)
def test_the_doctor_names_the_missing_setting(
    monkeypatch: pytest.MonkeyPatch, section: str, key: str, setting: str
) -> None:
    """The doctor names exactly the missing setting."""
    monkeypatch.setenv("CLASSROOM_TOKEN", "0" * 64)
    config = {name: dict(values) for name, values in read_config(RECIPE).items()}
    del config[section][key]

    assert [setting] == [check.setting for check in check_config(config) if not check.good]


def test_a_configuration_that_fails_is_reported(tmp_path: Path) -> None:
    """The error for a configuration that raises an exception names the cause."""
    broken = tmp_path / "jupyterhub_config.py"
    broken.write_text("raise KeyError('CLASSROOM_TOKEN')\n")

    with pytest.raises(UsageError, match="CLASSROOM_TOKEN"):
        read_config(broken)
