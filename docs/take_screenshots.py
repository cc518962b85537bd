"""Take the images of the panel that stand in README and docs, and more to look at.

Usage:
    .venv/bin/python docs/take_screenshots.py           every state into build/screenshots/
    .venv/bin/python docs/take_screenshots.py --update  and the ones that are shown into docs/images/

In a real JupyterLab and Chromium, on the practice gateway: light, dark, and 420 pixels wide.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Notebook, Theme, open_practice, output_of, running_browser  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Locator, expect  # noqa: E402
from servers import running_lab  # noqa: E402

TARGET = ROOT / "build" / "screenshots"
SHOWN = {
    "generated-light": "panel",
    "mask-light": "mask",
    "generated-dark": "panel-dark",
    "generated-narrow": "panel-narrow",
}
"""The states that stand in the docs, and their names there."""
COLORS = 256
TALL = 2800


def main() -> None:
    """Take every state in light and dark, and the narrow one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="replace the images in docs/images")
    options = parser.parse_args()
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    looks: tuple[tuple[str, Theme, int], ...] = (
        ("light", "light", 1000),
        ("dark", "dark", 1000),
        ("narrow", "light", 545),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder) / "lab") as lab,
        running_browser(Path(folder)) as browser,
    ):
        for name, theme, width in looks:
            with open_practice(browser, lab, theme=theme, width=width) as notebook:
                notebook.page.set_viewport_size({"width": width, "height": TALL})
                take(notebook, name)
    for state, name in SHOWN.items() if options.update else ():
        with Image.open(TARGET / f"{state}.png") as image:
            small = image.convert("RGB").quantize(COLORS, dither=Image.Dither.FLOYDSTEINBERG)
            small.save(ROOT / "docs" / "images" / f"{name}.png", optimize=True)
    print(f"{len(list(TARGET.iterdir()))} images in {TARGET.relative_to(ROOT)}")


def take(notebook: Notebook, look: str) -> None:
    """Take one notebook through the states of its panel."""
    panel = output_of(notebook.run("%blockrun panel")).locator(".brm-panel")
    expect(panel.get_by_role("button", name="Generate · $0.0525")).to_be_visible()
    shoot(panel, f"empty-{look}")

    form = panel.locator(".brm-form:visible")
    models = form.get_by_label("Model")
    models.select_option(label=models.locator("option", has_text="flux ·").inner_text())
    generate(panel, "a lighthouse on a cliff at dawn, long shadows", "lighthouse")
    generate(panel, "a fox in fresh snow", "fox")
    generate(panel, "a futuristic city at sunset, seen from the harbor", "city")
    shoot(panel, f"generated-{look}")

    form.get_by_label("Prompt").fill("a snail practice:slow=600")
    form.get_by_role("button", name="Generate").click()
    expect(panel.locator(".brm-job")).to_contain_text("in progress")
    form.get_by_label("Flags").fill("--max-price 0.01")
    form.get_by_label("Flags").press("Enter")
    form.get_by_role("button", name="Generate").click()
    expect(panel.get_by_role("alert")).to_contain_text("--max-price")
    shoot(panel, f"busy-and-refused-{look}")
    form.get_by_label("Flags").fill("")
    form.get_by_label("Flags").press("Enter")
    panel.get_by_role("button", name="Dismiss").click()

    panel.get_by_role("button", name="Receipt").click()
    expect(panel.locator(".brm-detail")).to_contain_text("transaction")
    shoot(panel, f"receipt-{look}")

    panel.get_by_role("button", name="Use as source").click()
    form.get_by_label("Mask").select_option("paint it here")
    paint(form.locator("canvas.brm-maskpad-ink"))
    form.get_by_label("Prompt").fill("replace the sky with an aurora")
    form.get_by_label("Prompt").press("Tab")
    shoot(panel, f"edit-{look}")
    shoot(panel.locator(".brm-maskpad"), f"mask-{look}")
    form.get_by_role("button", name="Edit ·").click()
    expect(panel.locator(".brm-stage").get_by_alt_text("replace the sky with an aurora", exact=True)).to_be_visible()
    shoot(panel, f"edited-{look}")


def generate(panel: Locator, prompt: str, name: str) -> None:
    """Make one image, and wait until it is shown."""
    form = panel.locator(".brm-form:visible")
    form.get_by_label("Prompt").fill(prompt)
    form.get_by_label("Variable").fill(name)
    form.get_by_label("Variable").press("Tab")
    form.get_by_role("button", name="Generate").click()
    expect(panel.locator(".brm-stage").get_by_alt_text(prompt, exact=True)).to_be_visible()


def paint(canvas: Locator) -> None:
    """Paint over the upper third of an image."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box() or {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}
    mouse = canvas.page.mouse
    for row in range(8):
        y = box["y"] + box["height"] * (0.04 + row * 0.05)
        mouse.move(box["x"] + box["width"] * 0.04, y)
        mouse.down()
        mouse.move(box["x"] + box["width"] * 0.96, y, steps=8)
        mouse.up()


def shoot(place: Locator, name: str) -> None:
    """Take an image of one place of the page."""
    place.screenshot(path=TARGET / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main()
