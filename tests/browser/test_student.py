"""A student in JupyterLab: joining with a code, and the panel of a paying class."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from blockrun_magic.practice.server.server import PracticeServer
from harness.browser import Notebook, output_of, share_practice
from harness.classroom import PRICE, Class, running_class
from harness.jupyter import Server
from harness.panel import form_of


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    """Return a class that allows two models."""
    with (
        PracticeServer() as gateway,
        running_class(tmp_path_factory.mktemp("class") / "home", gateway) as room,
    ):
        room.owner.set_policy("class", models=("google/nano-banana", "zai/cogview-4"))
        yield room


def invited(room: Class, name: str) -> str:
    """Return a join code."""
    return room.owner.invite(name, groups=["red"], expires_at=room.records.database.now() + 3600)


def joined(notebook: Notebook, room: Class, name: str) -> None:
    """Join with a hidden code, and use the class."""
    cell = notebook.start(f"%blockrun join {room.url}\n%blockrun use classroom")
    asked = cell.locator("input[type=password]")
    asked.fill(invited(room, name))
    asked.press("Enter")
    expect(output_of(notebook.finish(cell))).to_contain_text(f"You are {name}, in red.")


def opened(notebook: Notebook) -> Locator:
    """Return the panel after it shows a price and the limits of the class."""
    panel = output_of(notebook.run("%blockrun panel")).locator(".brm-panel")
    expect(panel.get_by_role("button", name=re.compile(r"Generate · \$"))).to_be_visible()
    expect(panel.locator(".brm-bars")).to_contain_text("you, today")
    return panel


def test_a_code_on_the_line_leaves_the_notebook(browser: Browser, lab: Server, room: Class) -> None:
    """The code disappears from the cell after the run, and no file contains it."""
    with share_practice(browser, lab) as notebook:
        code = invited(room, "bob")
        cell = notebook.run(f"%blockrun join {room.url} {code}")
        expect(output_of(cell)).to_contain_text("You are bob, in red.")

        expect(cell.locator(".cm-content")).not_to_contain_text(code)
        expect(cell.locator(".cm-content")).to_contain_text(f"%blockrun join {room.url}")
        expect(output_of(cell)).not_to_contain_text(code)
        notebook.run("%history -g -f all.py")
        notebook.save()

        folder = lab.folder.parent
        assert notebook.file.is_relative_to(folder)
        assert [] == [path for path in folder.rglob("*") if path.is_file() and code.encode() in path.read_bytes()]


def test_the_panel_of_a_student(browser: Browser, lab: Server, room: Class) -> None:
    """The panel shows the models and limits of the class, buys within them, and refuses more in two lines."""
    with share_practice(browser, lab) as notebook:
        joined(notebook, room, "ada")
        room.owner.set_limit(room.member("ada").subject, "day", PRICE * 3 // 2)
        panel = opened(notebook)
        form = form_of(panel)
        expect(panel.locator(".brm-wallet")).to_contain_text("ada (red)")
        assert 2 == form.get_by_label("Model").locator("option").count()

        form.get_by_label("Prompt").fill("a fox in snow")
        form.get_by_role("button", name="Generate · $0.0525").click()
        expect(panel.locator(".brm-stage").get_by_alt_text("a fox in snow", exact=True).first).to_be_visible()
        expect(panel.locator(".brm-bars")).to_contain_text("you, today: $0.0525 play money of $0.07875, $0.02625 left")

        form.get_by_label("Prompt").fill("a dog in snow")
        form.get_by_role("button", name="Generate · $0.0525").click()
        said = panel.get_by_role("alert")
        expect(said).to_contain_text("$0.02625 is left")
        assert 2 == len(said.inner_text().splitlines())
        assert 1 == len(room.settlements)


def test_the_sliders_of_a_student(browser: Browser, lab: Server, room: Class) -> None:
    """The sliders are the student's own limits: unset at first, and removable."""
    with share_practice(browser, lab) as notebook:
        joined(notebook, room, "carla")
        room.owner.set_limit(room.member("carla").subject, "day", 10 * PRICE)
        panel = opened(notebook)
        panel.get_by_role("tab", name="Wallet").click()
        sliders = panel.locator(".brm-limit .widget-readout:visible")
        expect(sliders).to_have_text(["not set", "not set", "not set"])
        handle = panel.locator(".brm-limit .noUi-handle").nth(1)
        handle.focus()
        for _ in range(6):
            handle.press("ArrowLeft")
        expect(sliders).to_have_text(["not set", "$0.50", "not set"])
        expect(panel.locator(".brm-bars")).to_contain_text("your own, this session: $0.00 play money of $0.50")
        for _ in range(6):
            handle.press("ArrowRight")
        expect(sliders).to_have_text(["not set", "not set", "not set"])
        expect(panel.locator(".brm-bars")).not_to_contain_text("your own")
