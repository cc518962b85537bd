"""Cells as users write them, in different places, with the correct result in a real kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.kernel import Cell, Kernel, made, paid_to, running_kernel

SMALL = "-m cogview -s 512x512"
OPEN = "get_ipython().magics_manager.registry['BlockrunMagics'].session.studio.ledger.open_payments()"
PRICE = 15_750


def kinds(cell: Cell, kind: str) -> list[set[str]]:
    """Return the media types of each message of one kind, in order."""
    return [set(content.get("data", {})) for content in cell.of_type(kind)]


def images(cell: Cell) -> int:
    """Return the number of displays and updates with an image."""
    displays = [*cell.of_type("display_data"), *cell.of_type("update_display_data")]
    return sum("image/jpeg" in each["data"] or "<img " in each["data"].get("text/html", "") for each in displays)


# -- Output widgets


@pytest.mark.parametrize(
    ("setup", "call"),
    [
        ("with widgets.Output():\n    %imagegen {line}", ""),
        ("@widgets.Output().capture()\ndef go():\n    %imagegen {line}", "go()"),
        ("def go(n):\n    %imagegen {line}", "widgets.interact(go, n=widgets.fixed(1));"),
        ("with widgets.Output():\n    %imagegen {line} -n 2", ""),
        ("with widgets.Output():\n    %imagegen {line} --as x -m cogview,flux".replace("{line}", "{prompt}"), ""),
    ],
    ids=["with", "capture", "interact", "several", "batch"],
)
def test_an_output_widget_gets_the_image_once(kernel: Kernel, setup: str, call: str) -> None:
    """Output widgets ignore display updates, so the image is a new display without a waiting line."""
    made(kernel, "import ipywidgets as widgets")
    prompt = f"practice:slow=1 a boat {abs(hash(setup))}"
    code = setup.replace("{line}", f"{SMALL} {prompt}").replace("{prompt}", f"-s 1024x1024 {prompt}")

    cell = made(kernel, f"{code}\n{call}")

    assert 1 == images(cell)
    assert [] == cell.of_type("update_display_data")
    assert 2 == len([data for data in kinds(cell, "display_data") if not any("widget" in kind for kind in data)])


def test_stop_inside_an_output_widget_leaves_no_waiting_line(kernel: Kernel) -> None:
    """A failed cell in an Output widget shows no image and no update."""
    made(kernel, "import ipywidgets as widgets")
    cell = kernel.run("with widgets.Output():\n    %imagegen practice:403 nothing " + SMALL)

    assert [] == cell.of_type("update_display_data")
    assert 0 == images(cell)


def test_a_captured_cell_has_one_image(kernel: Kernel) -> None:
    """`%%capture` records one image and no waiting line."""
    made(kernel, f"%%capture taken\n%imagegen practice:slow=1 a captured boat {SMALL}")

    assert "1" == kernel.value("sum('image/jpeg' in output.data for output in taken.outputs)")


# -- questions


@pytest.mark.parametrize(
    ("code", "prompt"),
    [
        (f"%imagegen {SMALL} who goes there?", "who goes there?"),
        (f"_r = %imagegen {SMALL} is this a cat?", "is this a cat?"),
        (f"if True:\n    %imagegen {SMALL} who's that?", "who's that?"),
        (f"%imagegen {SMALL} really??\nafter = 'ran'", "really??"),
        (f"%time %imagegen {SMALL} when is it?", "when is it?"),
        (f"imagegen {SMALL} is this automagic?", "is this automagic?"),
    ],
)
def test_a_prompt_keeps_its_question_mark(kernel: Kernel, code: str, prompt: str) -> None:
    """A line with a final question mark is a prompt and not IPython's help; the rest of the cell runs."""
    made(kernel, "after = None")
    cell = made(kernel, code)

    assert 1 == len(cell.pictures)
    assert prompt in str(cell.pictures[0]["metadata"])
    if "after" in code:
        assert "'ran'" == kernel.value("after")


def test_a_question_mark_alone_is_help(kernel: Kernel) -> None:
    """`%imagegen?` shows the flags."""
    reply = kernel._client.execute("%imagegen?", reply=True, timeout=PATIENCE)["content"]

    assert "--model" in str(reply["payload"])


def test_a_comment_may_stand_above_a_cell_magic(kernel: Kernel) -> None:
    """Comments above a cell magic, as Colab writes them, are accepted."""
    cell = made(kernel, f"\n# @title A kite\n# red\n%%imagegen {SMALL}\na kite under a title")

    assert 1 == len(cell.pictures)


def test_a_variable_in_braces_that_is_not_filled_in_is_named(kernel: Kernel) -> None:
    """The output suggests --fill if a name in braces is a variable of the notebook."""
    made(kernel, "nested = 'fox'")

    assert "--fill" in made(kernel, f"%imagegen {SMALL} a {{nested}} one").text
    assert "--fill" not in made(kernel, f"%imagegen {SMALL} an {{unnamed}} one").text


# -- variables of a function


