"""The magics in a real kernel: outputs, variables, payments."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blockrun_magic.practice.server.server import PracticeServer
from harness.kernel import Kernel, made, paid_to

QUICK = "--model cogview --size 512x512"
"""Flags of the cheapest and fastest images, at $0.01575 each."""


def refused(kernel: Kernel, code: str, name: str) -> list[str]:
    """Return the two error lines of a cell that must fail with the error `name`."""
    cell = kernel.run(code)

    assert (name, 2) == (cell.error_name, len(cell.error)), cell
    return cell.error


def jpeg(output: dict[str, Any]) -> Image.Image:
    """Return the JPEG that an output embeds."""
    return Image.open(io.BytesIO(base64.b64decode(output["data"]["image/jpeg"])))


# -- outputs


def test_a_picture_is_shown_with_its_prompt_as_alternative_text_and_a_caption_below(kernel: Kernel) -> None:
    """A cell shows a small JPEG, and below it a caption with model, size, price and duration."""
    cell = made(kernel, f"%%imagegen {QUICK}\na red fox in fresh snow")

    picture, caption = cell.outputs
    about = picture["metadata"]["image/jpeg"]
    facts = caption["data"]["text/plain"].split(" · ")
    assert "a red fox in fresh snow" == about["alt"]
    assert (512, 512) == (about["width"], about["height"])
    assert (512, 512) == jpeg(picture).size
    assert len(picture["data"]["image/jpeg"]) < 120_000
    assert ["zai/cogview-4", "512x512", "$0.01575 play money"] == facts[:3]
    assert "PRACTICE" in caption["data"]["text/html"]
    assert "text/html" not in picture["data"]


def test_a_line_makes_a_picture_like_a_cell(kernel: Kernel) -> None:
    """A line magic gives the same image as a cell; its flags can be before, between and after the words."""
    body = made(kernel, f"%%imagegen {QUICK}\na quiet mountain lake")
    line = made(kernel, "%imagegen a quiet --model cogview mountain lake --size 512x512")

    assert body.pictures[0]["data"]["image/jpeg"] == line.pictures[0]["data"]["image/jpeg"]
    assert "$0.00: bought" in line.text


def test_several_images_are_shown_as_a_grid(kernel: Kernel) -> None:
    """-n 4 shows a grid of four images, numbered from 0, and a caption with the total price."""
    cell = made(kernel, f"%%imagegen {QUICK} -n 4 --as takes\na hot-air balloon at dawn")

    grid, caption = cell.outputs
    html = grid["data"]["text/html"]
    assert 4 == html.count("<img ")
    assert all(f"<b>{number}</b>" in html for number in range(4))
    assert len(html) < 4 * 61_000
    assert "4 x 512x512" in caption["data"]["text/plain"]
    assert "$0.063 play money" in caption["data"]["text/plain"]
    assert "(4, 4, True)" == kernel.value("len(takes), len(imgs), img is imgs[0]")


def test_quiet_shows_nothing_and_binds_all_the_same(kernel: Kernel) -> None:
    """--quiet shows no output and still binds the variables."""
    cell = made(kernel, f"%%imagegen {QUICK} --quiet --as silent\na sailboat in a bay, quietly")

    assert [] == cell.outputs
    assert "(512, 512)" == kernel.value("silent.size")
    assert "(512, 512)" == kernel.value("_.image.size")


def test_full_embeds_the_original(kernel: Kernel) -> None:
    """--full embeds the stored PNG instead of a preview."""
    cell = made(kernel, f"%%imagegen {QUICK} --full --save original.png\na lighthouse in full")

    [picture] = cell.pictures
    assert "image/jpeg" not in picture["data"]
    assert "a lighthouse in full" == picture["metadata"]["image/png"]["alt"]
    embedded = picture["data"]["image/png"].replace("\n", "")
    assert "True" == kernel.value(f"__import__('base64').b64encode(open('original.png', 'rb').read()) == b'{embedded}'")


def test_save_writes_the_original_and_says_where(kernel: Kernel, kernel_home: Path) -> None:
    """--save accepts a file or a folder, numbers several images, and the caption names each file."""
    one = made(kernel, f"%%imagegen {QUICK} --save out/one.png\na castle to be saved")
    made(kernel, f"%%imagegen {QUICK} --save out/one.jpg\na castle to be saved")
    folder = made(kernel, f"%%imagegen {QUICK} --save out/folder/\na castle to be saved")
    two = made(kernel, f"%%imagegen {QUICK} -n 2 --save ~/out/two.png\ntwo castles to be saved")

    assert "Saved to out/one.png" in one.text
    assert (kernel_home / "out/one.png").read_bytes().startswith(b"\x89PNG")
    assert (kernel_home / "out/one.jpg").read_bytes().startswith(b"\xff\xd8")
    assert 1 == len(list((kernel_home / "out/folder").glob("*.png")))
    assert "Saved to out/folder/" in folder.text
    assert {"two-1.png", "two-2.png"} == {path.name for path in (kernel_home / "out").glob("two*")}
    assert "two-2.png" in two.text


# -- variables


def test_the_picture_is_bound_under_its_names(kernel: Kernel) -> None:
    """A cell binds img, imgs, _ and the name of --as; img is a PIL image."""
    made(kernel, f"%%imagegen {QUICK} --as city\na futuristic city at sunset")

    assert "'ImageResult'" == kernel.value("type(_).__name__")
    assert "True" == kernel.value("isinstance(img, __import__('PIL.Image').Image.Image)")
    assert "('RGB', (512, 512), 1)" == kernel.value("(img.mode, img.size, len(imgs))")
    assert "True" == kernel.value("city is img and imgs[0] is img and _.image.tobytes() == city.tobytes()")


def test_drawing_on_the_picture_leaves_the_result_whole(kernel: Kernel) -> None:
    """A change to img does not change the result's image."""
    made(kernel, f"one = %imagegen {QUICK} an image to draw on")
    made(kernel, "img.paste('red', (0, 0, 512, 512))")

    assert "True" == kernel.value("one.image.getpixel((5, 5)) != (255, 0, 0)")


