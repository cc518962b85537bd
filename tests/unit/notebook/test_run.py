"""A cell that is stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from blockrun_magic.notebook.cells import run
from blockrun_magic.notebook.cells.flags import Flags


def test_stop_while_the_image_is_shown_leaves_no_waiting_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop after a purchase removes the waiting line; the message reports $0.00."""
    ended: list[None] = []
    live: Any = SimpleNamespace(update=None, finish=lambda: ended.append(None), interrupted_text=lambda: "at risk")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_with_unlock", lambda *_: SimpleNamespace(images=[Image.new("RGB", (2, 2))]))
    monkeypatch.setattr(run, "bind_results", stop)
    context: Any = SimpleNamespace(session=None)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run._finish(context, live, lambda: None, Flags("a fox"))  # type: ignore[arg-type, return-value]
    [line] = stopped.value._render_traceback_()  # type: ignore[attr-defined]

    assert [None] == ended
    assert "$0.00" in line
