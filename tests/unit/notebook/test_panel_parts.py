"""The parts of the panel that need no browser: prices, closing, and what becomes of a bug."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import ipywidgets
import pytest
from ipywidgets.widgets.widget import _instances as alive

from blockrun_magic.errors import BlockrunError, FlagError
from blockrun_magic.notebook.loop import LoopThread
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.form.helpers import check_words
from blockrun_magic.notebook.panel.form.prices import price_words
from blockrun_magic.notebook.panel.light import close_shared
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, html, row
from harness import PATIENCE


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """Return a loop in a thread of its own."""
    running = LoopThread()
    yield running
    running.close()


@pytest.mark.parametrize(
    ("n", "prices", "words"),
    [
        (4, [210_000], "4 x $0.0525 = $0.21"),
        (1, [52_500], "$0.0525"),
        (1, [21_000, 21_000, 21_000], "3 x $0.021 = $0.063"),
        (2, [42_000, 84_000], "$0.126"),
        (3, [100_000], "$0.10"),
        (1, [], ""),
    ],
)
def test_the_price_in_words(n: int, prices: list[int | None], words: str) -> None:
    """Images of one price are multiplied; other sums, and sums that do not divide, are just said."""
    assert words == price_words(n, prices, "real")


def test_a_price_that_is_not_known_is_no_amount() -> None:
    """Where the gateway has still to say it, words stand for the price."""
    assert "$" not in price_words(1, [None], "real")
    assert price_words(1, [None], "real")


@pytest.mark.parametrize("prompt", ["a fox --ar 16:9", "a fox -n 4", "--model flux\na fox", "a fox\nSteps: 20, CFG: 7"])
def test_a_flag_in_a_prompt_is_refused_as_in_a_cell(prompt: str) -> None:
    """It would be sent, and paid, as words; the advice is about the panel, not about a cell's first line."""
    with pytest.raises(FlagError) as caught:
        check_words("imagegen", prompt)

    assert "first line" not in caught.value.hint
    check_words("imagegen", "a fox -- a red one - with 16:9 written on it")


def test_play_money_is_said_with_the_price() -> None:
    """A practice price cannot be taken for a real one."""
    assert "2 x $0.021 = $0.042 play money" == price_words(2, [42_000], "practice")


def test_closing_takes_every_widget_of_a_tree() -> None:
    """Children, layouts and styles, shared ones too, are gone from the kernel, and closing twice does nothing."""
    before = len(alive)
    tree = ipywidgets.VBox([row(html("a"), button("b")), ipywidgets.Accordion([ipywidgets.Text()])])
    assert before + 10 < len(alive)
    close_tree(tree)
    close_tree(tree)
    close_shared()

    assert before == len(alive)


def test_callbacks_run_in_order_on_the_loop_and_errors_are_said(loop_thread: LoopThread) -> None:
    """What a click starts runs on our own thread, first come first served; our errors reach the notice."""
    notice, seen, done = Notice(), [], threading.Event()
    dispatcher = Dispatcher(loop_thread, notice.error)
    pressed = button("press")

    def refuse() -> None:
        raise FlagError("<b>No</b>.", "Do & try.")

    dispatcher.on_click(pressed, lambda: seen.append(threading.current_thread().name))
    dispatcher.on_click(pressed, refuse)
    dispatcher.on_click(pressed, done.set)
    pressed.click()

    assert done.wait(PATIENCE)
    assert ["blockrun-magic"] == seen
    assert "&lt;b&gt;No&lt;/b&gt;.</b><br>Do &amp; try." in notice.box.value
    assert "brm-hidden" not in notice.box._dom_classes


def test_a_bug_is_said_without_its_values(loop_thread: LoopThread) -> None:
    """A failure of our own names its place, and nothing that stood in its message."""
    said: list[BlockrunError] = []
    done = threading.Event()
    dispatcher = Dispatcher(loop_thread, said.append)

    def fail() -> None:
        raise ValueError("0xsecret")

    dispatcher.schedule(fail)
    dispatcher.schedule(done.set)

    assert done.wait(PATIENCE)
    assert "ValueError in test_panel_parts.py" in said[0].message
    assert "0xsecret" not in str(said[0])
