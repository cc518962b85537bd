"""A class on JupyterHub, from the teacher's login to the report, in Chromium."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest
from playwright.sync_api import Browser, Page, expect

from harness.browser import output_of, running_browser
from harness.hub_class import HubClass
from harness.kernel import paid_to

PRICE = Decimal("0.0525")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a Chromium."""
    with running_browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


def table(page: Page, url: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file that a page offers."""
    content = page.context.request.get(url).body().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(content)))


def secrets_on_disk(room: HubClass) -> list[str]:
    """Return the files of students and of the service that hold a pass, or the service's token."""
    secret = re.compile(rf"brc_[\w-]{{20}}|{room.hub.service_token}".encode())
    folders = (room.hub.folder / "homes", room.home)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    assert len([path for path in files if path.suffix == ".png"]) >= 3
    return [
        str(path) for path in (*files, room.hub.folder.parent / "classroom.log") if secret.search(path.read_bytes())
    ]


def test_a_class_on_a_hub(room: HubClass, browser: Browser) -> None:
    """Two students use the class, one reaches the limit, the teacher raises it, and the table is exact."""
    room.command("limits", "all=5", "class=2", "each=0.10")
    for name in ("ada", "bob"):
        room.start_server(name)
    teacher = room.log_in(browser, "grace")
    teacher.goto(f"{room.hub.url}/services/classroom/")
    teacher.wait_for_url(f"{room.page}/")
    expect(teacher.get_by_role("heading", name="Today")).to_be_visible()
    expect(teacher.get_by_text("subdomain_host").first).to_be_visible()

    ada = room.open_notebook(room.log_in(browser, "ada"), "ada")
    bob = room.open_notebook(room.log_in(browser, "bob"), "bob")
    for student in (ada, bob):
        student.run("%load_ext blockrun_magic\n%blockrun use classroom")
        expect(output_of(student.run("%%imagegen\na fox in snow")).locator("img")).to_have_count(1)

    refused = ada.run("%%imagegen\na lighthouse at dawn")
    expect(output_of(refused)).to_contain_text("$0.10")
    expect(output_of(refused).locator("img")).to_have_count(0)

    teacher.get_by_role("link", name="People", exact=True).click()
    row = teacher.get_by_role("row").filter(has_text="ada")
    expect(row).to_contain_text("$0.0475 left of $0.10")
    row.get_by_text("Change", exact=True).click()
    row.get_by_label("US dollars").fill("0.25")
    row.get_by_role("button", name="Set the limit").click()
    expect(teacher.get_by_role("status").filter(has_text="$0.25")).to_be_visible()

    again = ada.run("%%imagegen\na lighthouse at dawn")
    expect(output_of(again).locator("img")).to_have_count(1)

    people = {row["name"]: Decimal(row["spent_usd"]) for row in table(teacher, f"{room.page}/people.csv")}
    orders = [Decimal(row["charged_usd"]) for row in table(teacher, f"{room.page}/orders.csv")]
    assert {"ada": 2 * PRICE, "bob": PRICE} == {name: people[name] for name in ("ada", "bob")}
    assert [PRICE] * 3 == orders
    assert [] == secrets_on_disk(room)
    assert Decimal(paid_to(room.gateway.url)).scaleb(-6) == sum(orders) == sum(people.values())


def test_a_student_is_no_teacher(room: HubClass, browser: Browser) -> None:
    """The hub logs ada in, and the page stays closed."""
    page = room.log_in(browser, "ada")

    answer = page.goto(f"{room.page}/people")

    assert answer is not None
    assert 403 == answer.status
    assert [] == [cookie["name"] for cookie in page.context.cookies() if cookie["name"] == "classroom"]