def test_a_function_sees_its_own_variables_first(kernel: Kernel) -> None:
    """--image and --fill read the function's variables first, then the notebook's."""
    made(kernel, "from PIL import Image; pic = 'not an image'; color = 'red'; place = 'sea'")
    made(
        kernel,
        "def edit(pic, color):\n"
        "    r = %img2img --image pic --fill make it {color} by the {place}\n"
        "    return r\n"
        "r = edit(Image.new('RGB', (64, 64)), 'blue')",
    )

    assert "'make it blue by the sea'" == kernel.value("r.prompt")


def test_a_function_sees_the_variables_of_the_functions_around_it(kernel: Kernel) -> None:
    """--fill finds variables of enclosing functions, even if the inner function does not use them."""
    made(
        kernel,
        "def around(animal):\n"
        "    def inner():\n"
        f"        r = %imagegen {SMALL} --fill a {{animal}}\n"
        "        return r\n"
        "    return [inner() for _ in range(1)]\n"
        "[r] = around('nested horse')",
    )

    assert "'a nested horse'" == kernel.value("r.prompt")


# -- flags from phones, bodies and other tools


@pytest.mark.parametrize(
    "code",
    [
        "%%imagegen\na cat --help",
        "%imagegen a kite \u2014size 1216x832",
        "%imagegen a kite --save \u201cmy kite.png\u201d",
        "%%imagegen\n--model flux\na cat",
        "%%imagegen\na cat --size 1216x832",
        "%%imagegen\na cat --ar 16:9 --v 6",
        "%%imagegen --each\na cat --ar 16:9\na dog",
        "%imagegen a cat --seed 42",
        "%%imagegen --steps 30\na cat",
    ],
)
def test_a_flag_in_the_wrong_place_is_not_bought(kernel: Kernel, gateway: PracticeServer, code: str) -> None:
    """A misplaced or unknown flag is an error in two lines, and nothing is paid."""
    before = paid_to(gateway.url)
    cell = kernel.run(code)

    assert ("FlagError", 2) == (cell.error_name, len(cell.error)), cell.error
    assert before == paid_to(gateway.url)


def test_prompts_from_elsewhere_are_checked_too(kernel: Kernel) -> None:
    """Prompts from a list with Midjourney flags are refused."""
    made(kernel, "lines = ['a cat', 'a dog --ar 16:9']")

    assert "FlagError" == kernel.run("%imagegen --prompts lines").error_name


@pytest.mark.parametrize(
    "code", ["%%imagegen --help", "%%imagegen -h\na cat", "%imagegen --help", "%img2img -h", "%%imagegen\n--help"]
)
def test_help_is_shown(kernel: Kernel, gateway: PracticeServer, code: str) -> None:
    """--help and -h show the flags, and nothing is paid."""
    before = paid_to(gateway.url)
    cell = made(kernel, code)

    assert "--model" in cell.text
    assert before == paid_to(gateway.url)


# -- comparison


def test_two_things_that_vary_make_a_table(kernel: Kernel) -> None:
    """Models and sizes form the labeled axes of a grid whose images have the numbers of the results."""
    cell = made(kernel, "r = %imagegen -m cogview,flux -s square,16:9 a red fox")
    html = cell.pictures[0]["data"]["text/html"]

    assert 4 == html.count("<img ")
    assert 5 == html.count("<th ")
    assert ["0", "1", "2", "3"] == re.findall(r"<b>(\d)</b>", html)
    assert "'black-forest/flux-1.1-pro'" == kernel.value("r[2].request['model']")
    assert all(len(uri) < 60_000 for uri in re.findall(r'src="([^"]+)"', html))
    assert "1360x768" in cell.text
    assert "1216x832" in cell.text


def test_the_images_of_one_request_are_numbered_like_the_grid(kernel: Kernel) -> None:
    """`results[2]` is image number 2, also if one request made all images."""
    made(kernel, f"four = %imagegen -n 4 {SMALL} four numbered foxes")

    assert "(4, True)" == kernel.value("len(four), four[2] is four.images[2]")
    made(kernel, "%img2img --image four[3] --dry-run in snow")


def test_a_failed_image_keeps_its_place(kernel: Kernel) -> None:
    """The failure is shown in its place; numbers count only the images."""
    cell = made(kernel, f"%%imagegen --each {SMALL} --as found\na fox\npractice:403 an owl\na tree")
    html = cell.pictures[0]["data"]["text/html"]
    places = [html.index("<b>0</b>"), html.index("failed"), html.index("<b>1</b>")]

    assert sorted(places) == places
    assert 2 == html.count("<img ")
    assert "'a tree'" == kernel.value("_[1].prompt")


# -- price of a large cell


