"""Every trigger of the practice gateway behaves as documented."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.practice.server.triggers import TRIGGERS
from fakes.signer import Payer, ledger

PRICE = 15_750
BEFORE = {"400": 400, "402": 402, "403": 403, "408": 408, "500": 500, "502": 502, "503": 503, "504": 504}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the base URL of a practice gateway."""
    with PracticeServer(slow_seconds=0.1) as server:
        yield server.url


class Visit:
    """A payer with one request whose prompt has a trigger, and one payment for it."""

    def __init__(self, url: str, trigger: str) -> None:
        self.payer = Payer(url, trigger)
        self.body = {"model": "zai/cogview-4", "prompt": f"practice:{trigger} a fox", "size": "512x512", "n": 1}
        self.challenge = self.payer.ask(self.body)
        self.header = self.payer.sign(self.challenge, bytes(32))

    def send(self) -> httpx.Response:
        """Send the request with its payment, and return the response."""
        return self.payer.pay(self.body, self.header)

    @property
    def paid(self) -> int:
        """The settled amount in micro-USDC."""
        lines = ledger(self.payer.url)["settlements"]
        return sum(int(line["amount"]) for line in lines if line["payer"] == self.payer.account.address)

    def image(self) -> bytes:
        """Return the bytes of the image in a paid response."""
        return self.payer.http.get(self.send().json()["data"][0]["url"]).content


