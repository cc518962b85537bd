"""Take the screenshots of the panel and of the teacher's page for README and docs, and more to look at.

Usage:
    .venv/bin/python docs/take_screenshots.py           every step, light and dark, into build/screenshots/
    .venv/bin/python docs/take_screenshots.py --update  and the steps of the tour into docs/images/
    .venv/bin/python docs/take_screenshots.py --class   the teacher's page only; with --update, too

In a real JupyterLab and Chromium, on the practice gateway, at 1280x900; and 545 pixels wide.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs")]

from class_screenshots import CLASS_TOUR, running_demo, take_class  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Locator, expect  # noqa: E402

from harness.browser import Notebook, Theme, open_practice, output_of, running_browser  # noqa: E402
from harness.jupyter import running_lab  # noqa: E402

TARGET = ROOT / "build" / "screenshots"
TOUR = (
    "generate-light",
    "batch-light",
    "next-light",
    "compare-light",
    "gallery-light",
    "paint-light",
    "wallet-light",
    "dropped-light",
    "generate-dark",
    "generate-narrow",
)
"""The steps that the docs show; the first one is also in the README."""
COLORS = 128
PROMPTS = ("a fox in fresh snow", "a futuristic city at sunset", "a lighthouse on a cliff at dawn, long shadows")
SETTINGS = "a red kite over the dunes\\nNegative prompt: blurry\\nSteps: 20, Sampler: Euler a, Size: 512x512"


def main() -> None:
    """Take every step, and store those that the docs show with --update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="replace the images in docs/images")
    parser.add_argument("--class", action="store_true", dest="only_class", help="only the teacher's page")
    options = parser.parse_args()
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    looks: tuple[tuple[str, Theme, int], ...] = (
        ("light", "light", 1280),
        ("dark", "dark", 1280),
        ("narrow", "light", 545),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        running_browser(Path(folder)) as browser,
        running_demo(Path(folder)) as room,
    ):
        take_class(browser, room, TARGET, "light")
        take_class(browser, room, TARGET, "dark")
    if not options.only_class:
        take_panel(looks)
    for step in (*(() if options.only_class else TOUR), *CLASS_TOUR) if options.update else ():
        with Image.open(TARGET / f"{step}.png") as image:
            small = image.convert("RGB").quantize(COLORS, dither=Image.Dither.FLOYDSTEINBERG)
            panel = f"panel-{step.removesuffix('-light')}" if step != TOUR[0] else "panel"
            name = panel if step in TOUR else step
            small.save(ROOT / "docs" / "images" / f"{name}.png", optimize=True)
    print(f"{len(list(TARGET.iterdir()))} images in {TARGET.relative_to(ROOT)}")


