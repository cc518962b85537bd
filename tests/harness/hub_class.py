"""A classroom on a running JupyterHub, and people who use both in Chromium."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.browser import Notebook, write_notebook
from harness.classroom import run_command
from harness.hub import Hub, plan_hub, running_hub
from harness.jupyter import SETTINGS
from harness.kernel import clean_environ

__all__ = ["HubClass", "running_hub_class"]


@dataclass(frozen=True)
class HubClass:
    """A hub, its classroom, and the gateway where the classroom buys."""

    hub: Hub
    home: Path
    gateway: PracticeServer

    @property
    def page(self) -> str:
        """The address of the teacher's page."""
        return f"{self.hub.url}/services/classroom/teacher"

    def command(self, *arguments: str) -> str:
        """Return the output of one of the owner's commands."""
        done = run_command(self.home, *arguments)

        assert 0 == done.returncode, done.stderr
        return done.stdout

    def log_in(self, browser: Browser, name: str) -> Page:
        """Return a page of a new browser context in which a person has logged in to the hub."""
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{self.hub.url}/hub/login?next=%2Fhub%2Fhome")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill("any")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/hub/home")
        return page

    def start_server(self, name: str) -> None:
        """Ask the hub to start a person's server, without waiting for it."""
        home = self.hub.folder / "homes" / name
        settings = home / ".jupyter" / "labconfig" / "default_setting_overrides.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SETTINGS))
        write_notebook(home, [""])
        self.hub.ask("POST", f"/users/{name}/server")

    def open_notebook(self, page: Page, name: str) -> Notebook:
        """Return a notebook on a person's server, open in JupyterLab."""
        [file] = (self.hub.folder / "homes" / name).glob("*/notebook.ipynb")
        page.goto(f"{self.hub.url}/user/{name}/lab/tree/{file.parent.name}/{file.name}?reset")
        expect(page.get_by_text("(ipykernel) | Idle")).to_be_visible(timeout=PATIENCE * 1000)
        page.keyboard.press("Control+b")
        return Notebook(page, file)


@contextmanager
def running_hub_class(folder: Path) -> Iterator[HubClass]:
    """Yield a hub with a classroom; the hub's group `teachers` has its teachers."""
    hub, home = plan_hub(folder / "hub"), folder / "owner" / "home"
    home.parent.mkdir(parents=True)
    with PracticeServer() as gateway:
        command = [sys.executable, "-m", "blockrun_magic", "classroom", "--home", str(home), "serve"]
        command += ["--gateway", gateway.url, "--port", str(urlsplit(hub.classroom_address).port)]
        command += ["--teachers", "teachers", "--public-url", f"{hub.url}/services/classroom"]
        with (folder / "classroom.log").open("w") as log:
            process = subprocess.Popen(
                command,
                env=clean_environ(folder / "owner", **hub.service_environ),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), (folder / "classroom.log").read_text()
            with running_hub(hub):
                yield HubClass(hub, home, gateway)
        finally:
            process.terminate()
            process.wait(PATIENCE)
            process.stdout.close()
