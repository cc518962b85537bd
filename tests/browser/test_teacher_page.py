"""The teacher's page in Chromium: safe with hostile text, accessible, usable magnified and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from blockrun_magic.classroom.page.sessions import new_ticket
from blockrun_magic.practice.server.server import PracticeServer
from harness import ROOT
from harness.browser import Theme
from harness.classroom import Class, running_class

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PATHS = ("", "people", "people/1", "orders", "gallery", "limits", "invitations", "audit")
FOREIGN = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)", "\u202eright to left")
_VIOLATIONS = """async () => {
    const found = await axe.run(document, { resultTypes: ["violations"] });
    return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
}"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    """Return a class with HTML and scripts in names, groups and prompts."""
    with PracticeServer() as gateway, running_class(tmp_path_factory.mktemp("class") / "home", gateway) as room:
        for subject, amount in (("all", 20_000_000), ("class", 5_000_000), ("each", 60_000)):
            room.owner.set_limit(subject, "total", amount)
        for text in FOREIGN:
            name = text.removeprefix("\u202e")
            student = room.student(name, groups=(f"group {name}",))
            assert [200, 402] == [student.put(prompt).status_code for prompt in (text, f"{text} again")]
        yield room


@dataclass
class Visit:
    """A visit to the teacher's page, with its external requests, dialogs and console messages."""

    page: Page
    base: str
    outside: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open a page, and check that it loads."""
        answer = self.page.goto(f"{self.base}/{path}")

        assert answer is not None
        assert 200 == answer.status


def visiting(browser: Browser, room: Class, *, theme: Theme = "light", width: int = 1280) -> Visit:
    """Return a logged-in visit in a new browser context, with requests, dialogs and messages recorded."""
    viewport: ViewportSize = {"width": width, "height": 900}
    page = browser.new_context(color_scheme=theme, viewport=viewport).new_page()
    visit = Visit(page, f"{room.url}/teacher")
    page.on("request", lambda request: _note(visit, request.url, room.url))
    page.on("dialog", lambda dialog: visit.outside.append(dialog.message))
    page.on("console", lambda message: visit.outside.append(message.text))
    page.goto(f"{visit.base}?ticket={new_ticket(room.records.database)}")
    return visit


def _note(visit: Visit, url: str, own: str) -> None:
    if not url.startswith((f"{own}/", "blob:")):
        visit.outside.append(url)


def test_nothing_runs_and_nothing_leaves(browser: Browser, room: Class) -> None:
    """With hostile text on all pages, no script runs, no external request is sent, and the images load."""
    visit = visiting(browser, room)
    for path in PATHS:
        visit.open(path)
        visit.page.mouse.wheel(0, 5000)
        visit.page.wait_for_load_state("networkidle")
        assert 0 == visit.page.locator("script, iframe, [onerror], [href^=javascript]").count()
    visit.open("gallery")
    images = visit.page.locator(".gallery img")
    expect(images).to_have_count(len(FOREIGN))
    for number in range(len(FOREIGN)):
        images.nth(number).scroll_into_view_if_needed()
        expect(images.nth(number)).to_have_js_property("complete", value=True)
    assert 0 < visit.page.evaluate("Math.min(...[...document.images].map((image) => image.naturalWidth))")

    assert [] == visit.outside
    visit.page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_no_complaints(browser: Browser, room: Class, theme: Theme) -> None:
    """Axe reports no violations in the light and the dark theme."""
    assert AXE.exists(), "axe-core is not installed. Run: npm ci"
    visit = visiting(browser, room, theme=theme)
    found = {}
    for path in PATHS:
        visit.open(path)
        for summary in visit.page.locator("summary").all():
            summary.click()
        visit.page.evaluate(AXE.read_text("utf-8"))
        found[path] = visit.page.evaluate(_VIOLATIONS)

    assert {path: [] for path in PATHS} == found
    visit.page.context.close()


def test_magnified_four_times(browser: Browser, room: Class) -> None:
    """At 400 %, a window of 1280 pixels has 320: no page scrolls sideways."""
    visit = visiting(browser, room, width=320)
    for path in PATHS:
        visit.open(path)
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert (path, 0) == (path, visit.page.evaluate(width))
    visit.page.context.close()


def test_a_limit_is_raised_by_keyboard(browser: Browser, room: Class) -> None:
    """TAB reaches a student, the limit is typed, Enter sends it, and the page shows the new limit."""
    visit = visiting(browser, room)
    visit.open("people?q=javascript")
    page = visit.page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("0.50")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status").filter(has_text="$0.50")).to_be_visible()
    [member] = room.records.members.by_name("javascript:alert(1)")
    assert 500_000 == room.records.ledger.limits()[member.subject, "total"]
    page.context.close()
