"""The panel as a workplace: its layout, its keyboard control and its message sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect

from harness import ROOT
from harness.browser import (
    THEMES,
    choose_theme,
    open_practice,
    output_of,
    share_practice,
)
from harness.jupyter import Server
from harness.panel import form_of, in_view, open_panel

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """async () => {
    const found = await axe.run(".brm-panel", { resultTypes: ["violations"] });
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
}"""
SMALL = "%%imagegen --model dall-e-2 --size 256x256\n"


def generate(panel: Locator, prompt: str) -> Locator:
    """Make one of the smallest images, and return it."""
    form = form_of(panel)
    models = form.get_by_label("Model", exact=True)
    models.select_option(label=models.locator("option", has_text="dall-e-2 ·").inner_text())
    form.get_by_label("Size", exact=True).select_option("256x256")
    form.get_by_label("Prompt", exact=True).fill(prompt)
    expect(form.get_by_role("button", name="Generate · $0.021")).to_be_visible()
    form.get_by_role("button", name="Generate").click()
    image = panel.locator(".brm-stage").get_by_alt_text(prompt, exact=True).first
    expect(image).to_be_visible()
    return image


def test_the_image_is_beside_the_form(browser: Browser, lab: Server) -> None:
    """At 1280x900 the image and the button are visible, and axe reports no violations."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        image = generate(panel, "a fox")

        assert in_view(image)
        assert in_view(panel.locator("button.brm-go:visible").first)
        assert AXE.exists(), "axe-core is not installed. Run: npm ci"
        notebook.page.evaluate(AXE.read_text("utf-8"))
        for tab, theme in product(("Generate", "Edit", "Gallery", "Wallet"), THEMES):
            choose_theme(notebook, theme)
            panel.get_by_role("tab", name=tab).click()

            assert [] == notebook.page.evaluate(VIOLATIONS), (tab, theme)
        choose_theme(notebook, "light")


def test_one_click_leads_from_an_image_to_its_next_version(browser: Browser, lab: Server) -> None:
    """A follow-up edits the image; the chain shows each step with its price; a slider compares before and after."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        generate(panel, "a lighthouse")
        panel.get_by_label("Change this image").fill("make it night")
        panel.get_by_role("button", name=re.compile(r"Apply · \$")).click()
        stage = panel.locator(".brm-stage")
        expect(stage.get_by_alt_text("make it night", exact=True)).to_be_visible()
        expect(stage.locator(".brm-chain li")).to_have_count(2)
        expect(stage.locator(".brm-chain li").first).to_contain_text("$0.021")
        panel.get_by_role("button", name="Before/after").click()
        slider = stage.get_by_label("Before and after")
        slider.focus()
        slider.press("Home")

        expect(stage.locator(".brm-view")).to_have_css("--brm-split", "0%")
        expect(stage.locator(".brm-pane img")).to_have_count(2)


def test_the_gallery_is_worked_with_the_keyboard(browser: Browser, lab: Server) -> None:
    """Arrows, S, Enter and Delete work; search and stars filter; a dragged thumbnail gives its code."""
    with share_practice(browser, lab) as notebook:
        for prompt in ("a fox", "a crane", "a snail"):
            notebook.run(f"{SMALL}{prompt}")
        panel = open_panel(notebook)
        panel.get_by_role("tab", name="Gallery").click()
        thumbs, keyboard = panel.locator(".brm-thumb"), notebook.page.keyboard
        expect(thumbs).to_have_count(3)
        thumbs.first.focus()
        keyboard.press("ArrowRight")
        keyboard.press("s")
        expect(panel.get_by_role("option", name="Starred: a crane")).to_be_focused()
        keyboard.press("Enter")
        large = panel.get_by_role("dialog")
        expect(large.get_by_alt_text("a crane")).to_be_visible()
        keyboard.press("Escape")
        expect(large).to_have_count(0)
        thumbs.first.focus()
        keyboard.press("Home")
        keyboard.press("Delete")
        expect(thumbs).to_have_count(2)
        panel.get_by_label("★ only").check()
        expect(thumbs).to_have_count(1)
        panel.get_by_label("★ only").uncheck()
        panel.get_by_label("Search").fill("FOX")
        expect(thumbs).to_have_count(1)
        code = thumbs.first.evaluate(
            "it => { const data = new DataTransfer(); it.dispatchEvent(new DragEvent('dragstart', "
            "{ dataTransfer: data })); return data.getData('text/plain'); }"
        )

        assert "(256, 256)" == notebook.value(f"__import__('PIL.Image').{code}.size")


def test_a_raised_price_is_shown_and_not_paid(browser: Browser, lab: Server) -> None:
    """If the price is above the one on the button, nothing is paid."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        form.get_by_label("Prompt", exact=True).fill("a fox")
        expect(form.get_by_role("button", name="Generate · $0.0525")).to_be_visible()
        notebook.run(
            "from blockrun_magic.notebook.extension import load\n"
            "form = load(get_ipython()).context.panel.generate\nform.offer.button.agreed = 1"
        )
        form.get_by_role("button", name="Generate").click()

        expect(panel.locator(".brm-job").get_by_role("alert")).to_be_visible()
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.00")
        expect(form.get_by_role("button", name="Generate · $0.0525")).to_be_visible()


