"""The language of cells in a real kernel: batches, TAB, settings, background jobs, history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.notebook.cells.flags import FLAGS
from blockrun_magic.practice.server.server import PracticeServer
from harness import PATIENCE
from harness.gates import Gate
from harness.kernel import Kernel, made, paid_to, running_kernel

SMALL = "--model cogview --size 512x512"
COGVIEW = 15_750


def test_models_are_compared_in_one_grid(kernel: Kernel) -> None:
    """Two models give one grid, and a table with the prices and the total."""
    cell = made(kernel, "%%imagegen --model flux,cogview --as pair\na lighthouse")

    assert 1 == len(cell.pictures)
    assert "black-forest/flux-1.1-pro" in cell.text
    assert "2 of 2 made for $0.05775 play money" in cell.text
    assert "2" == kernel.value("len(pair)")


def test_sizes_are_compared_too(kernel: Kernel) -> None:
    """Two sizes of one model give two images."""
    made(kernel, "%%imagegen --model cogview --size 512x512,768x768 --as both\na lighthouse")

    assert "[(512, 512), (768, 768)]" == kernel.value("[image.size for image in both]")


def test_each_line_is_a_prompt(kernel: Kernel) -> None:
    """Every line is a separate purchase, and `_` is a sequence of results."""
    cell = made(kernel, f"%%imagegen {SMALL} --each --jobs 3\na fox\n\na cat\na dog")

    assert 1 == len(cell.pictures)
    assert "['a fox', 'a cat', 'a dog']" == kernel.value("[result.prompt for result in _]")


def test_a_failing_line_is_listed_and_the_rest_is_made(kernel: Kernel) -> None:
    """The cell succeeds, the table shows the failure, and the second run pays nothing for the images that exist."""
    code = f"%%imagegen {SMALL} --each --as kept\na heron\npractice:403 no\nan owl"
    cell = made(kernel, code)
    again = made(kernel, code)

    assert 2 == cell.html.count("<img ")
    assert "$0.0315 play money" in cell.text
    assert "$0.0315" not in again.text
    assert "[(1, 'ContentPolicyViolation')]" == kernel.value("[(f.index, type(f.error).__name__) for f in _.failures]")
    assert "0" == kernel.value("_.cost_micros")


def test_when_all_fail_the_cell_fails(kernel: Kernel) -> None:
    """If all prompts fail, the cell fails, so that Run All stops."""
    cell = kernel.run(f"%%imagegen {SMALL} --each\npractice:403 one\npractice:403 two")

    assert ("ContentPolicyViolation", 2) == (cell.error_name, len(cell.error))


def test_prompts_come_from_a_variable(kernel: Kernel) -> None:
    """The prompts are a list or a column of a table."""
    made(kernel, "import pandas as pd; df = pd.DataFrame({'prompt': ['a red kite', 'a blue kite']})")
    made(kernel, f"%imagegen {SMALL} --prompts df.prompt --as kites")

    assert "2" == kernel.value("len(kites)")
    assert "['a red kite', 'a blue kite']" == kernel.value("list(_.to_dataframe()['prompt'])")


def test_names_are_filled_in(kernel: Kernel) -> None:
    """Braces are variables with --fill, and literal without it."""
    made(kernel, "animals = ['fox', 'owl']; k = 3")
    made(kernel, f"%imagegen {SMALL} --fill {{k:02d}} {{animals}}s")
    filled = kernel.value("[result.prompt for result in _]")
    made(kernel, f"%imagegen {SMALL} a {{k}} as it is")

    assert "['03 foxs', '03 owls']" == filled
    assert "'a {k} as it is'" == kernel.value("_.prompt")


def test_a_style_adds_its_words(kernel: Kernel) -> None:
    """The request has the prompt with the words of the style."""
    made(kernel, f"%imagegen {SMALL} --style ink a fox")

    assert "True" == kernel.value("_.prompt.startswith('a fox, sumi-e ink')")
    assert "watercolor" in made(kernel, "%blockrun styles").text


def test_variations_need_no_prompt(kernel: Kernel) -> None:
    """`--vary -n 2` makes two variations of an image through an edit."""
    made(kernel, f"%imagegen {SMALL} a boat")
    made(kernel, "%img2img --image img --vary -n 2")

    assert "2" == kernel.value("len(imgs)")
    assert "'/v1/images/image2image'" == kernel.value("_.request['endpoint']")


def test_a_background_cell_returns_at_once_and_shows_its_image(kernel: Kernel, gate: Gate) -> None:
    """The variable reports the job's state, an edit waits for the image, and the output shows it later."""
    gate.hold("poll")
    cell_id = kernel.start(f"%imagegen {SMALL} --background --as later practice:slow=1 a kite")
    cell = kernel.finish(cell_id)
    assert gate.seen.wait(PATIENCE)
    first = kernel.value("later.done()")
    jobs = made(kernel, "%blockrun jobs").text
    gate.opened.set()
    made(kernel, "%img2img --image later make it winter")
    cell = kernel.wait_for(cell_id, lambda cell: bool(cell.pictures))

    assert "False" == first
    assert "zai/cogview-4" in jobs
    assert "True" == kernel.value("later.done()")
    assert "'practice:slow=1 a kite'" == kernel.value("later.result().prompt")
    assert 1 == len(cell.pictures)


