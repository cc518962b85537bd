"""The panel as a place to work in: what one sees, what the keyboard does, and what it weighs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect

from harness import ROOT
from harness.browser import (
    Notebook,
    Theme,
    open_app,
    open_in_notebook7,
    open_practice,
    output_of,
    share_practice,
    write_notebook,
)
from harness.jupyter import Server

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """async () => {
    const found = await axe.run(".brm-panel", { resultTypes: ["violations"] });
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
}"""
SMALL = "%%imagegen --model dall-e-2 --size 256x256\n"


def open_panel(notebook: Notebook) -> Locator:
    """Return the panel, opened in a new cell and ready: the gateway has said its price."""
    return ready(output_of(notebook.run("%blockrun panel")).locator(".brm-panel"))


def ready(panel: Locator) -> Locator:
    """Return the panel once its button has a price."""
    expect(panel.get_by_role("button", name=re.compile(r"Generate · \$"))).to_be_visible()
    return panel


def generate(panel: Locator, prompt: str) -> Locator:
    """Make the smallest image there is, and return it on the stage."""
    form = panel.locator(".brm-left .brm-form:visible")
    models = form.get_by_label("Model", exact=True)
    models.select_option(label=models.locator("option", has_text="dall-e-2 ·").inner_text())
    form.get_by_label("Size", exact=True).select_option("256x256")
    form.get_by_label("Prompt", exact=True).fill(prompt)
    expect(form.get_by_role("button", name="Generate · $0.021")).to_be_visible()
    form.get_by_role("button", name="Generate").click()
    image = panel.locator(".brm-stage").get_by_alt_text(prompt, exact=True).first
    expect(image).to_be_visible()
    return image


def in_view(part: Locator) -> bool:
    """Return whether all of it is inside the window, without scrolling."""
    return bool(
        part.evaluate(
            "it => { const box = it.getBoundingClientRect();"
            " return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth; }"
        )
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_image_is_beside_the_form(browser: Browser, lab: Server, theme: Theme) -> None:
    """At 1280x900 the image is in view after the click, as is the button; axe finds nothing to complain about."""
    with open_practice(browser, lab, theme=theme) as notebook:
        panel = open_panel(notebook)
        image = generate(panel, "a fox")

        assert in_view(image)
        assert in_view(panel.locator("button.brm-go:visible").first)
        assert AXE.exists(), "axe-core is not installed. Run: npm ci"
        notebook.page.evaluate(AXE.read_text("utf-8"))
        for tab in ("Generate", "Edit", "Gallery", "Wallet"):
            panel.get_by_role("tab", name=tab).click()

            assert [] == notebook.page.evaluate(VIOLATIONS), tab


def test_notebook_7_and_voila_show_the_image_in_view(browser: Browser, lab: Server, voila: Server) -> None:
    """The same in the other two fronts."""
    with open_in_notebook7(browser, lab) as notebook:
        notebook.run("%load_ext blockrun_magic\n%blockrun use practice")

        assert in_view(generate(open_panel(notebook), "a fox"))
    cells = ["%load_ext blockrun_magic\n%blockrun use practice", "import blockrun_magic\nblockrun_magic.panel()"]
    with open_app(browser, voila, write_notebook(voila.folder, cells)) as page:
        assert in_view(generate(ready(page.locator(".brm-panel")), "a fox"))


def test_one_click_leads_from_an_image_to_its_next_version(browser: Browser, lab: Server) -> None:
    """A follow-up edits the image shown; the chain shows each step with its cost; before and after have a slider."""
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
    """Arrows move, S stars, Enter opens large, Delete takes out; search and stars filter; a thumbnail is dragged."""
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
    """A press agrees to what its button says: if the gateway asks for more by then, nothing is signed."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = panel.locator(".brm-left .brm-form:visible")
        notebook.run(
            "from blockrun_magic.notebook.extension import load\n"
            "form = load(get_ipython()).context.panel.generate\nform.offer.button.agreed = 1"
        )
        form.get_by_label("Prompt", exact=True).fill("a fox")
        form.get_by_role("button", name="Generate").click()

        expect(panel.locator(".brm-job").get_by_role("alert")).to_be_visible()
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.00")
        expect(form.get_by_role("button", name="Generate · $0.0525")).to_be_visible()