def take_panel(looks: Sequence[tuple[str, Theme, int]]) -> None:
    """Take every step of the panel in light and dark, and the narrow one."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder) / "lab") as lab,
        running_browser(Path(folder)) as browser,
    ):
        for name, theme, width in looks:
            with open_practice(browser, lab, theme=theme, width=width) as notebook:
                notebook.page.set_viewport_size({"width": width, "height": 1150})
                take(notebook, name)


def take(notebook: Notebook, look: str) -> None:
    """Take one notebook through the steps of the tour."""
    panel = output_of(notebook.run("%blockrun panel")).locator(".brm-panel")
    expect(panel.get_by_role("button", name="Generate · $0.0525")).to_be_visible()
    form = panel.locator(".brm-left .brm-form:visible")
    models = form.get_by_label("Model", exact=True)
    models.select_option(label=models.locator("option", has_text="flux ·").inner_text())
    for prompt in PROMPTS:
        form.get_by_label("Prompt", exact=True).fill(prompt)
        form.get_by_role("button", name="Generate").click()
        expect(on_stage(panel, prompt)).to_be_visible()
    shoot(panel, f"generate-{look}")

    form.get_by_text("Several models or sizes", exact=True).click()
    form.get_by_label("cogview", exact=True).check()
    form.get_by_label("nano-banana", exact=True).check()
    expect(form.locator(".brm-plan tbody tr")).to_have_count(3)
    expect(form.get_by_role("button", name=re.compile(r"Generate · \$0\.1"))).to_be_visible()
    shoot(panel, f"batch-{look}")

    for words in ("make it night", "add a sailing ship"):
        panel.get_by_label("Change this image").fill(words)
        panel.get_by_role("button", name=re.compile(r"Apply · \$")).click()
        expect(on_stage(panel, words)).to_be_visible()
    shoot(panel, f"next-{look}")
    panel.get_by_role("button", name="Before/after").click()
    expect(panel.locator(".brm-slider")).to_be_visible()
    shoot(panel, f"compare-{look}")

    panel.get_by_role("tab", name="Gallery").click()
    thumbs = panel.locator(".brm-thumb")
    expect(thumbs).to_have_count(5)
    thumbs.nth(2).click()
    notebook.page.keyboard.press("s")
    expect(panel.locator(".brm-star")).to_have_count(1)
    shoot(panel, f"gallery-{look}")

    panel.get_by_role("button", name="Edit", exact=True).click()
    paint(panel.locator("canvas.brm-maskpad-ink"))
    form.get_by_label("Prompt", exact=True).fill("replace the sky with an aurora")
    shoot(panel, f"paint-{look}")
    panel.get_by_role("button", name="Show the image").click()

    panel.get_by_role("tab", name="Wallet").click()
    panel.get_by_role("button", name="Real money").click()
    panel.get_by_role("button", name="Create a wallet").click()
    expect(panel.get_by_alt_text("QR code")).to_be_visible()
    shoot(panel, f"wallet-{look}")

    panel.get_by_role("button", name="Practice", exact=True).click()
    drop_file(notebook, panel)
    shoot(panel, f"dropped-{look}")


def on_stage(panel: Locator, prompt: str) -> Locator:
    """Return the image on the stage that was made from a prompt."""
    return panel.locator(".brm-stage").get_by_alt_text(prompt, exact=True).first


def drop_file(notebook: Notebook, panel: Locator) -> None:
    """Drop a PNG onto the panel in which AUTOMATIC1111 has written its settings."""
    made = notebook.run(
        "import base64, io\nfrom PIL import Image, PngImagePlugin\n"
        f'info = PngImagePlugin.PngInfo()\ninfo.add_text("parameters", "{SETTINGS}")\n'
        'file = io.BytesIO()\nImage.new("RGB", (64, 64), "tan").save(file, "png", pnginfo=info)\n'
        "print(base64.b64encode(file.getvalue()).decode())"
    )
    panel.evaluate(
        """async (panel, text) => {
            const blob = await (await fetch(`data:image/png;base64,${text}`)).blob();
            const files = new DataTransfer();
            files.items.add(new File([blob], "kite.png", { type: "image/png" }));
            panel.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: files }));
        }""",
        output_of(made).inner_text().strip(),
    )
    expect(panel.get_by_role("button", name="Use these settings")).to_be_visible()


def paint(canvas: Locator) -> None:
    """Paint over the upper third of an image."""
    canvas.scroll_into_view_if_needed()
    canvas.page.wait_for_timeout(800)
    box = canvas.bounding_box() or {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0}
    mouse = canvas.page.mouse
    for row in range(8):
        y = box["y"] + box["height"] * (0.04 + row * 0.05)
        mouse.move(box["x"] + box["width"] * 0.04, y)
        mouse.down()
        mouse.move(box["x"] + box["width"] * 0.96, y, steps=8)
        mouse.up()


def shoot(panel: Locator, name: str) -> None:
    """Take a screenshot of the panel, once it has come to rest."""
    panel.page.mouse.move(2, 2)
    panel.page.wait_for_timeout(900)
    panel.screenshot(path=TARGET / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main()