def test_a_background_picture_can_be_awaited(kernel: Kernel) -> None:
    """`await` returns the result of a background job."""
    made(kernel, f"%imagegen {SMALL} --background --as soon practice:slow=1 a gull")
    made(kernel, "result = await soon")

    assert "'practice:slow=1 a gull'" == kernel.value("result.prompt")


def test_a_background_picture_is_cancelled_only_while_it_is_free(kernel: Kernel, gateway: PracticeServer) -> None:
    """After its payment is sent, a job cannot be cancelled, and its image arrives."""
    made(kernel, f"%imagegen {SMALL} --background --as paid practice:slow=2 a swan")
    made(kernel, "import time\nwhile 'sent' not in repr(paid) and not paid._sent(): time.sleep(0.02)")

    assert "False" == kernel.value("paid.cancel()")
    assert "'practice:slow=2 a swan'" == kernel.value("paid.result().prompt")


@pytest.mark.parametrize(
    ("setting", "cell", "expression", "expected"),
    [
        ("model = 'cogview'", "%imagegen --size 512x512 set one", "_.request['model']", "'zai/cogview-4'"),
        ("edit_model = 'nano-banana'", "%img2img --image img set two", "_.request['model']", "'google/nano-banana'"),
        ("size = '1536x1024'", "%imagegen -m gpt-image set three", "_.request['size']", "'1536x1024'"),
        ("size = '1536x1024'", "%imagegen -m grok set four", "_.request['size']", "'1024x1024'"),
        ("image_name = 'pic'", f"%imagegen {SMALL} set five", "pic.size", "(512, 512)"),
        ("images_name = 'pics'", f"%imagegen {SMALL} set six", "len(pics)", "1"),
    ],
)
def test_settings_change_what_is_taken(kernel: Kernel, setting: str, cell: str, expression: str, expected: str) -> None:
    """`%config` sets the defaults of flags and the names of variables."""
    made(kernel, f"%imagegen {SMALL} an image to set out from")
    name = setting.split(" ", maxsplit=1)[0]
    before = kernel.value(f"get_ipython().magics_manager.registry['BlockrunMagics'].{name}")
    made(kernel, f"%config BlockrunMagics.{setting}")
    made(kernel, cell)
    made(kernel, f"%config BlockrunMagics.{name} = {before}")

    assert expected == kernel.value(expression)


def test_the_preview_can_be_png(kernel: Kernel) -> None:
    """`preview_format` and `preview_side` determine the embedded image."""
    made(kernel, "%config BlockrunMagics.preview_format = 'png'")
    made(kernel, "%config BlockrunMagics.preview_side = 128")
    cell = made(kernel, f"%imagegen {SMALL} a small png")
    made(kernel, "%config BlockrunMagics.preview_format = 'jpeg'")
    made(kernel, "%config BlockrunMagics.preview_side = 768")
    [picture] = cell.pictures

    assert "image/png" in picture["data"]
    assert 128 == picture["metadata"]["image/png"]["width"]