def test_a_batch_has_a_plan_with_its_sum(browser: Browser, lab: Server) -> None:
    """Checked models make a table with prices; the button says the sum, and all of them arrive."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = panel.locator(".brm-left .brm-form:visible")
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
    """Without a wallet the panel offers one; then it shows a QR code and waits for the first dollar."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        panel.get_by_role("button", name="Real money").click()
        expect(panel.locator(".brm-wallet")).to_contain_text("Create a wallet")
        panel.get_by_role("tab", name="Wallet").click()
        panel.get_by_role("button", name="Create a wallet").click()

        expect(panel.get_by_alt_text("QR code")).to_be_visible()
        expect(panel.locator(".brm-fund")).to_contain_text("Waiting for your first dollar")


def test_after_a_restart_the_panel_says_how_to_come_back(browser: Browser, lab: Server) -> None:
    """A dead panel does not look alive."""
    with open_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        notebook.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        notebook.page.get_by_role("menuitem", name=re.compile("^Restart Kernel…")).click()
        notebook.page.get_by_role("button", name="Confirm Kernel Restart").click()
        expect(panel).to_have_class(re.compile("jupyter-widgets-disconnected"))

        assert "Run its cell again" in panel.evaluate("it => getComputedStyle(it, '::before').content")


def test_two_tabs_show_the_same(browser: Browser, lab: Server) -> None:
    """A second page on the same kernel has the same words and the same image."""
    with open_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        generate(panel, "a fox")
        notebook.save()
        other = browser.new_page(viewport={"width": 1280, "height": 900})
        other.goto(notebook.page.url)
        twin = other.locator(".brm-panel")
        expect(twin.locator(".brm-stage").get_by_alt_text("a fox", exact=True)).to_be_visible()
        expect(twin.get_by_label("Prompt", exact=True).first).to_have_value("a fox")
        other.close()


def sent_by(page: Page) -> list[int]:
    """Return a list that grows by the bytes of each message that the page sends to its kernel."""
    sizes: list[int] = []

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: sizes.append(len(frame)))

    page.on("websocket", watch)
    return sizes


def test_a_click_is_small_and_so_is_the_saved_notebook(browser: Browser, lab: Server) -> None:
    """A press sends less than 2 kB; an open panel with an image adds less than 20 kB to the file, and no image."""
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


PAINTER = """import blockrun_magic
from PIL import Image, ImageDraw
source = Image.new("RGB", (400, 200), "black")
ImageDraw.Draw(source).rectangle((0, 0, 99, 199), fill="white")
pad = blockrun_magic.paint_mask(source)
pad"""


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_painters_tools_are_exact(browser: Browser, lab: Server, scale: float) -> None:
    """A stroke on the page marks the same part of the image, also at a device pixel ratio of 2."""
    with open_practice(browser, lab, scale=scale) as notebook:
        painter = output_of(notebook.run(PAINTER)).locator(".brm-maskpad")
        canvas, mouse = painter.locator("canvas"), notebook.page.mouse
        expect(painter.get_by_alt_text("The image")).to_be_visible()
        box = canvas.bounding_box()
        assert box is not None

        def drag(*points: tuple[float, float]) -> None:
            places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]
            mouse.move(*places[0])
            mouse.down()
            for place in places[1:]:
                mouse.move(*place, steps=4)
            mouse.up()

        painter.get_by_role("button", name="Paint a rectangle").click()
        drag((0.25, 0.25), (0.75, 0.75))
        left, top, right, bottom = json.loads(notebook.value("list(pad.mask.getbbox())").strip("'"))
        painter.get_by_role("button", name="Undo").click()
        painter.get_by_role("button", name="Paint inside a line").click()
        drag((0.5, 0.1), (0.9, 0.9), (0.1, 0.9))
        lasso = float(notebook.value("pad.painted_fraction"))
        painter.get_by_role("button", name="Clear the mask").click()
        painter.get_by_text("Select by brightness").click()
        painter.get_by_role("button", name="at least as bright").click()
        expect(painter.locator(".brm-maskpad-status")).to_contain_text("25.0% painted")

        assert all(
            abs(seen - wanted) <= 1
            for seen, wanted in zip((left, top, right, bottom), (100, 50, 300, 150), strict=True)
        )
        assert abs(0.32 - lasso) < 0.01
