"""The Python API for scripts: the same purchases without a notebook."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from PIL import Image

import blockrun_magic
from blockrun_magic import aedit, agenerate, edit, generate, open_studio
from blockrun_magic.errors import BudgetError, RequestError
from blockrun_magic.practice.server.server import PracticeServer
from harness.kernel import paid_to

SMALL = {"model": "cogview", "size": "512x512"}


@pytest.fixture(autouse=True)
def practice(gateway: PracticeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make that gateway the "practice" gateway."""
    monkeypatch.setenv("BLOCKRUN_PRACTICE_URL", gateway.url)


def test_a_script_makes_and_keeps_a_picture(gateway: PracticeServer) -> None:
    """The second call returns the image of the first at no cost."""
    before = paid_to(gateway.url)
    first = generate("a fox in a script", gateway="practice", **SMALL)
    second = generate("a fox in a script", gateway="practice", **SMALL)

    assert (512, 512) == first.image.size
    assert (15_750, 0) == (first.cost_micros, second.cost_micros)
    assert before + 15_750 == paid_to(gateway.url)


def test_a_script_edits_a_picture_where_the_mask_is_white() -> None:
    """Images and masks are PIL images; pixels outside the white area do not change."""
    source = Image.new("RGB", (1024, 1024), "navy")
    mask = Image.new("L", source.size, 0)
    mask.paste(255, (0, 0, 512, 1024))
    result = edit("add a moon", source, mask=mask, gateway="practice")

    assert (0, 0, 128) == result.image.convert("RGB").getpixel((900, 500))


def test_one_studio_serves_many_calls(gateway: PracticeServer) -> None:
    """Concurrent calls can share one studio."""

    async def work() -> list[str]:
        studio = open_studio()
        calls = [agenerate(f"one of many {k}", gateway="practice", studio=studio, **SMALL) for k in range(3)]
        results = await asyncio.gather(*calls)
        edited = await aedit("make it winter", results[0], gateway="practice", studio=studio)
        await studio.close()
        return [*(result.prompt for result in results), edited.prompt]

    assert ["one of many 0", "one of many 1", "one of many 2", "make it winter"] == asyncio.run(work())


def test_inside_an_event_loop_the_way_out_is_named() -> None:
    """Inside a running event loop, `generate` raises RuntimeError and names `agenerate`."""

    async def work() -> None:
        generate("a fox", gateway="practice")

    with pytest.raises(RuntimeError, match="await agenerate"):
        asyncio.run(work())


def test_sizes_are_taken_as_programs_have_them() -> None:
    """A size is a pair, or a ratio as in cells; other types are refused."""
    paired, wide = (
        generate("a sized fox", model="cogview", size=size, gateway="practice").image.size
        for size in ((512, 512), "3:2")
    )
    with pytest.raises(RequestError):
        generate("a sized fox", size={512}, gateway="practice")  # type: ignore[arg-type]

    assert [(512, 512), (1248, 832)] == [paired, wide]


def test_a_bad_price_is_refused_before_anything_is_sent(gateway: PracticeServer) -> None:
    """`max_price` limits the request as in a cell."""
    before = paid_to(gateway.url)
    with pytest.raises(BudgetError):
        generate("a fox", gateway="practice", max_price="0.001", fresh=True, **SMALL)

    assert before == paid_to(gateway.url)


def test_the_public_names_are_these() -> None:
    """`__all__` has exactly these names."""
    names = [
        "BlockrunError",
        "ImageResult",
        "ImageResults",
        "Money",
        "Options",
        "Studio",
        "__version__",
        "aedit",
        "agenerate",
        "edit",
        "generate",
        "list_payments",
        "load_ipython_extension",
        "open_studio",
        "openai_client",
        "paint_mask",
        "panel",
        "unload_ipython_extension",
    ]

    assert names == sorted(blockrun_magic.__all__)
    assert all(getattr(blockrun_magic, name) for name in names)


def test_a_script_needs_no_ipython() -> None:
    """Importing the API does not import IPython."""
    code = "import sys, blockrun_magic; blockrun_magic.generate; print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "False\n" == done.stdout
