"""Parts of the panel that need no browser: prices, closing, and internal errors."""

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
    """Return a loop in a separate thread."""
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
    """Equal prices appear as a product; other totals appear as one amount."""
    assert words == price_words(n, prices, "real")


def test_a_price_that_is_not_known_is_no_amount() -> None:
    """An unknown price is text without an amount."""
    assert "$" not in price_words(1, [None], "real")
    assert price_words(1, [None], "real")


@pytest.mark.parametrize("prompt", ["a fox --ar 16:9", "a fox -n 4", "--model flux\na fox", "a fox\nSteps: 20, CFG: 7"])
def test_a_flag_in_a_prompt_is_refused_as_in_a_cell(prompt: str) -> None:
    """A flag in the prompt is refused, because it would be sent as part of the prompt; the hint fits the panel."""
    with pytest.raises(FlagError) as caught:
        check_words("imagegen", prompt)

    assert "first line" not in caught.value.hint
    check_words("imagegen", "a fox -- a red one - with 16:9 written on it")


def test_play_money_is_said_with_the_price() -> None:
    """A practice price is labeled as play money."""
    assert "2 x $0.021 = $0.042 play money" == price_words(2, [42_000], "practice")


def test_closing_takes_every_widget_of_a_tree() -> None:
    """Closing removes all widgets with their layouts and styles; closing twice is harmless."""
    before = len(alive)
    tree = ipywidgets.VBox([row(html("a"), button("b")), ipywidgets.Accordion([ipywidgets.Text()])])
    assert before + 10 < len(alive)
    close_tree(tree)
    close_tree(tree)
    close_shared()

    assert before == len(alive)


def test_callbacks_run_in_order_on_the_loop_and_errors_are_said(loop_thread: LoopThread) -> None:
    """Callbacks of clicks run in order on the loop thread; errors appear escaped in the notice."""
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
    """The message for an internal error gives its type and file, and not its text."""
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