def test_an_assigned_magic_gives_the_result_and_shows_the_picture_once(kernel: Kernel) -> None:
    """`x = %imagegen ...` shows the image once and binds x to the result; evaluating x shows the image again."""
    assigned = made(kernel, f"x = %imagegen {QUICK} a robot in a meadow")
    again = made(kernel, "x")
    both = made(kernel, f"y = %imagegen {QUICK} a robot in a meadow of poppies\ny")

    assert 1 == len(assigned.pictures)
    assert 1 == len(again.pictures)
    assert 1 == len(both.pictures)
    assert "'ImageResult'" == kernel.value("type(x).__name__")
    assert "'0.015750 15750'" == kernel.value("f'{x.cost} {x.receipt.amount}'")
    assert "'a robot in a meadow'" == kernel.value("x.request['prompt']")


def test_a_result_shows_itself_wherever_it_is_displayed(kernel: Kernel) -> None:
    """display() shows the images of results, and other images."""
    made(kernel, f"a = %imagegen {QUICK} --quiet the first to display")
    made(kernel, f"b = %imagegen {QUICK} --quiet the second to display")
    cell = made(kernel, "display(a, b)\ndisplay(a.image.resize((8, 8)))")

    assert 3 == len(cell.pictures)


# -- money


def test_what_the_gateway_was_paid_is_what_spend_says(kernel: Kernel, gateway: PracticeServer) -> None:
    """The gateway's total and the total of `spend` agree to the micro-dollar."""
    made(kernel, f"%imagegen {QUICK} an image for the bill")
    total = paid_to(gateway.url)
    cell = made(kernel, "%blockrun spend")

    rows = [line.split() for line in cell.text.splitlines()]
    [said] = [row[2] for row in rows if row[:1] == ["total"]]
    assert f"{total / 1_000_000:f}".rstrip("0") == said.lstrip("$")
    assert total > 0