def test_a_batch_has_a_plan_with_its_sum(browser: Browser, lab: Server) -> None:
    """Two values in a prompt give a plan with prices, a button with the total, and two images."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        models = form.get_by_label("Model", exact=True)
        models.select_option(label=models.locator("option", has_text="dall-e-2 ·").inner_text())
        form.get_by_label("Prompt", exact=True).fill("a {animal} in snow")
        form.get_by_label("Prompt", exact=True).press("Tab")
        form.get_by_label("animal").fill("fox, crane")
        form.get_by_label("animal").press("Tab")
        expect(form.locator(".brm-plan tbody tr")).to_have_count(2)
        expect(form.locator(".brm-plan tfoot")).to_contain_text("$0.042")
        form.get_by_role("button", name="Generate · $0.042").click()

        expect(panel.locator(".brm-stage .brm-pane")).to_have_count(2)
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.042")


def test_a_wallet_is_made_with_the_mouse(browser: Browser, lab: Server) -> None:
    """Without a wallet the panel can create one; then it shows a QR code and waits for funds."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        panel.get_by_role("button", name="Real money").click()
        expect(panel.locator(".brm-wallet")).to_contain_text("Create a wallet")
        panel.get_by_role("tab", name="Wallet").click()
        panel.get_by_role("button", name="Create a wallet").click()

        expect(panel.get_by_alt_text("QR code")).to_be_visible()
        expect(panel.locator(".brm-fund").get_by_role("status")).to_be_visible()


def test_after_a_restart_the_panel_says_how_to_come_back(browser: Browser, lab: Server) -> None:
    """After a kernel restart, the panel is marked as disconnected and shows a notice."""
    with open_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        notebook.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        notebook.page.get_by_role("menuitem", name=re.compile("^Restart Kernel…")).click()
        notebook.page.get_by_role("button", name="Confirm Kernel Restart").click()
        expect(panel).to_have_class(re.compile("jupyter-widgets-disconnected"))

        assert panel.evaluate("it => getComputedStyle(it, '::before').content") not in ("none", "normal", '""')


def sent_by(page: Page) -> list[int]:
    """Return a growing list of the sizes of messages from the page to its kernel."""
    sizes: list[int] = []

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: sizes.append(len(frame)))

    page.on("websocket", watch)
    return sizes


def test_a_click_is_small_and_so_is_the_saved_notebook_which_a_second_tab_shows(browser: Browser, lab: Server) -> None:
    """A click sends less than 2 kB, and a saved notebook with a panel has less than 20 kB of outputs without images.

    A second page on the same kernel shows the same prompt and image.
    """
    with open_practice(browser, lab) as notebook:
        sizes = sent_by(notebook.page)
        notebook.page.reload()
        expect(notebook.page.get_by_text("(ipykernel) | Idle")).to_be_visible()
        panel = open_panel(notebook)
        generate(panel, "a fox")
        notebook.page.wait_for_timeout(1500)
        sizes.clear()
        panel.locator(".brm-left button.brm-go:visible").click()
        notebook.page.wait_for_timeout(300)
        pressed = sum(sizes)
        notebook.save()
        saved = json.loads(Path(notebook.file).read_text("utf-8"))
        outputs = [cell.get("outputs", []) for cell in saved["cells"]]

        assert 0 < pressed < 2_000
        assert len(json.dumps([outputs, saved["metadata"]])) < 20_000
        assert "image/" not in json.dumps(outputs)
        other = browser.new_page(viewport={"width": 1280, "height": 900})
        other.goto(notebook.page.url)
        twin = other.locator(".brm-panel")
        expect(twin.locator(".brm-stage").get_by_alt_text("a fox", exact=True)).to_be_visible()
        expect(twin.get_by_label("Prompt", exact=True).first).to_have_value("a fox")
        other.close()


KINDS_OF_POINTER = """() => {
    window.kinds = new Set();
    addEventListener("pointerdown", event => event.target.tagName === "CANVAS" && kinds.add(event.pointerType), true);
}"""
MOVING = """panel => [...panel.querySelectorAll("*")].filter(it => {
    const style = getComputedStyle(it);
    return style.animationName !== "none" || style.transitionDuration.split(", ").some(time => parseFloat(time) > 0);
}).map(it => it.className)"""
FOCUSED = """() => {
    const it = document.activeElement;
    const panel = it.closest(".brm-panel");
    if (!panel) return null;
    const style = getComputedStyle(it), box = it.getBoundingClientRect();
    return {
        name: (it.labels?.[0]?.textContent || it.getAttribute("aria-label") || it.textContent || it.title).trim(),
        seen: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none",
        column: it.closest(".brm-left") ? 1 : it.closest(".brm-right") ? 2 : 0,
        top: box.top + scrollY, bottom: box.bottom + scrollY,
    };
}"""
IN_ORDER = ("Real money", "↻", "Generate", "Prompt", "Model", "Size", "Images", "Generate ·", "Several", "Change this")
"""Beginnings of some names, in TAB order."""
PAINTER = """import blockrun_magic
from PIL import Image, ImageDraw
source = Image.new("RGB", (400, 200), "black")
ImageDraw.Draw(source).rectangle((0, 0, 99, 199), fill="white")
pad = blockrun_magic.paint_mask(source)
pad"""