def test_cache_only_refuses_what_is_not_kept(kernel: Kernel, gateway: PracticeServer) -> None:
    """Stored images are shown; other requests are errors, and nothing is paid."""
    made(kernel, f"%imagegen {SMALL} a kept one")
    made(kernel, "%config BlockrunMagics.cache_only = True")
    before = paid_to(gateway.url)
    kept = made(kernel, f"%imagegen {SMALL} a kept one")
    miss = kernel.run(f"%imagegen {SMALL} a new one")
    made(kernel, "%config BlockrunMagics.cache_only = False")

    assert 1 == len(kept.pictures)
    assert "StoreError" == miss.error_name
    assert before == paid_to(gateway.url)


def test_a_task_of_the_user_ticks_while_a_cell_waits(kernel: Kernel) -> None:
    """With `keep_loop_running`, tasks in the kernel's loop run while a magic blocks."""
    made(kernel, "%config BlockrunMagics.keep_loop_running = True")
    made(
        kernel,
        "import asyncio\nticks = []\n"
        "async def tick():\n    while True:\n        ticks.append(1)\n        await asyncio.sleep(0.05)\n"
        "task = asyncio.ensure_future(tick())",
    )
    made(
        kernel,
        "before = len(ticks)\n"
        f"get_ipython().run_line_magic('imagegen', '{SMALL} practice:slow=1 a tick')\n"
        "after = len(ticks)",
    )
    made(kernel, "task.cancel()")
    made(kernel, "%config BlockrunMagics.keep_loop_running = False")

    assert "True" == kernel.value("after - before > 5")


def test_history_finds_what_was_made(kernel: Kernel) -> None:
    """History finds prompts by a word, escapes them, and shows thumbnails."""
    made(kernel, f"%imagegen {SMALL} a zeppelin over <b>Basel</b>")
    cell = made(kernel, "%blockrun history zeppelin")

    assert "a zeppelin over" in cell.text
    assert 1 == cell.html.count("<img ")
    assert "<b>Basel" not in cell.html
    assert "<img" not in made(kernel, "%blockrun history nothing like it").html


@pytest.mark.parametrize("picture", ["img", "_"])
def test_reuse_writes_the_cell_that_made_it(kernel: Kernel, picture: str) -> None:
    """The next input is the original cell with its flags and prompt."""
    made(kernel, f"%%imagegen {SMALL} -n 2\nreuse {picture}\nof two lines")
    reply = made(kernel, f"%blockrun reuse {picture}")

    assert f"%%imagegen --model cogview --size 512x512 -n 2\nreuse {picture}\nof two lines" in reply.text


def test_a_reused_edit_names_its_kept_source(kernel: Kernel) -> None:
    """The source of the edit is bound to a new variable, and the reused cell costs nothing."""
    made(kernel, f"%imagegen {SMALL} a pond")
    made(kernel, "%img2img --image img add a frog")
    text = made(kernel, "%blockrun reuse img").text

    assert "%%img2img --image source1" in text
    assert "add a frog" in text
    assert "$0.00" in made(kernel, text).text


def complete(kernel: Kernel, code: str) -> dict[str, Any]:
    """Return the kernel's completions at the end of `code`."""
    answer: dict[str, Any] = kernel._client.complete(code, len(code), reply=True, timeout=PATIENCE)["content"]
    return answer