def test_the_same_cell_costs_nothing_the_second_time(kernel: Kernel, gateway: PracticeServer) -> None:
    """A repeated request is free; --fresh buys another take."""
    made(kernel, f"first = %imagegen {QUICK} --quiet an image bought once")
    before = paid_to(gateway.url)
    made(kernel, f"second = %imagegen {QUICK} --quiet an image bought once")
    between = paid_to(gateway.url)
    made(kernel, f"third = %imagegen {QUICK} --quiet --fresh an image bought once")

    assert before == between
    assert before + 15_750 == paid_to(gateway.url)
    assert "(0, True)" == kernel.value("(second.cost_micros, second.receipt.cached)")
    assert "True" == kernel.value("first.image.tobytes() == second.image.tobytes()")
    assert "(2, 15750)" == kernel.value("(third.receipt.take, third.cost_micros)")


def test_a_dry_run_says_the_price_and_signs_nothing(kernel: Kernel, gateway: PracticeServer) -> None:
    """--dry-run shows the price without an image and without a payment."""
    before = paid_to(gateway.url)
    cell = made(kernel, "%%imagegen --model flux -n 2 --dry-run\na image that is only dreamt of")

    assert before == paid_to(gateway.url)
    assert [] == cell.pictures
    assert "$0.084" in cell.text
    assert "[]" == kernel.value(
        "get_ipython().magics_manager.registry['BlockrunMagics'].session.studio.ledger.open_payments()"
    )


@pytest.mark.parametrize(
    ("flags", "amounts"),
    [
        (f"{QUICK} --max-price 0.01", ("$0.01575", "$0.01")),
        ("--model gpt-image-2.5-sunburst --size 1536x1024", ("$0.588", "$0.50")),
    ],
    ids=["max-price", "default-cap"],
)
def test_a_price_above_the_cap_is_refused_before_signing(
    kernel: Kernel, gateway: PracticeServer, flags: str, amounts: tuple[str, str]
) -> None:
    """A price above --max-price or above 50 cents an image is refused before signing, with a hint."""
    before = paid_to(gateway.url)
    what, to_do = refused(kernel, f"%%imagegen {flags}\na image too dear", "BudgetError")

    assert all(amount in what for amount in amounts)
    assert to_do.startswith("→ Nothing was signed. Allow")
    assert "--max-price $" in to_do
    assert before == paid_to(gateway.url)


# -- prompts


