"""The panel in a real browser: mouse actions in JupyterLab and Voilà."""

from __future__ import annotations

import re
import shutil
from itertools import product
from pathlib import Path

from PIL import Image, ImageChops
from playwright.sync_api import Browser, Locator, expect

from harness import ROOT
from harness.browser import (
    THEMES,
    Notebook,
    choose_theme,
    open_app,
    open_in_notebook7,
    open_practice,
    output_of,
    share_practice,
)
from harness.contrast import LEGIBLE, least_contrast
from harness.jupyter import Server
from harness.panel import form_of, in_view, open_panel

APP = ROOT / "notebooks" / "panel-app.ipynb"


def unfold(form: Locator, title: str = "Prompts, name, flags") -> None:
    """Open a section of the form."""
    form.get_by_text(title, exact=True).click()
    expect(form.get_by_text(title, exact=True)).to_be_visible()


def choose(form: Locator, model: str) -> None:
    """Choose the model whose menu entry contains `model`."""
    models = form.get_by_label("Model")
    models.select_option(label=models.locator("option", has_text=model).inner_text())


def drag(place: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse between two points of an element, given as fractions of its width and height."""
    place.scroll_into_view_if_needed()
    box = place.bounding_box()

    assert box is not None
    (x, y), (to_x, to_y) = ((box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end))
    mouse = place.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(to_x, to_y, steps=12)
    mouse.up()


def choose_small(form: Locator) -> None:
    """Choose the smallest and fastest images, at $0.021 each."""
    choose(form, "dall-e-2 ·")
    form.get_by_label("Size").select_option("256x256")
    expect(form.locator(".brm-price")).to_have_text("$0.021 play money")


def picture_of(panel: Locator, prompt: str) -> Locator:
    """Wait for the large image of `prompt`, and return it."""
    picture = panel.locator(".brm-stage").get_by_alt_text(prompt, exact=True).first
    expect(picture).to_be_visible()
    return picture


def thumbs(panel: Locator) -> Locator:
    """Open the gallery tab, and return its thumbnails."""
    panel.get_by_role("tab", name="Gallery").click()
    return panel.locator(".brm-thumb")


def widgets_alive(notebook: Notebook) -> int:
    """Return the number of widgets in the kernel."""
    return int(notebook.value("len(__import__('ipywidgets').widgets.widget._instances)"))


def test_a_person_makes_pictures_with_the_mouse(browser: Browser, lab: Server) -> None:
    """A prompt, a size and a click give two images at the shown price, in the gallery and in the variable."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        form.get_by_label("Prompt").fill("a city at sunset")
        choose_small(form)
        form.get_by_label("Images").fill("2")
        unfold(form)
        form.get_by_label("Variable").fill("city")
        form.get_by_label("Variable").press("Tab")
        expect(form.locator(".brm-price")).to_have_text("2 x $0.021 = $0.042 play money")
        form.get_by_role("button", name="Generate · $0.042").click()
        picture_of(panel, "a city at sunset")

        expect(thumbs(panel)).to_have_count(2)
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.042 play money of $5.00")
        assert "[(256, 256), (256, 256)]" == notebook.value("[image.size for image in city]")


def test_notebook_7_has_pictures_panel_and_painter(browser: Browser, lab: Server) -> None:
    """In Notebook 7, a cell's image, Shift-Enter in the panel and a painted mask work."""
    with open_in_notebook7(browser, lab) as notebook:
        notebook.run("%load_ext blockrun_magic\n%blockrun use practice")
        made = output_of(notebook.run("%%imagegen --model cogview --size 512x512 --as city\na city at sunset"))
        expect(made).to_contain_text("zai/cogview-4 · 512x512 · $0.01575 play money")
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a fox")
        notebook.page.keyboard.press("Shift+Enter")

        assert in_view(picture_of(panel, "a fox"))
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.03675 play money of $5.00")
        painter = output_of(notebook.run("import blockrun_magic\nmask = blockrun_magic.paint_mask(img)\nmask"))
        canvas = painter.locator("canvas").first
        expect(canvas).to_be_visible()
        drag(canvas, (0.3, 0.5), (0.7, 0.5))
        assert "True" == notebook.value("mask.mask.getbbox() is not None")


def test_shift_enter_generates_and_a_double_click_pays_once(browser: Browser, lab: Server) -> None:
    """Shift-Enter in the prompt starts one purchase and runs no cell; a double click counts once."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        notebook.type("1 + 1")  # in the notebook's edit mode, Shift-Enter runs a cell
        form.get_by_label("Prompt").fill("a fox")
        before = notebook.cells.count()
        notebook.page.keyboard.press("Shift+Enter")
        picture_of(panel, "a fox")
        form.get_by_label("Prompt").fill("a crane")
        form.get_by_role("button", name="Generate").dblclick()
        picture_of(panel, "a crane")

        assert before == notebook.cells.count()
        expect(panel.locator(".brm-job")).to_have_count(0)
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.042 play money")
        expect(thumbs(panel)).to_have_count(2)


def test_every_press_is_a_new_take(browser: Browser, lab: Server) -> None:
    """A second click on the same form buys another image; an equal cell shows the first one."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        picture_of(panel, "a fox")
        first = notebook.value("img.tobytes()[:3000].hex()")
        panel.page.wait_for_timeout(700)  # longer than a double click
        form.get_by_role("button", name="Generate").click()
        expect(thumbs(panel)).to_have_count(2)
        second = notebook.value("img.tobytes()[:3000].hex()")
        notebook.run("%%imagegen --model dall-e-2 --size 256x256\na fox")

        assert first != second
        assert first == notebook.value("img.tobytes()[:3000].hex()")


def test_what_cells_do_shows_in_the_panel(browser: Browser, lab: Server) -> None:
    """Cells and the panel share spending, gallery and limits, and the panel lists the cells' variables."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        notebook.run("%%imagegen --model dall-e-2 --size 256x256 --as fox\na fox")
        picture_of(panel, "a fox")
        notebook.run("%blockrun budget --session 1")

        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.021 play money of $1.00")
        panel.get_by_role("tab", name="Edit").click()
        expect(form_of(panel).get_by_label("Variable").first.locator("option")).to_have_text(["choose …", "fox", "img"])


def test_a_cap_is_said_in_the_panel_and_nothing_is_spent(browser: Browser, lab: Server) -> None:
    """An image above the limit is refused in two lines in the panel, and nothing is paid."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        cell = notebook.run("%blockrun budget --session 0.01")
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        said = panel.get_by_role("alert")
        expect(said).to_contain_text("$0.021")

        assert 2 == len(said.inner_text().splitlines())
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.00 play money of $0.01")
        assert "Traceback" not in output_of(cell).inner_text()
        panel.get_by_role("button", name="Dismiss").click()
        expect(panel.get_by_role("alert")).to_have_count(0)


def test_a_slow_job_can_be_cancelled_and_another_goes_on(browser: Browser, lab: Server) -> None:
    """Several images are made concurrently; a cancelled job reports the money."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a snail practice:slow=600")
        form.get_by_role("button", name="Generate").click()
        expect(panel.locator(".brm-job")).to_contain_text(re.compile(r"a snail.*\$0\.021 play money.*[2-9] s"))
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        picture_of(panel, "a fox")
        panel.locator(".brm-job").get_by_role("button", name="Cancel").click()

        expect(panel.locator(".brm-job .brm-notice")).to_contain_text("$0.021 play money")
        expect(panel.locator(".brm-bars")).to_contain_text("$0.021 at risk")


def test_the_panel_works_while_a_cell_runs(browser: Browser, lab: Server) -> None:
    """A click during a running cell makes its image before the cell ends."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        cell = notebook.start("import pathlib, time\nwhile not pathlib.Path('end').exists(): time.sleep(0.1)")
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        picture_of(panel, "a fox")

        expect(cell.locator(".jp-InputPrompt")).to_have_text("[*]:")
        (notebook.folder / "end").touch()
        notebook.finish(cell)
        assert "(256, 256)" == notebook.value("img.size")


def test_the_flags_line_has_the_last_word(browser: Browser, lab: Server) -> None:
    """Typed flags override the form, change the price and the cell, and mistakes appear immediately."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        unfold(form)
        flags = form.get_by_label("Flags")
        form.get_by_label("Prompt").fill("a fox")
        flags.fill("--model flux -n 3")
        flags.press("Enter")
        expect(form.locator(".brm-price")).to_have_text("3 x $0.042 = $0.126 play money")
        form.get_by_text("The same as a cell").click()
        expect(form.locator(".brm-code").first).to_have_text("%%imagegen --model flux -n 3\na fox")
        flags.fill("--modle flux")
        flags.press("Enter")

        expect(form.get_by_role("alert")).to_contain_text("--model")
        flags.fill("--max-price 0.01")
        flags.press("Enter")
        form.get_by_role("button", name="Generate").click()
        expect(panel.locator(".brm-job").get_by_role("alert")).to_contain_text("$0.01")


def test_a_picture_of_the_gallery_can_be_copied_saved_and_looked_into(browser: Browser, lab: Server) -> None:
    """A copied cell costs nothing, a saved file is the original, and the receipt opens."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        picture_of(panel, "a fox")
        panel.get_by_role("button", name="Copy as cell").click()
        text = panel.locator(".brm-detail .brm-code").inner_text()
        assert "%%imagegen --model dall-e-2 --size 256x256\na fox" == text
        expect(output_of(notebook.run(text))).to_contain_text("$0.00")
        panel.get_by_role("button", name="Save").click()
        expect(panel.locator(".brm-images .brm-notice").first).to_contain_text("dall-e-2-")
        [saved] = notebook.folder.glob("dall-e-2-*.png")
        with Image.open(saved) as image:
            assert (256, 256) == image.size
        panel.get_by_role("button", name="Receipt").click()
        expect(panel.locator(".brm-detail")).to_contain_text("transaction")


def test_showing_it_again_and_closing_it_leak_nothing(browser: Browser, lab: Server) -> None:
    """The cell shows the same panel a second time; closing removes all its widgets."""
    with share_practice(browser, lab) as notebook:
        notebook.run("import ipywidgets, blockrun_magic")
        before = widgets_alive(notebook)
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        picture_of(panel, "a fox")
        open_now = widgets_alive(notebook)
        again = output_of(notebook.run("blockrun_magic.panel()")).locator(".brm-panel")
        expect(again.get_by_label("Prompt").first).to_have_value("a fox")

        assert open_now == widgets_alive(notebook)
        notebook.run("blockrun_magic.panel().close()")
        expect(notebook.page.locator(".brm-panel")).to_have_count(0)
        left = notebook.value("[type(w).__name__ for w in ipywidgets.widgets.widget._instances.values()]")
        assert before == widgets_alive(notebook), left


def test_a_picture_is_uploaded_painted_over_and_edited(browser: Browser, lab: Server, tmp_path: Path) -> None:
    """A file is uploaded, a mask is painted with the mouse, and only the painted area changes."""
    source = Image.effect_noise((1024, 1024), 60).convert("RGB")
    source.save(tmp_path / "noise.png")
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        panel.get_by_role("tab", name="Edit").click()
        form = form_of(panel)
        with notebook.page.expect_file_chooser() as chooser:
            form.get_by_role("button", name="Upload or drop").click()
        chooser.value.set_files(tmp_path / "noise.png")
        expect(form.locator(".brm-sources")).to_contain_text("noise.png")
        form.get_by_label("Mask").select_option("paint it here")
        form.get_by_role("button", name="Edit ·").click()
        expect(form.get_by_role("alert")).to_be_visible()
        form.get_by_label("Prompt").fill("a red balloon")
        drag(panel.locator(".brm-maskpad canvas").last, (0.4, 0.4), (0.6, 0.6))
        form.get_by_role("button", name="Edit · $0.063").click()
        picture_of(panel, "a red balloon")
        notebook.run("img.save('edited.png')")
        with Image.open(notebook.folder / "edited.png") as image:
            edited = image.convert("RGB")

    assert (1024, 1024) == edited.size
    changed = ImageChops.difference(source, edited).convert("L").point(lambda level: 255 if level else 0)
    changed.paste(0, (700, 900, 1024, 1024))  # area of the PRACTICE stamp
    left, top, right, bottom = changed.getbbox() or (0, 0, 0, 0)
    assert 300 < left < right < 724
    assert 300 < top < bottom < 724
    assert 20_000 < changed.histogram()[255]


def test_a_mask_comes_from_a_file_or_a_variable_and_must_fit(browser: Browser, lab: Server, tmp_path: Path) -> None:
    """An uploaded mask works; a mask of another size is refused, and nothing is paid for it."""
    Image.new("L", (256, 256), 255).save(tmp_path / "white.png")
    with share_practice(browser, lab) as notebook:
        notebook.run(
            "from PIL import Image\ncat = Image.new('RGB', (256, 256), 'red')\nsmall = Image.new('L', (8, 5), 255)"
        )
        panel = open_panel(notebook)
        panel.get_by_role("tab", name="Edit").click()
        form = form_of(panel)
        form.get_by_label("Variable").first.select_option("cat")
        expect(form.locator(".brm-source")).to_have_count(1)
        form.get_by_label("Prompt").fill("a red balloon")
        form.get_by_label("Mask").select_option("small")
        form.get_by_role("button", name="Edit ·").click()
        expect(panel.locator(".brm-job").get_by_role("alert")).to_contain_text("8 x 5")
        panel.get_by_role("button", name="Dismiss").click()
        form.get_by_label("Mask").select_option("upload one")
        form.get_by_role("button", name="Edit ·").click()
        expect(form.get_by_role("alert")).to_be_visible()
        with notebook.page.expect_file_chooser() as chooser:
            form.get_by_role("button", name="Upload the mask").click()
        chooser.value.set_files(tmp_path / "white.png")
        expect(form.get_by_role("button", name="Upload the mask (1)")).to_be_visible()
        form.get_by_role("button", name="Edit ·").click()
        picture_of(panel, "a red balloon")

        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.063 play money")


def test_a_file_is_dropped_and_a_mask_that_is_empty_costs_nothing(browser: Browser, lab: Server) -> None:
    """A dropped file is a source; an empty mask is refused, and nothing is paid."""
    with share_practice(browser, lab) as notebook:
        panel = open_panel(notebook)
        panel.get_by_role("tab", name="Edit").click()
        form = form_of(panel)
        drop = """async zone => {
            const canvas = new OffscreenCanvas(64, 48);
            canvas.getContext("2d").fillRect(0, 0, 64, 48);
            const files = new DataTransfer();
            files.items.add(new File([await canvas.convertToBlob()], "dropped.png", { type: "image/png" }));
            zone.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: files }));
        }"""
        form.locator(".brm-drop").evaluate(drop)
        expect(form.locator(".brm-sources")).to_contain_text("64 x 48")
        form.get_by_label("Mask").select_option("paint it here")
        expect(panel.locator(".brm-maskpad canvas").last).to_be_visible()
        form.get_by_label("Prompt").fill("a red balloon")
        form.get_by_role("button", name="Edit ·").click()

        expect(panel.locator(".brm-job").get_by_role("alert")).to_be_visible()
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.00 play money")


def test_sources_come_from_variables_paths_and_the_gallery_up_to_the_limit(browser: Browser, lab: Server) -> None:
    """Sources are added up to the model's limit; an unreadable path gives an error."""
    with share_practice(browser, lab) as notebook:
        notebook.run("from PIL import Image\ncat = Image.new('RGB', (64, 64), 'red')\ncat.save('cat.png')")
        panel = open_panel(notebook)
        panel.get_by_role("tab", name="Edit").click()
        form = form_of(panel)
        choose(form, "nano-banana ·")
        form.get_by_label("Variable").first.select_option("cat")
        expect(form.locator(".brm-source")).to_have_count(1)
        for place in ("cat.png", "no.png", "cat.png", "cat.png"):
            form.get_by_label("Path or URL").fill(place)
            form.get_by_label("Path or URL").press("Enter")
            expect(form.get_by_label("Path or URL")).to_have_value("")
            if place == "no.png":
                expect(form.get_by_role("alert")).to_contain_text("no.png")
        expect(form.get_by_role("alert")).to_contain_text("3")
        expect(form.locator(".brm-source")).to_have_count(3)
        expect(form.get_by_label("Mask")).to_be_hidden()
        form.get_by_label("Prompt").fill("the same thrice")
        form.get_by_role("button", name="Edit ·").click()
        picture_of(panel, "the same thrice")
        panel.get_by_role("button", name="Use as source").click()

        expect(form.locator(".brm-source")).to_have_count(1)
        expect(form.locator(".brm-sources")).to_contain_text("from the gallery")


def test_it_is_legible_and_fits_into_420_pixels(browser: Browser, lab: Server) -> None:
    """All text is legible in both themes, every input has a name, and nothing exceeds the width."""
    with open_practice(browser, lab, width=520) as notebook:
        panel = open_panel(notebook)
        form = form_of(panel)
        choose_small(form)
        form.get_by_label("Prompt").fill("a fox")
        form.get_by_role("button", name="Generate").click()
        picture_of(panel, "a fox")
        panel.evaluate("panel => { panel.style.width = '420px'; panel.style.minWidth = '420px' }")
        for tab, theme in product(("Edit", "Generate"), THEMES):
            choose_theme(notebook, theme)
            panel.get_by_role("tab", name=tab).click()
            unnamed = "all => all.filter(it => it.offsetParent && !it.labels?.length && !it.textContent.trim()).length"
            wide = (
                "panel => [...panel.querySelectorAll('*')].filter(it => it.offsetParent && it.scrollWidth > 421).length"
            )

            assert LEGIBLE <= least_contrast(panel)[0], least_contrast(panel)
            assert 0 == panel.locator("input:not([type=file]), select, textarea, button").evaluate_all(unnamed)
            assert 0 == panel.evaluate(wide)


def test_the_app_page_works_in_voila(browser: Browser, voila: Server) -> None:
    """The app notebook shows only the panel, which makes an image."""
    copy = voila.folder / "app" / APP.name
    copy.parent.mkdir()
    shutil.copy(APP, copy)
    with open_app(browser, voila, copy) as page:
        panel = page.locator(".brm-panel")
        choose_small(form_of(panel))
        form_of(panel).get_by_label("Prompt").fill("a fox")
        form_of(panel).get_by_role("button", name="Generate").click()

        assert in_view(picture_of(panel, "a fox"))
        expect(panel.locator(".brm-bars")).to_contain_text("This session: $0.021 play money")