@pytest.mark.parametrize(
    ("code", "match", "start"),
    [
        ("%%imagegen --mod", "--model", 11),
        ("%imagegen --model flux,cog", "cogview", 23),
        ("%imagegen --model=gro", "grok-imagine", 18),
        ("%imagegen -m flux --size 8", "832x1216", 25),
        ("x = %img2img --image im", "img", 21),
        ("%blockrun hist", "history", 10),
        ("%blockrun use test", "testnet", 14),
    ],
)
def test_tab_answers_in_a_notebook(kernel: Kernel, code: str, match: str, start: int) -> None:
    """The kernel's complete_request returns our completions and the range that they replace."""
    made(kernel, "from PIL import Image\nimg = Image.new('RGB', (8, 8))")
    answer = complete(kernel, code)

    assert match in answer["matches"]
    assert (start, len(code)) == (answer["cursor_start"], answer["cursor_end"])


def test_help_is_a_page_for_people(kernel: Kernel) -> None:
    """`%%imagegen?` shows every flag of the magic."""
    payload = kernel._client.execute("%%imagegen?", reply=True, timeout=PATIENCE)["content"]["payload"]

    assert all(f"{flag.name} " in payload[0]["data"]["text/plain"] for flag in FLAGS if "imagegen" in flag.magics)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "$0.50"),
        ("help", "%blockrun history"),
        ("models grok", "xai/grok-imagine-image-pro"),
        ("price --model banana-pro -n 2", "$0.21 play money (2 x $0.105)"),
        ("spend", "zai/cogview-4"),
        ("spend all", "zai/cogview-4"),
        ("budget --image 0.40", "$0.40"),
        ("wallet", "worthless"),
        ("wallet balance", "play money"),
        ("jobs", "practice:403 open"),
        ("resume", "$0.01575"),
        ("store", ".blockrun"),
        ("store prune --older-than 1d", "--yes"),
        ("info img", "/v1/images/"),
    ],
)
def test_every_word_answers(kernel: Kernel, line: str, expected: str) -> None:
    """Each command of %blockrun shows a card as text and as HTML."""
    made(kernel, f"%imagegen {SMALL} an image for info")
    kernel.run(f"%imagegen {SMALL} practice:403 open for jobs and resume")
    cell = made(kernel, f"%blockrun {line}")

    assert expected in cell.text
    assert cell.html


@pytest.mark.parametrize(
    ("code", "name", "advice"),
    [
        ("%imagegen --modle flux x", "FlagError", "Did you mean --model?"),
        ("%imagegen --model fluxx x", "RequestError", "Did you mean flux?"),
        ("%imagegen --style inc x", "FlagError", "Did you mean ink?"),
        ("%imagegen --fill {animls}", "FlagError", "Did you mean animals"),
        ("%imagegen --prompts animls", "FlagError", "Did you mean animals"),
        ("%imagegen --jobs 99 x", "FlagError", "1 to 32"),
        ("%imagegen --prompts animals a prompt too", "FlagError", "Leave out"),
        ("%blockrun hisotry", "UsageError", "Did you mean history?"),
        ("%blockrun use bsae", "UsageError", "Did you mean base?"),
        ("%blockrun history --page x", "UsageError", "2"),
        ("%blockrun store prune", "UsageError", "--older-than"),
        ("%blockrun resume nothing", "UsageError", "%blockrun jobs"),
    ],
)
def test_a_mistake_is_told_with_its_way_out(kernel: Kernel, code: str, name: str, advice: str) -> None:
    """The error has two lines without a traceback, and the second line says what to do."""
    made(kernel, "animals = ['fox', 'owl']")
    cell = kernel.run(code)

    made(kernel, "%blockrun use practice")  # after an unknown gateway, no other gateway is selected

    assert (name, 2) == (cell.error_name, len(cell.error)), cell.error
    assert advice in cell.error[1]