Points = Sequence[tuple[float, float]]


def with_mouse(page: Page, points: Points) -> None:
    """Drag the mouse along these points of the page."""
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def with_pen(page: Page, points: Points) -> None:
    """Draw with a pen."""
    tablet = page.context.new_cdp_session(page)
    kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1)]
    for kind, (x, y) in [*zip(kinds, points, strict=True), ("mouseReleased", points[-1])]:
        about = {"x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen"}
        tablet.send("Input.dispatchMouseEvent", {"type": kind, **about})
    tablet.detach()


def with_finger(page: Page, points: Points) -> None:
    """Draw with a finger."""
    screen = page.context.new_cdp_session(page)
    kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
    for kind, (x, y) in zip(kinds, points, strict=True):
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    screen.detach()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_painters_tools_are_exact(browser: Browser, lab: Server, scale: float) -> None:
    """Mouse, pen and finger mark the same area at device pixel ratios of 1 and 2; a lasso and brightness work."""
    place = share_practice(browser, lab) if scale == 1 else open_practice(browser, lab, scale=scale)
    with place as notebook:
        painter = output_of(notebook.run(PAINTER)).locator(".brm-maskpad")
        canvas = painter.locator("canvas")
        expect(painter.get_by_alt_text("The image")).to_be_visible()

        def on_page(*points: tuple[float, float]) -> Points:
            canvas.scroll_into_view_if_needed()
            box = canvas.bounding_box()
            assert box is not None
            return [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]

        notebook.page.evaluate(KINDS_OF_POINTER)
        painter.get_by_role("button", name="Paint a rectangle").click()
        undo = painter.get_by_role("button", name="Undo")
        for draw in (with_mouse, with_pen, with_finger):
            draw(notebook.page, on_page((0.25, 0.25), (0.75, 0.75)))
            expect(painter.locator(".brm-maskpad-status")).to_contain_text("25.0% painted")
            marked = json.loads(notebook.value("list(pad.mask.getbbox())").strip("'"))

            assert all(abs(seen - wanted) <= 1 for seen, wanted in zip(marked, (100, 50, 300, 150), strict=True))
            undo.click()
            expect(painter.locator(".brm-maskpad-status")).not_to_contain_text("25.0% painted")
        assert ["mouse", "pen", "touch"] == notebook.page.evaluate("[...window.kinds]")
        painter.get_by_role("button", name="Paint inside a line").click()
        with_mouse(notebook.page, on_page((0.5, 0.1), (0.9, 0.9), (0.1, 0.9)))
        lasso = float(notebook.value("pad.painted_fraction"))
        painter.get_by_role("button", name="Clear the mask").click()
        painter.get_by_text("Select by brightness").click()
        painter.get_by_role("button", name="at least as bright").click()
        expect(painter.locator(".brm-maskpad-status")).to_contain_text("25.0% painted")

        assert abs(0.32 - lasso) < 0.01


def test_the_keyboard_goes_through_the_panel_in_its_order(browser: Browser, lab: Server) -> None:
    """TAB moves from the head to the form and the image, focus is visible, and nothing is animated."""
    with share_practice(browser, lab) as notebook:
        notebook.page.emulate_media(reduced_motion="reduce")
        panel = open_panel(notebook)
        generate(panel, "a fox")
        moving = panel.evaluate(MOVING)
        panel.get_by_role("button", name="Practice").focus()
        steps = [panel.page.evaluate(FOCUSED)]
        while len(steps) < 100:
            notebook.page.keyboard.press("Tab")
            step = panel.page.evaluate(FOCUSED)
            if step is None:
                break
            steps.append(step)
        notebook.page.emulate_media(reduced_motion="no-preference")
        names = [step["name"] for step in steps]
        places = [next(i for i, name in enumerate(names) if name.startswith(part)) for part in IN_ORDER]

        assert [] == moving
        assert sorted(places) == places, names
        assert [] == [step["name"] for step in steps[1:] if not step["seen"]]
        panel.get_by_role("tab", name="Generate").focus()
        notebook.page.keyboard.press("ArrowRight")
        expect(panel.get_by_role("tab", name="Edit")).to_be_focused()
        notebook.page.keyboard.press("Enter")
        expect(panel.get_by_role("tab", name="Edit")).to_have_attribute("aria-selected", "true")
        title = panel.get_by_role("button", name="Several models or sizes").locator("visible=true")
        title.focus()
        notebook.page.keyboard.press("Enter")
        expect(title).to_have_attribute("aria-expanded", "true")
        expect(panel.get_by_label("banana-2").locator("visible=true")).to_be_visible()
        # The head comes first, then the left column, then the right one; inside a column, TAB moves down.
        assert sorted(step["column"] for step in steps) == [step["column"] for step in steps], names
        assert all(
            after["bottom"] > before["top"] for before, after in pairwise(steps) if before["column"] == after["column"]
        ), steps
