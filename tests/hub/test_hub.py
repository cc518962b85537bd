"""A real JupyterHub recognizes kernels and teachers for the classroom."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from blockrun_magic.classroom.hub import Hub, HubRefused, HubSettings, HubUser
from blockrun_magic.classroom.hub_doctor import ADDRESS, ENTRY, ROLE, SCOPE, Check, check_live
from harness import PATIENCE
from harness.hub import Hub as RunningHub
from harness.hub import log_in
from harness.hub_class import HubClass


@pytest.fixture
def hub(room: HubClass) -> RunningHub:
    """Return the hub on which the class is."""
    return room.hub


def asked(hub: RunningHub, question: str, value: str) -> HubUser:
    """Return the classroom's answer from the hub."""

    async def run() -> HubUser:
        settings = HubSettings.from_environ(hub.service_environ)
        assert settings is not None
        client = Hub(settings)
        try:
            answer: Coroutine[Any, Any, HubUser] = getattr(client, question)(value)
            return await answer
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_a_kernel_is_recognized(hub: RunningHub) -> None:
    """The token of a student's server tells who they are and their groups; other tokens tell nothing."""
    assert HubUser("ada", ("red",)) == asked(hub, "user_of_kernel", hub.token_of("ada"))
    for token in ("unknown", hub.service_token, hub.token_of("ada", "access:servers!user=ada")):
        with pytest.raises(HubRefused):
            asked(hub, "user_of_kernel", token)


def test_a_teacher_logs_in(hub: RunningHub) -> None:
    """The hub sends the browser back with the state and a code, which tells once who it is."""
    settings = HubSettings.from_environ(hub.service_environ)
    assert settings is not None
    with httpx.Client(base_url=hub.url, follow_redirects=True, timeout=PATIENCE) as browser:
        log_in(browser, "grace")
        back = urlsplit(browser.get(settings.login_url("a state & more"), follow_redirects=False).headers["location"])
    query = {name: values[0] for name, values in parse_qs(back.query).items()}

    assert settings.callback == back.path
    assert "a state & more" == query["state"]
    assert HubUser("grace", ("teachers",)) == asked(hub, "user_of_code", query["code"])
    with pytest.raises(HubRefused):
        asked(hub, "user_of_code", query["code"])


def test_the_doctor_sees_the_running_hub(hub: RunningHub) -> None:
    """As the service it sees the entry; in a notebook server it sees the scope and the address."""

    def seen(environ: dict[str, str]) -> dict[str, bool | None]:
        checks: list[Check] = asyncio.run(check_live(environ))
        return {check.setting: check.good for check in checks}

    kernel = {"JUPYTERHUB_USER": "ada", "JUPYTERHUB_API_URL": hub.api_url, "JUPYTERHUB_API_TOKEN": hub.token_of("ada")}
    address = {"BLOCKRUN_CLASSROOM_URL": f"{hub.url}/services/classroom"}
    weak = {"JUPYTERHUB_API_TOKEN": hub.token_of("ada", "access:servers!user=ada")}

    assert {} == seen({})
    assert {ENTRY: True, ROLE: None, SCOPE: None, ADDRESS: None} == seen(hub.service_environ)
    assert seen(hub.service_environ | {"JUPYTERHUB_API_TOKEN": "another"})[ENTRY] is False
    assert {SCOPE: True, ADDRESS: True} == seen(kernel | address)
    assert {SCOPE: True, ADDRESS: False} == seen(kernel)
    assert {SCOPE: False, ADDRESS: True} == seen(kernel | address | weak)
    assert {SCOPE: True, ADDRESS: False} == seen(kernel | {"BLOCKRUN_CLASSROOM_URL": f"{hub.url}/hub"})
