"""Cards: the same content as text and as HTML; text from outside is escaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from blockrun_magic.notebook.display.captions import caption_of
from blockrun_magic.notebook.display.cards import Message, Table, bar, format_amount
from blockrun_magic.payments.ledger.records import StoredImage
from blockrun_magic.studio.results.result import ImageResult, Receipt

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'too' <img src=x onerror=alert(1)>"
SURVIVES_SANITISING = {"div", "span", "b", "br", "table", "tr", "th", "td"}


class Reader(HTMLParser):
    """The tags, attributes and text that a browser finds in some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag and its attributes."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Record text."""
        self.words += data


def result_of(
    *,
    revised: str | None = None,
    realm: str = "practice",
    kept: bool = False,
    settled: bool = True,
    n: int = 1,
    take: int = 1,
    quality: str | None = None,
) -> ImageResult:
    """Return a result like the studio's."""
    receipt = Receipt(
        amount=42_000, realm=realm, gateway="somewhere", network=None, transaction=None, payer=None, purchased_at=0.0,
        request_digest="d", take=take, purchase_id="p", settled=settled, cached=kept,
    )  # fmt: skip
    pictures = [StoredImage("file", "image/png", 64, 48, revised)] * n
    request = {"model": "a/model", "prompt": "a prompt", "size": "64x48", "quality": quality, "n": n}
    return ImageResult(request, receipt, pictures, [], 1.25, [Image.new("RGB", (64, 48))] * n)


@pytest.mark.parametrize(
    "card",
    [
        Message(HOSTILE),
        Table((HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)], title=HOSTILE, note=HOSTILE),
        bar(0.5, HOSTILE),
        caption_of(result_of(revised=HOSTILE), [HOSTILE], HOSTILE),
    ],
    ids=["message", "table", "bar", "caption"],
)
def test_no_word_becomes_a_tag(card: Message) -> None:
    """Text from outside stays text: the HTML has only tags and attributes that survive sanitizing."""
    read = Reader(card._repr_html_())

    assert set() == read.tags - SURVIVES_SANITISING
    assert {"style"} >= read.attributes
    assert HOSTILE in read.words
    assert HOSTILE in card.text


def test_a_caption_names_model_size_price_and_seconds() -> None:
    """The caption shows the model, the size, the price and the duration."""
    caption = caption_of(result_of(realm="real"))

    assert "a/model · 64x48 · $0.042 · 1.2 s" == caption.text
    assert caption.text in Reader(caption.html).words
    assert "PRACTICE" not in caption.html


def test_a_caption_says_what_is_special() -> None:
    """Quality, take, image count, revised prompt, saved files and notes each appear once."""
    caption = caption_of(result_of(revised="a better prompt", n=3, take=2, quality="hd"), ["a.png", "b.png"], "A note.")

    assert [
        "a/model · 3 x 64x48 · hd · take 2 · $0.042 play money · 1.2 s",
        "The model read: a better prompt",
        "Saved to a.png",
        "Saved to b.png",
        "A note.",
    ] == caption.text.splitlines()


def test_play_money_is_marked_beside_the_facts() -> None:
    """The PRACTICE badge is on the first line of a caption with several lines."""
    html = caption_of(result_of(revised="a better prompt"), ["a.png"]).html

    assert "PRACTICE" in html.partition("<br>")[0]


def test_a_kept_picture_costs_nothing_and_says_when_it_was_bought() -> None:
    """A cached image costs $0.00, and its caption shows the date and price of the purchase."""
    text = caption_of(result_of(kept=True, realm="real")).text

    assert re.search(r"\$0\.00: bought (1970-01-01|1969-12-31) \d\d:\d\d for \$0\.042$", text)


def test_an_unconfirmed_payment_is_not_called_paid() -> None:
    """An amount without a confirmed payment is marked."""
    assert "$0.042 (not confirmed yet)" in caption_of(result_of(realm="real", settled=False)).text


@pytest.mark.parametrize(
    ("realm", "words"), [("real", "$0.04"), ("practice", "$0.04 play money"), ("testnet", "$0.04 test money")]
)
def test_money_that_is_not_real_says_so(realm: str, words: str) -> None:
    """Only real money has no label."""
    assert words == format_amount(40_000, realm)


def test_a_table_lines_up_in_text() -> None:
    """The first column is left-aligned, the others right-aligned; empty headers are omitted."""
    table = Table(
        ("model", "spent"), [("flux", "$0.042"), ("a-long-name", "$1.00")], title="Spent", note="That is all."
    )
    plain = Table(("", ""), [("a", "b")], left=2)

    assert [
        "Spent",
        "model         spent",
        "-----------  ------",
        "flux         $0.042",
        "a-long-name   $1.00",
        "That is all.",
    ] == table.text.splitlines()
    assert "a  b" == plain.text
    assert "<th" not in plain.html


def test_a_bar_is_filled_to_its_part() -> None:
    """A quarter fills a quarter of the bar, in text and in HTML."""
    card = bar(0.25, "5 of 20")

    assert "[#####...............] 5 of 20" == card.text
    assert "width:25%" in card.html


def test_missing_pictures_are_said() -> None:
    """The caption says that fewer images arrived than were requested."""
    result = result_of(n=2)
    short = replace(result, notes=("The gateway sent 2 of the 4 images.",))

    assert short.notes[0] in caption_of(short).text.splitlines()
    assert short.notes[0] not in caption_of(result).text