PROMPTS = (
    "braces {img} {{twice}} and {undefined_name!r}",
    "a sign that costs $5, $HOME and ${PATH}",
    "100% sure, %s and %(name)s, %%imagegen",
    """it's "quoted", 'both ways', `and` back\\slashed\\n""",
    "a fox 🦊 with family 👩‍👩‍👧‍👦 and a flag 🏳️‍🌈",
    "一只在雪地里的狐狸、水墨画",
    "قطة تحت ضوء القمر — עברית",
    "two lines\n  the second one indented\n\nand one after a gap",
    "-5 degrees - a dash -- and 50 % off",
    "<script>alert(1)</script> & <b>bold</b>",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_arrives_as_it_was_typed(kernel: Kernel, prompt: str) -> None:
    """The body of a cell is the prompt, character for character, without expansion."""
    cell = made(kernel, f"%%imagegen {QUICK}\n{prompt}\n")

    assert prompt == json.loads(kernel.run("print(__import__('json').dumps(_.request['prompt']))").text)
    assert prompt == cell.pictures[0]["metadata"]["image/jpeg"]["alt"]


@pytest.mark.parametrize("prompt", [prompt for prompt in PROMPTS if "\n" not in prompt and " -- " not in prompt])
def test_a_prompt_on_one_line_is_not_expanded_either(kernel: Kernel, prompt: str) -> None:
    """On one line, braces, dollars, percent signs and quotes in the prompt are literal."""
    made(kernel, f"line = %imagegen {QUICK} --quiet {prompt}")

    assert prompt == json.loads(kernel.run("print(__import__('json').dumps(line.request['prompt']))").text)


def test_words_from_outside_cannot_become_html(kernel: Kernel) -> None:
    """Scripts in a prompt and in a revised prompt are escaped."""
    cell = made(kernel, f"%%imagegen {QUICK}\n<script>alert('prompt')</script> practice:script")

    assert "The model read: <script>alert(1)</script>" in cell.text
    assert "<script" not in cell.html
    assert "The model read: &lt;script&gt;alert(1)&lt;/script&gt;" in cell.html


@pytest.mark.parametrize(
    "code",
    [
        "%%imagegen --model <script>alert(1)</script>\na cat",
        "%blockrun <script>alert(1)</script>",
        "%blockrun models <script>alert(1)</script>",
        "%%img2img --image <script>alert(1)</script>\na cat",
    ],
)
def test_words_on_the_line_cannot_become_html_either(kernel: Kernel, code: str) -> None:
    """Wrong input is escaped in errors and tables."""
    cell = kernel.run(code)

    assert "<script" not in cell.html
    assert cell.error or cell.outputs


# -- sources


def request_of(kernel: Kernel) -> dict[str, Any]:
    """Return the request of the result in `_`."""
    request: dict[str, Any] = json.loads(kernel.run("print(__import__('json').dumps(dict(_.request)))").text)
    return request


@pytest.fixture(scope="module")
def photo(kernel: Kernel, kernel_home: Path) -> Path:
    """Return a small PNG in the kernel's home; `photo` in the kernel is the same image."""
    path = kernel_home / "photo.png"
    picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    picture.save(path)
    made(kernel, "from PIL import Image as I; import numpy, pathlib; photo = I.open('photo.png').convert('RGB')")
    return path


SOURCES = {
    "path": "photo.png",
    "path-from-home": "~/photo.png",
    "variable": "photo",
    "path-object": "the_path",
    "bytes": "some_bytes",
    "array": "an_array",
    "gray-array": "grey_array",
    "float-array": "float_array",
    "palette": "palette",
    "transparent": "transparent",
    "one-bit": "one_bit",
    "cmyk": "cmyk",
    "sixteen-bit": "sixteen_bit",
    "list-item": "several[1]",
    "result": "a_result",
    "last-result": "_",
    "last-picture": "img",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_an_edit_takes_whatever_holds_a_picture(kernel: Kernel, photo: Path, source: str) -> None:
    """--image accepts paths, PIL images of any mode, arrays, bytes, Path objects, results, `_` and `img`."""
    made(
        kernel,
        "the_path, some_bytes = pathlib.Path('photo.png'), open('photo.png', 'rb').read()\n"
        "an_array, grey_array = numpy.asarray(photo), numpy.asarray(photo.convert('L'))\n"
        "float_array = an_array / 255.0\n"
        "palette, transparent, one_bit = photo.quantize(16), photo.convert('RGBA'), photo.convert('1')\n"
        "cmyk, sixteen_bit = photo.convert('CMYK'), photo.convert('L').convert('I;16')\n"
        "several = [photo, photo.rotate(180)]",
    )
    made(kernel, f"a_result = %imagegen {QUICK} a source for editing")
    made(kernel, "a_result")
    cell = made(kernel, f"%%img2img --image {source} --model gpt-image-1\nmake it snow on {source}")

    request = request_of(kernel)
    assert "/v1/images/image2image" == request["endpoint"]
    assert 1 == len(request["image"])
    assert 1 == len(cell.pictures)


def test_a_file_is_sent_byte_for_byte(kernel: Kernel, photo: Path) -> None:
    """A PNG file is sent unchanged: the request has the file's hash."""
    made(kernel, "%%img2img --image photo.png\nthe same bytes")

    digest = kernel.value("__import__('hashlib').sha256(open('photo.png', 'rb').read()).hexdigest()").strip("'")
    assert [f"sha256:{digest}"] == request_of(kernel)["image"]


def test_a_url_and_a_data_uri_are_fetched_and_read(kernel: Kernel, photo: Path) -> None:
    """--image accepts an HTTP URL and a data URI; the same bytes give the same request."""
    made(
        kernel,
        "import http.server, threading, functools\n"
        "handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory='.')\n"
        "handler.func.log_message = lambda *_: None\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()",
    )
    port = kernel.value("server.server_port")
    made(kernel, f"%%img2img --image http://127.0.0.1:{port}/photo.png\nfrom a web server")
    by_url = request_of(kernel)["image"]
    uri = f"data:image/png;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    made(kernel, f"%%img2img --image {uri}\nfrom a data URI")
    by_uri = request_of(kernel)["image"]
    missing = refused(kernel, f"%%img2img --image http://127.0.0.1:{port}/none.png\nnot there", "SourceError")
    made(kernel, "server.shutdown(); server.server_close()")

    assert by_url == by_uri
    assert "answered 404" in missing[0]


def test_a_mask_decides_where_the_picture_changes(kernel: Kernel) -> None:
    """Pixels under the black part of the mask stay; pixels under the white part change."""
    made(kernel, f"%imagegen {QUICK} --as base --quiet a castle by a lake at sunset")
    made(
        kernel,
        "from PIL import Image, ImageChops\n"
        "mask = Image.new('L', base.size)\n"
        "mask.paste(255, (0, 0, 512, 200))\n"
        "source = base.resize((1024, 1024), Image.Resampling.LANCZOS)",
    )
    made(kernel, "%%img2img --image base --mask mask --as edited\nreplace the sky with an aurora")

    assert "None" == kernel.value("ImageChops.difference(source, edited).crop((0, 400, 1024, 1024)).getbbox()")
    assert "True" == kernel.value("bool(ImageChops.difference(source, edited).crop((0, 0, 1024, 400)).getbbox())")
    assert "True" == kernel.value("_.request['mask'] is not None")


def test_an_edit_without_a_picture_says_how_to_give_one(kernel: Kernel) -> None:
    """%%img2img without --image, or with an unknown name, gives an error with a hint."""
    assert "--image" in refused(kernel, "%%img2img\nmake it snow", "FlagError")[1]
    assert "photo.png" in refused(kernel, "%%img2img --image photo.jpg\nmake it snow", "SourceError")[1]


# -- mistakes


@pytest.mark.parametrize(
    ("code", "name", "advice"),
    [
        ("%%imagegen --modle flux\na cat", "FlagError", "--model"),
        ("%%imagegen --model fluxx\na cat", "RequestError", "flux"),
        ("%%imagegen --model flux --size 1000x1000\na cat", "RequestError", "1024x1024"),
        ("%%imagegen --quality hd\na cat", "RequestError", "--quality"),
        ("%%imagegen -n 99\na cat", "FlagError", "-n"),
        ("%%imagegen --model flux\n\n", "", ""),
        ("%imagegen", "FlagError", "prompt"),
        ("%blockrun spent", "UsageError", "spend"),
        ("%blockrun use pratice", "UsageError", "practice"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(kernel: Kernel, code: str, name: str, advice: str) -> None:
    """Every mistake is an error; except for an empty body, the test checks its two lines and its correction."""
    cell = kernel.run(code)

    assert "error" == cell.status
    if name:
        assert (name, 2) == (cell.error_name, len(cell.error)), cell.error
        assert advice in cell.error[1] or advice in cell.error[0]
    made(kernel, "%blockrun use practice")  # after an unknown gateway, no other gateway is selected


# -- spend


def test_spend_draws_the_models_and_writes_a_table(kernel: Kernel, tmp_path: Path) -> None:
    """`spend` shows bars with inline styles, and `--csv` writes every payment to a new file only."""
    for model in ("cogview", "grok"):
        made(kernel, f"%imagegen --model {model} --size {'512x512' if model == 'cogview' else '1024x1024'} a drawn fox")
    drawn = made(kernel, "%blockrun spend")
    path = tmp_path / "spend.csv"
    written = made(kernel, f"%blockrun spend --csv {path}")
    again = kernel.run(f"%blockrun spend --csv {path}")
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))

    assert "black-forest" in drawn.text or "zai/cogview-4" in drawn.text
    assert "background:#5b8def" in drawn.html
    assert "<script" not in drawn.html
    assert {"zai/cogview-4", "xai/grok-imagine-image"} <= {row["model"] for row in rows}
    assert str(len(rows)) in written.text
    assert 2 == len(again.error)
