"""The service behind a hub with a separate domain for each server and service (`subdomain_host`)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from jupyterhub.utils import subdomain_hook_idna
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from blockrun_magic.practice.server.server import PracticeServer
from fakes.http_server import Served
from harness import PATIENCE
from harness.classroom import served_class

HUB = "https://hub.example.edu:8443"
OWN = f"{subdomain_hook_idna('classroom', 'hub.example.edu', 'service')}:8443"
PREFIX = "/services/classroom"
TOKEN = "5e1f" * 16


class SmallHub(Served):
    """The hub's own API: it accepts a login of grace and a kernel of ada."""

    def app(self) -> Any:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/hub/api/oauth2/token", self._token, methods=["POST"]),
                Route("/hub/api/user", self._user),
            ]
        )

    async def _token(self, request: Request) -> JSONResponse:
        form = await request.form()
        good = (form["code"], form["redirect_uri"]) == ("good", f"https://{OWN}{PREFIX}/oauth_callback")
        return JSONResponse({"access_token": "grace"} if good else {}, 200 if good else 403)

    async def _user(self, request: Request) -> JSONResponse:
        name = request.headers["authorization"].removeprefix("token ")
        groups = {"grace": ["teachers"], "ada": ["red"]}.get(name)
        scopes = ["access:services!service=classroom"]
        return JSONResponse({"kind": "user", "name": name, "groups": groups, "scopes": scopes}, 200 if groups else 403)


@dataclass(frozen=True)
class Service:
    """The service at a local port, as the hub's proxy reaches it, with the host names of browsers."""

    address: str

    def ask(self, method: str, path: str, host: str = OWN, **content: Any) -> httpx.Response:
        """Return the answer to a browser's request."""
        headers = {"Host": host, "X-Forwarded-Proto": "https"} | content.pop("headers", {})
        return httpx.request(method, f"{self.address}{PREFIX}{path}", headers=headers, timeout=PATIENCE, **content)

    def log_in(self, code: str = "good", state: str | None = None) -> tuple[httpx.Response, httpx.Response]:
        """Open the page, return from the hub, and return both answers."""
        sent = self.ask("GET", "/teacher/")
        [given] = parse_qs(urlsplit(sent.headers["location"]).query)["state"]
        query = {"code": code, "state": given if state is None else state}
        cookie = sent.headers["set-cookie"].partition(";")[0]
        return sent, self.ask("GET", "/oauth_callback", params=query, headers={"Cookie": cookie})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Yield the service with the settings of the documentation."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with SmallHub() as hub, PracticeServer() as gateway:
        environ = {
            "JUPYTERHUB_API_TOKEN": TOKEN,
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.port}/hub/api",
            "JUPYTERHUB_SERVICE_PREFIX": f"{PREFIX}/",
            "JUPYTERHUB_HOST": HUB,
        }
        options = ("--port", port, "--teachers", "teachers", "--public-url", f"https://{OWN}{PREFIX}")
        with served_class(tmp_path_factory.mktemp("class"), gateway, *options, **environ) as (room, _):
            assert f"https://{OWN}{PREFIX}/teacher/" == room.teacher_url
            yield Service(f"http://127.0.0.1:{port}")


def cookie_of(answer: httpx.Response) -> tuple[str, str]:
    """Return the name and the value of the only cookie that is set; it is bound to its own host."""
    lines = [line for line in answer.headers.get_list("set-cookie") if "max-age=0" not in line.lower()]
    [(name, morsel)] = SimpleCookie(lines[0]).items()

    assert 1 == len(lines)
    assert ("", f"{PREFIX}/", True, True) == (morsel["domain"], morsel["path"], morsel["secure"], morsel["httponly"])
    return name, morsel.value


def test_the_login_goes_to_the_hub_and_comes_back(service: Service) -> None:
    """The login is on the hub's domain, the callback and the cookies are on the service's; the page has no warning."""
    sent, back = service.log_in()
    address = urlsplit(sent.headers["location"])
    query = {name: value for name, [value] in parse_qs(address.query).items()}

    assert (302, f"{HUB}/hub/api/oauth2/authorize") == (
        sent.status_code,
        f"{address.scheme}://{address.netloc}{address.path}",
    )
    assert f"https://{OWN}{PREFIX}/oauth_callback" == query["redirect_uri"]
    assert ("__Secure-classroom-login", query["state"]) == cookie_of(sent)
    assert (303, f"{PREFIX}/teacher/") == (back.status_code, back.headers["location"])
    name, value = cookie_of(back)
    page = service.ask("GET", "/teacher/", headers={"Cookie": f"{name}={value}"})
    assert ("__Secure-classroom", 200) == (name, page.status_code)
    assert "subdomain_host" not in page.text


@pytest.mark.parametrize(("code", "state"), [("good", "another"), ("good", ""), ("bad", None)])
def test_a_login_that_was_not_started_here(service: Service, code: str, state: str | None) -> None:
    """A login with another state, no state, or an unknown code opens no session."""
    _, back = service.log_in(code, state)

    assert back.status_code in (400, 403)
    assert "__Secure-classroom=" not in str(back.headers.get_list("set-cookie"))


def test_only_its_own_domain_changes_something(service: Service) -> None:
    """The domains of the hub and of its users are other origins and are not host names of the service."""
    name, value = cookie_of(service.log_in()[1])
    cookie = {"Cookie": f"{name}={value}"}
    page = service.ask("GET", "/teacher/limits", headers=cookie).text
    token = page.partition('name="form_token" value="')[2][:64]
    form = {"form_token": token, "subject": "class", "period": "total", "amount": "1", "back": "limits"}
    user = f"{subdomain_hook_idna('ada', 'hub.example.edu', 'user')}:8443"
    for origin in (HUB, f"https://{user}", f"http://{OWN}", f"https://{OWN.removesuffix(':8443')}"):
        assert 403 == service.ask("POST", "/teacher/limits", data=form, headers=cookie | {"Origin": origin}).status_code
    for host in (urlsplit(HUB).netloc, user):
        assert 403 == service.ask("GET", "/teacher/", host, headers=cookie).status_code
    changed = service.ask("POST", "/teacher/limits", data=form, headers=cookie | {"Origin": f"https://{OWN}"})

    assert 303 == changed.status_code


def test_a_kernel_joins_at_that_domain(service: Service) -> None:
    """A kernel joins with the token of its server; its pass opens no page."""
    joined = service.ask("POST", "/v1/join", json={"hub_token": "ada"})

    assert (200, ["red"]) == (joined.status_code, joined.json()["groups"])
    headers = {"Authorization": f"Bearer {joined.json()['pass']}"}
    assert 200 == service.ask("GET", "/v1/me", headers=headers).status_code
    assert 302 == service.ask("GET", "/teacher/", headers=headers).status_code
