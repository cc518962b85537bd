"""Screenshots of the teacher's page, for take_screenshots.py: a class of eight with two weeks behind it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from blockrun_magic.classroom.page.sessions import new_ticket
from blockrun_magic.practice.server.server import PracticeServer
from harness.browser import Theme
from harness.classroom import Class, running_class

__all__ = ["CLASS_TOUR", "running_demo", "take_class"]

CLASS_TOUR = ("class-today", "class-people", "class-person", "class-limits", "class-gallery")
"""The screenshots that the docs show."""
_PEOPLE = {
    "Ada": ("red", 3),
    "Amara": ("red", 2),
    "Bo": ("red", 2),
    "Chidi": ("blue", 3),
    "Dana": ("blue", 1),
    "Elif": ("blue", 2),
    "Farid": ("green", 3),
    "Grete": ("green", 2),
}
_PROMPTS = (
    "a fox in fresh snow",
    "a lighthouse on a cliff at dawn",
    "a red kite over the dunes",
    "a night train in the mountains",
    "a harbor in the rain, watercolor",
    "sunflowers by an open window",
)


@contextmanager
def running_demo(folder: Path) -> Iterator[Class]:
    """Yield a class in which some have reached a limit."""
    with PracticeServer() as gateway, running_class(folder / "class" / "home", gateway) as room:
        for subject, period, micros in (
            *(("all", "total", 50_000_000), ("class", "total", 5_000_000)),
            *(("each", "total", 160_000), ("group:red", "total", 2_000_000)),
        ):
            room.owner.set_limit(subject, period, micros)
        prompts = iter(_PROMPTS * 4)
        for name, (group, count) in _PEOPLE.items():
            student = room.student(name, groups=(group,))
            for _ in range(count):
                student.put(next(prompts)).raise_for_status()
        _spread(room)
        yield room


def _spread(room: Class) -> None:
    """Date half of the payments back, so that the charts show more than one day; the limits stay as they are."""
    chance = random.Random(7)  # noqa: S311  a picture, no secret
    with room.records.database.transaction() as connection:
        ids = [row["id"] for row in connection.execute("SELECT id FROM authorizations ORDER BY id").fetchall()]
        for one in ids[::2]:
            back = 86_400 * chance.choice((1, 2, 3, 5, 6, 7, 8, 9, 12))
            connection.execute("UPDATE authorizations SET updated_at = updated_at - ? WHERE id = ?", (back, one))


def take_class(browser: Browser, room: Class, target: Path, theme: Theme) -> None:
    """Take the pages, as a teacher sees them at 1280x900."""
    suffix = "" if theme == "light" else f"-{theme}"
    viewport = {"width": 1280, "height": 900}
    page = browser.new_context(color_scheme=theme, viewport=viewport).new_page()  # type: ignore[arg-type]
    base = f"{room.url}/teacher"
    page.goto(f"{base}?ticket={new_ticket(room.records.database)}")
    _shoot(page, target / f"class-today{suffix}.png")
    page.goto(f"{base}/people?sort=left")
    page.get_by_text("Change", exact=True).nth(2).click()
    _shoot(page, target / f"class-people{suffix}.png")
    page.get_by_role("link", name="Ada").first.click()
    _shoot(page, target / f"class-person{suffix}.png")
    for name in ("limits", "gallery", "orders", "invitations", "audit"):
        page.goto(f"{base}/{name}")
        _shoot(page, target / f"class-{name}{suffix}.png")
    page.context.close()


def _shoot(page: Page, path: Path) -> None:
    images = page.locator("img")
    for number in range(images.count()):
        expect(images.nth(number)).to_have_js_property("complete", value=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
