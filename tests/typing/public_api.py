"""Types of the public names: mypy checks this file, and it is never run."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

from PIL import Image

import blockrun_magic
from blockrun_magic import (
    BlockrunError,
    ImageResult,
    ImageResults,
    Options,
    Studio,
    aedit,
    agenerate,
    edit,
    generate,
    list_payments,
    open_studio,
    paint_mask,
)
from blockrun_magic.notebook.mask.widget import MaskPad
from blockrun_magic.studio.results.result import Receipt


def a_script() -> None:
    """Take every choice by its name."""
    result = generate(
        "a city", model="flux", size="1024x1024", n=1, quality="hd", max_price="0.10", fresh=True, gateway="practice"
    )
    assert_type(result, ImageResult)
    assert_type(result.cost, Decimal)
    assert_type(result.image, Image.Image)
    assert_type(result.images, Sequence[Image.Image])
    assert_type(result.receipt, Receipt)
    assert_type(result.save("city.png"), list[Path])
    assert_type(edit("winter", result, mask="mask.png", max_price="0.10"), ImageResult)


async def a_notebook(studio: Studio) -> None:
    """Share a studio."""
    assert_type(await agenerate("a city", studio=studio), ImageResult)
    assert_type(await aedit("winter", ["a.png", Path("b.png")], studio=studio), ImageResult)
    await studio.close()


def wrong() -> None:
    """Every line here is an error, and the checker has to say so: an ignore that is not needed is one as well."""
    generate()  # type: ignore[call-arg]
    generate("a city", width=1024)  # type: ignore[call-arg]
    generate("a city", max_price=0.10)  # type: ignore[arg-type]
    generate("a city", mask="mask.png")  # type: ignore[call-arg]
    edit("winter")  # type: ignore[call-arg]


def the_rest(results: ImageResults, error: BlockrunError) -> None:
    """Look at what comes back."""
    assert_type(results[0], ImageResult)
    assert_type([each.cost for each in results], list[Decimal])
    assert_type(error.message, str)
    assert_type(error.hint, str)
    assert_type(open_studio(), Studio)
    assert_type(Options().fresh, bool)
    assert_type(list_payments("all").to_records(), list[dict[str, Any]])
    assert_type(paint_mask("city.png"), MaskPad)
    assert_type(blockrun_magic.__version__, str)


def sequences(results: ImageResults) -> Sequence[ImageResult]:
    """Results of many are a sequence."""
    return results