def test_an_expensive_cell_asks(tmp_path: Path) -> None:
    """Above the limit the cell asks first; only y runs it, and without keyboard input it fails."""
    with PracticeServer() as server, running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": server.url}) as kernel:
        made(kernel, "%load_ext blockrun_magic\n%blockrun use practice\n%blockrun budget --ask 0.02")
        cheap = made(kernel, f"%imagegen {SMALL} a cheap fox")
        client = kernel._client

        def answering(answer: str) -> Cell:
            name = kernel.start(f"%imagegen {SMALL} -n 2 two foxes")
            assert "0.0315" in client.get_stdin_msg(timeout=PATIENCE)["content"]["prompt"]
            client.input(answer)
            return kernel.finish(name)

        declined = answering("n")
        agreed = answering("y")
        without = kernel.run(f"%imagegen {SMALL} -n 2 two more foxes --yes")
        client.allow_stdin = False
        nobody = kernel.run(f"%imagegen {SMALL} -n 3 three foxes")
        limited = kernel.run(f"%imagegen {SMALL} -n 3 three foxes --max-price 0.1")
        paid = paid_to(server.url)

    assert 1 == len(cheap.pictures)
    assert ("BudgetError", 0) == (declined.error_name, len(declined.pictures))
    assert ["ok", "ok", "ok"] == [agreed.status, without.status, limited.status]
    assert "BudgetError" == nobody.error_name
    assert (1 + 2 + 2 + 3) * PRICE == paid


# -- imports during Run All


@pytest.mark.parametrize(
    "second", ["%blockrun", "import eth_account; eth_account.Account", "%blockrun wallet create", "%blockrun wallet"]
)
def test_run_all_meets_no_half_imported_module(tmp_path: Path, second: str) -> None:
    """The background imports of `use practice` and the next line do not conflict."""
    with PracticeServer() as server, running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": server.url}) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        cell = kernel.run(f"%blockrun use practice\n{second}")

    assert "ok" == cell.status, cell.error


def test_price_takes_a_model(kernel: Kernel) -> None:
    """`price flux` shows the price of flux."""
    assert "flux" in made(kernel, "%blockrun price flux").text
    assert "UsageError" == kernel.run("%blockrun price flux grok").error_name
    assert "RequestError" == kernel.run("%blockrun price fluxx").error_name


def test_a_refusal_says_what_is_true_about_the_money(kernel: Kernel) -> None:
    """A refused image whose payment can still be charged is listed as at risk."""
    cell = kernel.run(f"%imagegen {SMALL} practice:403 something refused")
    shown = made(kernel, "%blockrun")

    assert "ContentPolicyViolation" == cell.error_name
    assert "$0.01575" in "".join(cell.error)
    assert f"${int(kernel.value(f'sum(payment.amount for payment in {OPEN})')) / 1_000_000:.7g}" in shown.text
    assert "15750" == kernel.value(f"{OPEN}[-1].amount")


def test_a_batch_advises_what_fits_its_failures(kernel: Kernel) -> None:
    """The advice for a refused request differs from the advice for a failed job."""
    advice = []
    for fault, error in (("403", "ContentPolicyViolation"), ("fail-job", "JobFailed")):
        cell = made(kernel, f"%%imagegen --each {SMALL}\na quiet lake {fault}\npractice:{fault} no")
        advice.append({line for line in cell.text.splitlines() if "1 of 2" in line})

        assert repr(error) == kernel.value("type(_.failures[0].error).__name__")
        assert 1 == cell.html.count("<img ")
    assert advice[0] != advice[1]


def test_practice_names_the_words_that_it_does_not_draw(kernel: Kernel) -> None:
    """Practice names the words that it cannot draw, and no others."""
    text = made(kernel, f"%imagegen {SMALL} a teapot and a red fox").text

    assert "teapot" in text.split("draw:")[-1]
    assert "fox" not in text.split("draw:")[-1]


def test_a_gallery_finds_stars_models_and_days(kernel: Kernel) -> None:
    """History shows the four images of a request; stars, models and days filter it."""
    made(kernel, f"%imagegen {SMALL} -n 4 --as quartet a castle for the gallery")
    made(kernel, "q = quartet[0]\n%blockrun star q")
    starred = made(kernel, "%blockrun history --starred")

    assert 4 == starred.html.count("<img ")
    assert "castle for the gallery" in starred.text
    assert 4 == made(kernel, "%blockrun history gallery --day=today --model cogview").html.count("<img ")
    assert 0 == made(kernel, "%blockrun history gallery --day=2020-01-01").html.count("<img ")
    assert 0 == made(kernel, "%blockrun history gallery --model flux").html.count("<img ")
    assert "--as quartet" in made(kernel, "%blockrun reuse q").text
    made(kernel, "%blockrun star q --off")
    assert 0 == made(kernel, "%blockrun history gallery --starred").html.count("<img ")


def test_the_magics_need_no_ipywidgets(tmp_path: Path) -> None:
    """Without ipywidgets, cells and commands work."""
    with PracticeServer() as server, running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": server.url}) as kernel:
        made(kernel, "import sys; sys.modules['ipywidgets'] = sys.modules['anywidget'] = None")
        made(kernel, "%load_ext blockrun_magic\n%blockrun use practice")
        cell = made(kernel, f"%imagegen {SMALL} -n 2 a fox")
        made(kernel, "%blockrun\n%blockrun history\n%blockrun models")

    assert 1 == len(cell.pictures)