@pytest.fixture
def visit(url: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Return the visit for the test's trigger."""
    visit = Visit(url, request.param)
    yield visit
    visit.payer.http.close()


@pytest.mark.parametrize(("visit", "status"), BEFORE.items(), indirect=["visit"])
def test_an_error_before_payment_moves_nothing(visit: Visit, status: int) -> None:
    """Each paid call gets the trigger's status, and nothing is charged."""
    assert [status, status] == [visit.send().status_code, visit.send().status_code]
    assert 0 == visit.paid


@pytest.mark.parametrize(("visit", "status"), [("429", 429), ("500-once", 500)], indirect=["visit"])
def test_a_passing_fault_passes(visit: Visit, status: int) -> None:
    """After a temporary error, the same payment gets the image."""
    first, second = visit.send(), visit.send()

    assert (status, 200) == (first.status_code, second.status_code)
    assert PRICE == visit.paid


@pytest.mark.parametrize("visit", ["429-always"], indirect=True)
def test_a_limit_says_how_long_to_wait(visit: Visit) -> None:
    """`Retry-After` and the body name the same delay, and a header names the source of the limit."""
    answer = visit.send()

    assert "1" == answer.headers["Retry-After"]
    assert answer.headers["X-RateLimit-Source"]
    assert 1 == answer.json()["retry_after_seconds"]
    assert 429 == visit.send().status_code


@pytest.mark.parametrize("visit", ["500-charged"], indirect=True)
def test_charged_and_then_broken(visit: Visit) -> None:
    """The error names the transaction; the same payment then gets the image and is charged once."""
    first, second = visit.send(), visit.send()

    assert (500, 200) == (first.status_code, second.status_code)
    assert first.headers["X-Payment-Receipt"] == second.headers["X-Payment-Receipt"]
    assert PRICE == visit.paid


@pytest.mark.parametrize("visit", ["500-charged-always"], indirect=True)
def test_charged_and_always_broken(visit: Visit) -> None:
    """Each call fails, and the payment is charged once."""
    assert [500, 500] == [visit.send().status_code, visit.send().status_code]
    assert PRICE == visit.paid


@pytest.mark.parametrize(("visit", "after"), [("lost", PRICE), ("lost-unpaid", 0)], indirect=["visit"])
def test_a_lost_answer_comes_the_second_time(visit: Visit, after: int) -> None:
    """The connection drops after or before the charge; the same payment then gets the image."""
    with pytest.raises(httpx.TransportError):
        visit.send()
    moved = visit.paid

    assert after == moved
    assert 200 == visit.send().status_code
    assert PRICE == visit.paid


@pytest.mark.parametrize("visit", ["lost-always"], indirect=True)
def test_an_answer_that_is_always_lost(visit: Visit) -> None:
    """The payment is charged once, and every response is lost."""
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            visit.send()

    assert PRICE == visit.paid


@pytest.mark.parametrize("visit", ["slow=0.1", "fail-job", "poll-504"], indirect=True)
def test_a_job_is_opened(visit: Visit) -> None:
    """The paid call gets a 202 and charges nothing."""
    assert 202 == visit.send().status_code
    assert 0 == visit.paid


@pytest.mark.parametrize("visit", ["poll-504=0"], indirect=True)
def test_the_first_poll_fails(visit: Visit) -> None:
    """The first poll gets a 504, the second one the image."""
    address = visit.send().json()["poll_url"]
    statuses = [visit.payer.poll(address, visit.header).status_code for _ in range(2)]

    assert [504, 200] == statuses


@pytest.mark.parametrize("visit", ["price-up"], indirect=True)
def test_the_price_is_ten_times_the_list(visit: Visit) -> None:
    """The challenge requests ten times the list price."""
    assert str(10 * PRICE) == visit.challenge["accepts"][0]["amount"]


@pytest.mark.parametrize(
    ("visit", "start"), [("url", "http://127.0.0.1"), ("data", "data:image/png;base64,")], indirect=["visit"]
)
def test_the_form_of_the_image(visit: Visit, start: str) -> None:
    """The image is a URL on the gateway, or a data URI."""
    assert visit.send().json()["data"][0]["url"].startswith(start)


@pytest.mark.parametrize("visit", ["b64"], indirect=True)
def test_the_image_as_plain_base64(visit: Visit) -> None:
    """The image is base64 in `b64_json`, as in OpenAI's API."""
    data = base64.b64decode(visit.send().json()["data"][0]["b64_json"])

    assert (512, 512) == Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize(("visit", "start"), [("html", b"<!doctype html"), ("svg", b"<svg")], indirect=["visit"])
def test_what_is_no_image(visit: Visit, start: bytes) -> None:
    """After the charge, the image's bytes are HTML or SVG."""
    assert visit.image().lower().lstrip().startswith(start)
    assert PRICE == visit.paid


@pytest.mark.parametrize("visit", ["html-error"], indirect=True)
def test_an_error_that_is_a_page(visit: Visit) -> None:
    """The error is an HTML page instead of JSON, and nothing is charged."""
    answer = visit.send()

    assert (502, 0) == (answer.status_code, visit.paid)
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("visit", ["truncated"], indirect=True)
def test_a_image_that_is_cut_off(visit: Visit) -> None:
    """The PNG lacks its end."""
    data = visit.image()

    assert data.startswith(b"\x89PNG")
    assert b"IEND" not in data


@pytest.mark.parametrize("visit", ["bomb"], indirect=True)
def test_a_image_that_claims_too_much(visit: Visit) -> None:
    """A small PNG claims 60000x60000 pixels."""
    data = visit.image()

    assert (60000).to_bytes(4, "big") * 2 == data[16:24]
    assert len(data) < 10_000


@pytest.mark.parametrize("visit", ["script"], indirect=True)
def test_a_script_in_the_revised_prompt(visit: Visit) -> None:
    """The revised prompt contains a script, which clients must escape."""
    assert "<script>alert(1)</script>" == visit.send().json()["data"][0]["revised_prompt"]


@pytest.mark.parametrize(("visit", "start"), [("file-url", "file:///"), ("foreign-url", "http")], indirect=["visit"])
def test_an_address_that_must_not_be_opened(visit: Visit, start: str) -> None:
    """The image's URL is a file or another host, which clients must refuse to open."""
    address = visit.send().json()["data"][0]["url"]

    assert address.startswith(start)
    assert "127.0.0.1" not in address


@pytest.mark.parametrize("visit", ["no-data"], indirect=True)
def test_an_answer_without_images(visit: Visit) -> None:
    """The payment is charged, and the list of images is empty."""
    assert not visit.send().json().get("data")
    assert PRICE == visit.paid


@pytest.mark.parametrize("visit", ["no-receipt"], indirect=True)
def test_an_answer_without_a_transaction(visit: Visit) -> None:
    """Neither the body nor the headers name a transaction."""
    answer = visit.send()

    assert "0x" not in str(answer.json().get("payment"))
    assert "X-Payment-Receipt" not in answer.headers
    assert PRICE == visit.paid


def test_every_trigger_is_tested_here() -> None:
    """The triggers tested here are exactly those of the table."""
    tested = {
        *BEFORE,
        *("429", "500-once", "429-always", "500-charged", "500-charged-always", "lost", "lost-unpaid", "lost-always"),
        *("slow", "fail-job", "poll-504", "price-up", "url", "data", "b64", "html", "svg", "html-error", "truncated"),
        *("bomb", "script", "file-url", "foreign-url", "no-data", "no-receipt"),
    }

    assert set(TRIGGERS) == tested
