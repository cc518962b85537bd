"""Errors are two lines, and state what happened to the money once."""

from __future__ import annotations

import time

import pytest

from blockrun_magic import errors
from blockrun_magic.errors import BlockrunError, Fate, FlagError, GatewayUnreachable, Money, UsageError

HASH = "0x" + "ab" * 32
FATES = {
    Fate.NOTHING_SIGNED: Money.nothing_signed(),
    Fate.NOTHING_SENT: Money.nothing_sent(),
    Fate.NOT_CHARGED: Money.not_charged(),
    Fate.RESERVED: Money.reserved(42_000, time.time() + 60),
    Fate.PAID: Money.paid(42_000, HASH),
    Fate.UNKNOWN: Money.unknown(42_000),
}


def test_every_fate_has_a_constructor() -> None:
    """Every fate has its own constructor."""
    assert set(Fate) == FATES.keys()
    assert list(Fate) == [money.fate for money in FATES.values()]


@pytest.mark.parametrize("fate", Fate, ids=str)
def test_an_error_is_two_lines_with_its_money(fate: Fate) -> None:
    """The first line is the message, the second the sentence about money and the hint; no class name is shown."""
    error = BlockrunError("It failed.", "Try again.", FATES[fate])
    first, second = str(error).split("\n")

    assert "It failed." == first
    assert second.startswith(str(FATES[fate]))
    assert second.endswith("Try again.")
    assert [first, f"→ {second}"] == error._render_traceback_()


@pytest.mark.parametrize("fate", [Fate.RESERVED, Fate.PAID, Fate.UNKNOWN], ids=str)
def test_a_sentence_names_the_sum(fate: Fate) -> None:
    """The sentence names the amount if money may move or has moved."""
    assert "$0.042" in str(FATES[fate])


def test_a_sentence_names_transaction_and_time() -> None:
    """The sentence contains a payment's transaction or the end of a reservation."""
    until = time.time() + 60

    assert HASH in str(FATES[Fate.PAID])
    assert time.strftime("%H:%M", time.localtime(until)) in str(Money.reserved(1, until))
    assert time.strftime("%Y-%m-%d", time.localtime(until + 86_400)) in str(Money.reserved(1, until + 86_400))
    assert "about" in str(Money.unknown(42_000, estimated=True)).lower()


def test_an_error_without_money_says_nothing_of_it() -> None:
    """An error without money has no sentence about it."""
    assert ["It failed.", "→ Try again."] == BlockrunError("It failed.", "Try again.")._render_traceback_()
    assert ["It failed."] == BlockrunError("It failed.", "")._render_traceback_()


def test_money_is_set_as_an_error_climbs() -> None:
    """The error stays the same object with the same message: only its money changes."""
    error = GatewayUnreachable("No connection.", "Try again.", sent=False)

    assert error is error.with_money(Money.paid(1))
    assert Money.paid(1) == error.money
    assert "No connection." == error.message


def test_the_tree_is_drawn_whole() -> None:
    """The tree in the module's docstring contains every error."""
    assert errors.__doc__ is not None
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert name in errors.__doc__ or not issubclass(kind, BlockrunError)
    assert issubclass(FlagError, UsageError)