def test_a_batch_killed_at_half_is_finished_by_running_it_again(tmp_path: Path) -> None:
    """After `kill -9` of the kernel, the next kernel pays for the missing images only."""
    code = f"%%imagegen {SMALL} --each --jobs 1\n" + "\n".join(f"half {k}" for k in range(6))
    hook = Gate()
    hook.hold("paid", left=3)
    with PracticeServer(hook=hook) as server:
        environ = {"BLOCKRUN_PRACTICE_URL": server.url}
        with running_kernel(tmp_path, environ) as first:
            first.run("%load_ext blockrun_magic\n%blockrun use practice")
            first.wait_for(
                first.start(code),
                lambda cell: any("2 of 6" in str(m["content"]) for m in cell.messages),
            )
        half = paid_to(server.url)
        hook.opened.set()
        with running_kernel(tmp_path, environ) as second:
            second.run("%load_ext blockrun_magic\n%blockrun use practice")
            cell = second.run(code)
            made_in_all = second.value("len(_)")
        whole = paid_to(server.url)

    assert 0 < half < 6 * COGVIEW
    assert "ok" == cell.status, cell.error
    assert "6" == made_in_all
    assert 6 * COGVIEW == whole


def test_private_leaves_the_receipt_out(kernel: Kernel) -> None:
    """With --private, the image's file has no receipt."""
    made(kernel, f"%imagegen {SMALL} --private a secret garden")
    made(kernel, "from blockrun_magic.images.provenance import read")

    assert "None" == kernel.value("read(_.files[0].read_bytes())")
    assert "secret garden" not in made(kernel, "%blockrun info img").text


def test_a_take_is_named_again(kernel: Kernel) -> None:
    """--fresh buys take 2; --take selects a take at no cost."""
    made(kernel, f"%imagegen {SMALL} a taken fox")
    made(kernel, "first = _")
    made(kernel, f"%imagegen {SMALL} --fresh a taken fox")
    made(kernel, "second = _")
    made(kernel, f"%imagegen {SMALL} --take 2 a taken fox")

    assert "(1, 2)" == kernel.value("(first.receipt.take, second.receipt.take)")
    assert "True" == kernel.value("_.files == second.files != first.files")
    assert "Decimal('0.000000')" == kernel.value("_.cost")


def test_unchecked_sends_what_our_catalog_refuses(kernel: Kernel) -> None:
    """Without --unchecked our catalog refuses the size, with it the gateway does."""
    ours = kernel.run("%imagegen -m flux --size 640x640 a fox")
    theirs = kernel.run("%imagegen -m flux --size 640x640 --unchecked a fox")

    assert "RequestError" == ours.error_name
    assert ("RequestRejected", 2) == (theirs.error_name, len(theirs.error))


def test_the_configuration_file_is_read(tmp_path: Path, gateway: PracticeServer) -> None:
    """IPython's configuration file sets defaults for every kernel."""
    profile = tmp_path / ".ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(
        "c.BlockrunMagics.gateway = 'practice'\n"
        "c.BlockrunMagics.model = 'cogview'\n"
        "c.BlockrunMagics.cap_session = '1'\n"
    )
    with running_kernel(tmp_path, {"BLOCKRUN_PRACTICE_URL": gateway.url}) as configured:
        configured.run("%load_ext blockrun_magic")
        overview = configured.run("%blockrun")
        cell = configured.run("%imagegen --size 512x512 from the file")

    assert "%config BlockrunMagics.gateway" in overview.text
    assert "$1.00" in overview.text
    assert "zai/cogview-4" in cell.text


def test_a_batch_shows_a_bar_that_moves(kernel: Kernel, gate: Gate) -> None:
    """During a batch, the cell's line shows a growing count."""
    gate.hold("paid")
    cell_id = kernel.start(f"%%imagegen {SMALL} --each --jobs 1\n" + "\n".join(f"bar {k}" for k in range(3)))
    for count in (1, 2):
        gate.left = 1
        kernel.wait_for(
            cell_id, lambda cell, shown=f"{count} of 3": any(shown in str(m["content"]) for m in cell.messages)
        )
    gate.opened.set()
    cell = kernel.finish(cell_id)
    # On a busy machine, the line may be displayed for the first time when an image has arrived.
    lines = cell.of_type("display_data") + cell.of_type("update_display_data")
    shown = [content["data"].get("text/plain", "") for content in lines]
    counts = [text.split("] ")[1].split(" of 3")[0] for text in shown if " of 3" in text and "] " in text]

    assert {"1", "2"} <= set(counts) <= {"0", "1", "2", "3"}, shown
    assert counts == sorted(counts)
