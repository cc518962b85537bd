"""The panel with 50 images: the size of the notebook file, and how soon a click shows.

Usage:
    .venv/bin/python benchmarks/panel.py

In a real JupyterLab and Chromium, on the practice gateway. A click is timed in the browser, from the event to
the moment at which the panel has changed on the page: a press of Generate until the button says that it
was taken, a thumbnail until its image is large. Medians of 30.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import open_practice, output_of, running_browser  # noqa: E402
from playwright.sync_api import Locator, expect  # noqa: E402
from servers import running_lab  # noqa: E402

IMAGES = 50
CLICKS = 30

TIMED = """(panel, [clicked, nth, changed]) => new Promise((resolve, reject) => {
  const button = panel.querySelectorAll(clicked)[nth];
  const has_changed = eval(changed);
  const watcher = new MutationObserver(() => {
    if (!has_changed(panel, button)) return;
    watcher.disconnect();
    requestAnimationFrame(() => resolve(performance.now() - begun));
  });
  watcher.observe(panel, { attributes: true, childList: true, subtree: true });
  setTimeout(() => reject(new Error("the click changed nothing")), 20000);
  const begun = performance.now();
  button.click();
})"""
SHOWN_LARGE = """(panel, button) =>
  panel.querySelector(".brm-stage img")?.alt === button.closest(".brm-slot").querySelector("img").alt"""
TAKEN = """(panel, button) => button.disabled || panel.querySelector(".brm-job")"""


def main() -> None:
    """Print a table, and write it to build/panel.json."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder) / "lab") as lab,
        running_browser(Path(folder)) as browser,
        open_practice(browser, lab) as notebook,
    ):
        made = "\n".join(f"a fox number {number}" for number in range(IMAGES))
        notebook.run(f"%%imagegen --each --quiet --model dall-e-2 --size 256x256\n{made}")
        panel = output_of(notebook.run("%blockrun panel")).locator(".brm-panel")
        expect(panel.get_by_text(f"of {IMAGES}")).to_be_visible()
        found = {
            "show an image large, ms": statistics.median(
                timed(panel, ".brm-slot button", number % 12, SHOWN_LARGE) for number in range(1, CLICKS + 1)
            ),
            "press Generate until it is taken, ms": statistics.median(
                pressed(panel, f"a crane number {number}") for number in range(CLICKS)
            ),
        }
        notebook.save()
        found["notebook file, kB"] = notebook.file.stat().st_size / 1000
    for name, value in found.items():
        print(f"{name:<45} {value:8.1f}")
    target = ROOT / "build" / "panel.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, indent=2))


def timed(panel: Locator, button: str, nth: int, changed: str) -> float:
    """Return the milliseconds from a click to the change on the page."""
    return float(panel.evaluate(TIMED, [button, nth, changed]))


def pressed(panel: Locator, prompt: str) -> float:
    """Return the milliseconds from a press of the button to the job's line, and wait for its image."""
    panel.get_by_label("Prompt").first.fill(prompt)
    panel.get_by_label("Prompt").first.press("Tab")
    taken = timed(panel, "button.brm-go", 0, TAKEN)
    expect(panel.locator(".brm-stage").get_by_alt_text(prompt, exact=True)).to_be_visible()
    expect(panel.locator(".brm-job")).to_have_count(0)
    return taken


if __name__ == "__main__":
    main()
