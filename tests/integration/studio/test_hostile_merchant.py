"""A hostile merchant: in every story, a take is paid once, the ledger never counts too little, and limits hold.

`make test` runs 300 stories, `make soak` 20,000. A failure shows its seed: STORY=seed runs that story again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.stories import tell

_STORIES = int(os.environ.get("STORIES", "300"))
_ONE = os.environ.get("STORY")
_BLOCK = max(10, _STORIES // 40)
_FIRST = [int(_ONE)] if _ONE else range(0, _STORIES, _BLOCK)


@pytest.mark.parametrize("first", _FIRST)
def test_no_story_costs_more_than_it_should(first: int, tmp_path: Path) -> None:
    """A take has at most one payment, the ledger counts every amount, limits hold, and all errors are ours."""
    last = first + 1 if _ONE else min(first + _BLOCK, _STORIES)

    for seed in range(first, last):
        folder = tmp_path / str(seed)
        folder.mkdir()
        tell(seed, folder)
        shutil.rmtree(folder)
