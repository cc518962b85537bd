"""Answers of a gateway: images, jobs and errors, and harmless text."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import (
    BlockrunError,
    ContentPolicyViolation,
    GatewayError,
    InvalidResponse,
    JobFailed,
    PaymentRejected,
    RateLimited,
    RequestRejected,
    UpstreamFailed,
)
from blockrun_magic.gateway.gateways import gateway_named, practice_at
from blockrun_magic.gateway.responses import (
    CompletedJob,
    ImagePayload,
    PendingJob,
    Response,
    error_from_response,
    is_replay,
    is_transient,
    poll_address,
    read_answer,
)
from blockrun_magic.safejson import MAX_DEPTH, read_json
from blockrun_magic.text import sanitize
from fakes.gateway import picture_for

BASE = gateway_named("base")
PNG = b"\x89PNG and so on"
URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def answer(body: Any = None, status: int = 200, **headers: str) -> Response:
    """Return an answer with `body` as JSON; `_` in a header's name stands for `-`."""
    return Response(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()
    )


def items(*entries: Any, **more: Any) -> tuple[ImagePayload, ...]:
    """Return the images of a completed answer with these entries."""
    found = read_answer(answer({"created": 1, "data": list(entries), **more}))
    assert isinstance(found, CompletedJob)
    return found.items


# -- images


@pytest.mark.parametrize(
    ("entry", "item"),
    [
        ({"url": "https://cdn.example/1.png"}, ImagePayload(url="https://cdn.example/1.png")),
        ({"url": "https://x/1", "source_url": "https://y/1", "backed_up": True}, ImagePayload(url="https://x/1")),
        ({"url": URI}, PNG),
        ({"url": URI.replace("data:", "DATA:")}, PNG),
        ({"url": "data:;base64,AAAA"}, b"\0\0\0"),
        ({"b64_json": URI.partition(",")[2]}, PNG),
        ({"b64_json": URI.partition(",")[2], "url": None}, PNG),
        ({"b64_json": None, "url": "https://x/1"}, ImagePayload(url="https://x/1")),
        ({"url": "https://x/1", "revised_prompt": "a cat"}, ImagePayload(url="https://x/1", revised_prompt="a cat")),
        ({"url": "https://x/1", "revised_prompt": 7}, ImagePayload(url="https://x/1")),
    ],
)
def test_a_picture_comes_as_url_data_uri_or_base64(entry: dict[str, Any], item: ImagePayload | bytes) -> None:
    """Each form of an image in the protocol is read; other fields are ignored."""
    [found] = items(entry)

    assert item == (found.data if isinstance(item, bytes) else found)


def test_several_pictures_keep_their_order() -> None:
    """Images stay in the gateway's order."""
    urls = [f"https://cdn.example/{number}" for number in range(4)]

    assert urls == [item.url for item in items(*({"url": url} for url in urls), status="completed")]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        None,
        "https://cdn.example/1.png",
        {"url": ""},
        {"url": 1},
        {"url": None, "b64_json": ""},
        {"url": "data:image/png,plain"},
        {"url": "data:image/png;base64,not base64!"},
        {"b64_json": "AAAAA"},
        {"b64_json": "\u00e9\u00e9\u00e9\u00e9"},
    ],
)
def test_an_entry_without_image_stands_for_itself(entry: Any) -> None:
    """An entry without a readable image fails alone; the other images are delivered."""
    first, bad, last = items({"url": URI}, entry, {"url": URI})

    assert (PNG, PNG) == (first.data, last.data)
    with pytest.raises(InvalidResponse):
        _ = bad.data


@pytest.mark.parametrize("entries", [[{}], [None, 1, "x"], [{"url": ""}], [{"url": 1, "b64_json": []}]])
def test_a_list_without_any_image_is_an_error(entries: list[Any]) -> None:
    """An answer without any image causes an error."""
    with pytest.raises(InvalidResponse):
        items(*entries)


def test_no_more_images_than_were_asked_for() -> None:
    """Images beyond the number requested are ignored."""
    found = read_answer(answer({"data": [{"url": f"https://x/{number}"} for number in range(100)]}), 2)

    assert isinstance(found, CompletedJob)
    assert ["https://x/0", "https://x/1"] == [item.url for item in found.items]


LARGE = bytes(range(256)) * 8000
"""A large image: its base64 is longer than the limit for plain JSON."""


@pytest.mark.parametrize("written", ["plain", "escaped slashes", "escaped letters", "NaN beside it", "a BOM"])
@pytest.mark.parametrize("name", ["b64_json", "url"])
def test_a_large_image_is_sliced_out_of_its_body(written: str, name: str) -> None:
    """In every spelling of the JSON, the image's bytes and the short fields are read."""
    encoded = base64.b64encode(LARGE).decode()
    text = encoded if name == "b64_json" else f"data:image/png;base64,{encoded}"
    body = json.dumps({"data": [{name: text, "revised_prompt": "a cat"}] * 2, "status": "completed", "price": {"a": 1}})
    if written == "escaped slashes":
        body = body.replace("/", "\\/")
    elif written == "escaped letters":
        body = body.replace("AA", "\\u0041A")
    elif written == "NaN beside it":
        body = body.replace('"a": 1', '"a": NaN')
    found = Response(200, {}, (b"\xef\xbb\xbf" if written == "a BOM" else b"") + body.encode())
    job = read_answer(found)

    assert isinstance(job, CompletedJob)
    assert [(LARGE, "a cat")] * 2 == [(item.data, item.revised_prompt) for item in job.items]
    assert "completed" == found.json()["status"]


def test_an_image_is_decoded_once() -> None:
    """Reading the bytes twice makes no second copy, and the encoded body is released."""
    [item] = items({"url": URI})

    assert item.data is item.data
    assert item.encoded is None


@pytest.mark.parametrize(
    "body",
    [
        b'"b64_json":"",' * 600_000,
        b'{"data":[' + b"[]," * 3_000_000 + b"[]]}",
        b'{"data":[' + b'{"b64_json":"AAAA"},' * 400_000 + b"{}]}",
        b'{"status":[' + b"0," * 4_000_000 + b"0]}",
        b'{"data":' + b"[" * 2_000_000,
        b"{" + b'"a":1,' * 2_000_000 + b'"b":2}',
        b'{"data":' + b"[]" * 4_000_000 + b"}",
        b'{"data":' + b"[]" * 200 + b'""' * 4_000_000 + b"}",
    ],
    ids=["marks", "lists", "images", "a status", "depth", "fields", "no commas", "texts"],
)
def test_a_body_of_many_values_is_not_built(body: bytes) -> None:
    """Megabytes of other values are refused before Python objects are made of them."""
    tracemalloc.start()
    try:
        found = Response(200, {}, body)
        with pytest.raises(InvalidResponse):
            read_answer(found)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 32 * 1024 * 1024 > peak


def test_the_peak_of_a_large_data_uri() -> None:
    """Reading an image takes at most 2.4 times its size in memory: the body and the decoded bytes."""
    image = bytes(4_000_000)
    body = json.dumps({"data": [{"url": f"data:image/png;base64,{base64.b64encode(image).decode()}"}]}).encode()
    tracemalloc.start()
    try:
        job = read_answer(Response(200, {}, body))
        assert isinstance(job, CompletedJob)
        assert image == job.items[0].data
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 1.07 * len(image) > peak  # without the body, which is 1.33 times the image


def test_a_revised_prompt_is_plain_text() -> None:
    """A revised prompt is one line without control characters, of limited length."""
    [item] = items({"url": URI, "revised_prompt": "a \x1b[31mred\x07\ncat\u202e" + "!" * 10_000})

    assert item.revised_prompt is not None
    assert item.revised_prompt.startswith("a [31mred cat !")
    assert 4000 == len(item.revised_prompt)


# -- jobs


@pytest.mark.parametrize(
    ("body", "status", "pending"),
    [
        ({"id": "j", "status": "queued", "poll_url": "/api/v1/jobs/j"}, 202, PendingJob("queued", "/api/v1/jobs/j")),
        ({"status": "in_progress"}, 202, PendingJob("in_progress", None)),
        ({}, 202, PendingJob("queued", None)),
        ({"data": []}, 202, PendingJob("queued", None)),
        ({"id": "j", "status": "QUEUED", "poll_url": "/j"}, 200, PendingJob("queued", "/j")),
        ({"status": "queued", "poll_url": 5}, 202, PendingJob("queued", None)),
    ],
)
def test_a_job_is_pending(body: Any, status: int, pending: PendingJob) -> None:
    """A 202, or a 200 with a poll URL, is a pending job with its status and poll URL."""
    assert pending == read_answer(answer(body, status))


@pytest.mark.parametrize("status", ["failed", "error", "cancelled", "canceled", "expired", "FAILED"])
def test_a_failed_job_says_why(status: str) -> None:
    """A job that failed causes an error that names its status."""
    body = {"status": status, "error": {"message": "the model gave up"}, "payment_status": "not_charged"}

    with pytest.raises(JobFailed):
        read_answer(answer(body))
    with pytest.raises(JobFailed, match=status.lower()):
        read_answer(answer({"status": status, "data": [{"url": URI}]}))


@pytest.mark.parametrize(
    "body", [{}, {"data": []}, {"data": {}}, {"data": None}, {"status": "completed"}, {"data": "x"}]
)
def test_a_200_without_picture_is_an_error(body: Any) -> None:
    """An answer without an image or a job causes an error."""
    with pytest.raises(InvalidResponse):
        read_answer(answer(body))


@pytest.mark.parametrize("body", [b"", b"<html><script>alert(1)</script>", b"[1]", b"null", b"\xff\xfe", b"[" * 99_999])
@pytest.mark.parametrize("status", [200, 202])
def test_an_answer_without_json_is_an_error(body: bytes, status: int) -> None:
    """The error for an answer without JSON names its media type and shows none of its text."""
    with pytest.raises(InvalidResponse) as caught:
        read_answer(Response(status, {"content-type": "text/html; charset=utf-8"}, body))

    assert str(status) in caught.value.message
    assert "(text/html)" in caught.value.message
    assert "alert" not in caught.value.message


@pytest.mark.parametrize(
    "poll_url",
    [
        "/api/v1/images/jobs/j",
        "https://blockrun.ai/api/v1/images/jobs/j",
        "HTTPS://blockrun.ai/api/v1/images/jobs/j",
        "api/v1/images/jobs/j",
        "/x/../api/v1/images/jobs/j",
    ],
)
def test_a_job_on_the_gateway_is_polled_there(poll_url: str) -> None:
    """A path or URL on the gateway's origin becomes one absolute URL."""
    assert "https://blockrun.ai/api/v1/images/jobs/j" == poll_address(BASE, poll_url)


@pytest.mark.parametrize(
    "poll_url",
    [
        "https://evil.example/api/v1/jobs/j",
        "//evil.example/api/v1/jobs/j",
        "/\t/evil.example/j",
        "\n//evil.example/j",
        " //evil.example/j",
        "https://blockrun.ai@evil.example/j",
        "https://evil.example@blockrun.ai/j",
        "https://user:password@blockrun.ai/j",
        "https://blockrun.ai:8443/j",
        "http://blockrun.ai/api/v1/jobs/j",
        "https://blockrun.ai.evil.example/j",
        "https://api.blockrun.ai/j",
        "https://blockrun.ai\\@evil.example/j",
        "https://[::1",
        "ftp://blockrun.ai/j",
        "javascript:alert(1)",
        "data:,x",
    ],
)
def test_a_job_elsewhere_is_refused(poll_url: str) -> None:
    """A poll URL on another origin is refused: scheme, host and port must match, without a user."""
    with pytest.raises(InvalidResponse) as caught:
        poll_address(BASE, poll_url)

    assert caught.value.message.isprintable()


def test_a_job_without_place_cannot_be_collected() -> None:
    """A job without a poll URL causes an error."""
    with pytest.raises(InvalidResponse):
        poll_address(BASE, None)


@given(st.text(st.sampled_from("htps:/@.?#[]\\ \t\n\x01blockrunaievil0")) | st.text())
def test_any_poll_url_stays_on_the_gateway_or_is_refused(poll_url: str) -> None:
    """Every accepted poll URL is on the gateway's origin."""
    gateway = practice_at("http://127.0.0.1:8402/api")
    try:
        address = poll_address(gateway, poll_url)
    except InvalidResponse:
        return

    assert "http://127.0.0.1:8402" == address[: len(gateway.origin)]
    assert address[len(gateway.origin) : len(gateway.origin) + 1] in ("", "/", "?", "#")


# -- errors


@pytest.mark.parametrize(
    ("status", "kind", "transient"),
    [
        (400, RequestRejected, False),
        (401, RequestRejected, False),
        (402, PaymentRejected, False),
        (403, ContentPolicyViolation, False),
        (404, RequestRejected, False),
        (408, UpstreamFailed, True),
        (409, RequestRejected, False),
        (413, RequestRejected, False),
        (422, RequestRejected, False),
        (425, UpstreamFailed, True),
        (429, RateLimited, True),
        (500, UpstreamFailed, True),
        (501, UpstreamFailed, False),
        (502, UpstreamFailed, True),
        (503, UpstreamFailed, True),
        (504, UpstreamFailed, True),
        (301, RequestRejected, False),
        (599, UpstreamFailed, False),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        {"error": "the words of the gateway"},
        {"error": "Bad", "message": "the words of the gateway"},
        {"error": "Bad", "details": "the words of the gateway"},
        {"error": "Bad", "invalidMessage": "the words of the gateway"},
        {"reason": "the words of the gateway"},
        {"error": {"message": "the words of the gateway", "type": "invalid_request_error", "code": "x"}},
    ],
    ids=["text", "message", "details", "invalidMessage", "reason", "object"],
)
def test_a_status_is_an_error_with_the_gateways_words(
    status: int, kind: type[GatewayError], transient: bool, body: Any
) -> None:
    """Each status gives its error in two lines, with the gateway's message."""
    error = error_from_response(answer(body, status), BASE)

    assert kind is type(error)
    assert transient is is_transient(answer(body, status))
    assert "the words of the gateway" in error.message
    assert 2 == len(str(error).splitlines())


@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"error": 5}', b'{"error": {"message": []}}']
)
@pytest.mark.parametrize("status", [400, 402, 403, 429, 502])
def test_an_error_without_words_is_still_a_sentence(status: int, body: bytes) -> None:
    """If the gateway gives no readable message, the line ends after our own text."""
    error = error_from_response(Response(status, {}, body), BASE)

    assert error.message.endswith(".")
    assert "html" not in error.message
    assert ":" not in error.message


def test_the_same_words_are_said_once() -> None:
    """A message that the gateway repeats in several fields is shown once."""
    body = {"error": "no such model", "message": "no such model", "details": "try flux."}

    error = error_from_response(answer(body, 400), BASE)

    assert error.message.endswith(": no such model — try flux.")
    assert 1 == error.message.count("no such model")


def test_who_limits_is_named() -> None:
    """The error for a 429 names the source of the limit if the gateway does."""
    error = error_from_response(answer({"error": "slow down"}, 429, x_ratelimit_source="upstream\x1b[0m"), BASE)

    assert "(upstream [0m): slow down." in error.message


EVIL = "\x1b]0;title\x07\x1b[2J\r\n\u202egnp.exe\x00\u2028\x9b31m<script>alert(1)</script>"


@pytest.mark.parametrize("status", [400, 402, 403, 408, 429, 500])
@pytest.mark.parametrize("shape", [lambda text: {"error": text}, lambda text: {"error": {"message": text}}])
def test_an_error_cannot_paint_the_terminal(status: int, shape: Any) -> None:
    """Control characters, terminal escapes and reversed text are removed, and long text is cut."""
    error = error_from_response(answer(shape(EVIL + "x" * 100_000), status, x_ratelimit_source=EVIL), BASE)

    assert error.message.isprintable()
    assert 400 > len(error.message)


TEXTS = st.text() | st.just(EVIL)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "status": ANY | st.sampled_from(["failed", "queued", "completed"]),
        "poll_url": ANY,
        "error": ANY | st.fixed_dictionaries({"message": ANY, "code": ANY, "details": ANY}),
        "message": ANY,
        "details": ANY,
        "code": ANY,
        "retry_after_seconds": ANY,
        "data": ANY | st.lists(st.fixed_dictionaries({"url": ANY, "b64_json": ANY, "revised_prompt": ANY}), max_size=2),
    },
)


@given(BODIES | ANY, st.integers(min_value=100, max_value=599), st.text(max_size=20))
def test_any_answer_is_read_or_refused_in_printable_lines(body: Any, status: int, text: str) -> None:
    """Any JSON gives images, a job or an error of ours, with printable text."""
    given_answer = answer(body, status, retry_after=text, content_type=text, x_ratelimit_source=text, date=text)
    is_replay(given_answer)
    waiting = given_answer.retry_after
    assert isinstance(given_answer.date, float | None)
    errors: list[BlockrunError] = [error_from_response(given_answer, BASE)]
    try:
        found = read_answer(given_answer)
    except (InvalidResponse, JobFailed) as error:
        errors.append(error)
    else:
        assert isinstance(found, CompletedJob) or found.status.isprintable()

    assert all(line.isprintable() for error in errors for line in (error.message, error.hint))
    assert waiting is None or 0 <= waiting <= 120


# -- waiting times


@pytest.mark.parametrize(
    ("header", "body", "seconds"),
    [
        ("7", {}, 7.0),
        ("0", {}, 0.0),
        ("1.5", {}, 1.5),
        ("7", {"retry_after_seconds": 9}, 7.0),
        (None, {"retry_after_seconds": 9}, 9.0),
        (None, {"retry_after_seconds": "2.5"}, 2.5),
        ("soon", {"retry_after_seconds": 9}, 9.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, None),
        ("3600", {}, 120.0),
        ("1e9", {}, 120.0),
        ("-1", {}, None),
        ("nan", {}, None),
        ("inf", {"retry_after_seconds": float("inf")}, None),
        ("", {"retry_after_seconds": None}, None),
        (None, {"retry_after_seconds": [5]}, None),
        (None, {"retry_after_seconds": True}, None),
        (None, [], None),
        (None, None, None),
    ],
)
def test_how_long_to_wait(header: str | None, body: Any, seconds: float | None) -> None:
    """The header counts first, then the body; invalid values are ignored, and the maximum is two minutes."""
    headers = {} if header is None else {"retry_after": header}

    assert seconds == answer(body, 429, **headers).retry_after


@pytest.mark.parametrize(
    ("until", "seconds"), [("08:00:07", 7.0), ("08:00:00", 0.0), ("07:59:00", 0.0), ("09:00:00", 120.0)]
)
def test_a_date_counts_from_the_date_of_the_answer(until: str, seconds: float) -> None:
    """A date in the header is relative to the server's clock."""
    now = "Fri, 15 Jan 2027 08:00:00 GMT"

    assert seconds == answer({}, 429, retry_after=f"Fri, 15 Jan 2027 {until} GMT", date=now).retry_after


@pytest.mark.parametrize(
    ("header", "time"),
    [
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 08:00:00 GMT", 1_800_000_000.0),
        ("yesterday", None),
        ("", None),
        ("Fri, 99 Jan 2027 08:00:00 GMT", None),
        ("Fri, 15 Jan 99999 08:00:00 GMT", None),
        (None, None),
    ],
)
def test_the_servers_own_clock(header: str | None, time: float | None) -> None:
    """The date of an answer is read if it has a valid one."""
    assert time == answer({}, **({} if header is None else {"date": header})).date


@pytest.mark.parametrize(
    "body",
    [
        {"error": "Payment rejected", "code": "PAYMENT_REPLAY"},
        {"error": {"message": "used already", "code": "PAYMENT_REPLAY"}},
        {"error": "PAYMENT_REPLAY"},
    ],
)
def test_a_replay_is_known(body: Any) -> None:
    """The code of a replayed authorization is recognized in every form."""
    assert is_replay(answer(body, 402))


@pytest.mark.parametrize(
    "body", [{}, {"code": "EXPIRED"}, {"error": {}}, {"code": ["PAYMENT_REPLAY"]}, [], "PAYMENT_REPLAY"]
)
def test_other_rejections_are_no_replay(body: Any) -> None:
    """Any other answer is not a replay, which would suggest that money has moved."""
    assert not is_replay(answer(body, 402))


# -- text


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        ("a cat", 10, "a cat"),
        ("  a \n\t cat ", 10, "a cat"),
        ("x" * 11, 10, "x" * 9 + "…"),
        ("x" * 10, 10, "x" * 10),
        ("\x1b[31m", 10, "[31m"),
        ("море 🌊", 10, "море 🌊"),
        (7, 10, "7"),
        (None, 10, "None"),
    ],
)
def test_text_is_made_plain(value: Any, limit: int, text: str) -> None:
    """The text becomes one line without control characters, cut with an ellipsis."""
    assert text == sanitize(value, limit)


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_plain_text_is_printable_and_short(text: str, limit: int) -> None:
    """Sanitized text is printable and not longer than allowed."""
    shown = sanitize(text, limit)

    assert limit >= len(shown)
    assert shown.isprintable()


# -- JSON from servers


def test_deep_nesting_does_no_harm_where_the_recursion_limit_was_raised() -> None:
    """A deeply nested body does not end the process, as it would with Python's own reader."""
    program = """if True:
        import sys
        sys.setrecursionlimit(10**6)
        from blockrun_magic.errors import TermsRefused
        from blockrun_magic.gateway.responses import Response
        from blockrun_magic.payments.x402.protocol import read_challenge
        for body in (b"[" * 200_000, b'{"a":' * 200_000, b'{"accepts": ' + b"[" * 200_000):
            assert Response(200, {}, body).json() is None
            try:
                read_challenge({}, body)
            except TermsRefused:
                print("refused")
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (0, ["refused"] * 3) == (done.returncode, done.stdout.split()), done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH,
        json.dumps("[{" * 10_000),
        json.dumps('"[' * 10_000),
        json.dumps([{}] * 10_000),
        json.dumps(["\\" * 999 + '"', "[" * 500]),
    ],
    ids=["deepest", "objects", "in a string", "between quotes", "flat", "after backslashes"],
)
def test_brackets_in_a_text_are_not_depth(text: str) -> None:
    """Brackets inside a string do not count as depth, and neither do many flat objects."""
    assert json.loads(text) == read_json(text.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * 200_000,
        b'"' + b"[" * 500,
        b'"' + b'\\"' * 50_000 + b"[" * 500,
        json.dumps("[" * 500).encode("utf-16"),
        b'"\xff"',
        b"",
    ],
    ids=["deeper", "endless", "open string", "open string of escapes", "UTF-16", "latin-1", "nothing"],
)
def test_absurd_json_is_a_value_error(raw: bytes) -> None:
    """JSON that is nested too deeply, incomplete or not UTF-8 causes a ValueError."""
    with pytest.raises(ValueError, match=r"deep|decode|Expecting|Unterminated"):
        read_json(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_honest_json_is_read_as_it_is(value: Any) -> None:
    """Normal JSON is read unchanged, whatever its strings contain."""
    assert value == read_json(json.dumps(value).encode())
    assert value == read_json(b"\xef\xbb\xbf" + json.dumps([value]).encode())[0]


# -- other x402 endpoints

_PNG = picture_for("a heron")
_BARE = base64.b64encode(_PNG).decode()
_URI = f"data:image/png;base64,{_BARE}"
_URL = "https://cdn.example.com/1.png"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"image": _BARE}, [_PNG]),
        ({"image": _URI}, [_PNG]),
        ({"image": _URL}, [_URL]),
        ({"image": {"url": _URL}}, [_URL]),
        ({"image": {"base64": _BARE}}, [_PNG]),
        ({"images": [{"url": _URL}, {"url": _URI}]}, [_URL, _PNG]),
        ({"images": [_URI, _URL]}, [_PNG, _URL]),
        ({"images": [{"url": _URL, "width": 64, "content_type": "image/png"}], "timings": {}}, [_URL]),
        ({"output": [_URL]}, [_URL]),
        ({"output": [_BARE]}, [_PNG]),
        ({"output": _URL, "status": "succeeded"}, [_URL]),
        ({"url": _URL}, [_URL]),
        ({"url": _URI}, [_PNG]),
        ({"data": [{"url": _URL}], "url": "https://example.com/page"}, [_URL]),
        ({"data": [], "images": [{"b64_json": _BARE}]}, [_PNG]),
        ({"success": True, "image": _BARE, "url": _URL}, [_PNG]),
        ({"data": {"url": _URL}}, [_URL]),
        ({"data": {"images": [{"url": _URL}]}}, [_URL]),
        ({"data": [_URI, _BARE]}, [_PNG, _PNG]),
        ({"output": {"images": [_URL]}}, [_URL]),
        ({"output": [{"image": {"url": _URL}}]}, [_URL]),
        ({"result": {"url": f" {_URL} "}}, [_URL]),
        ({"results": [{"image_url": _URI}]}, [_PNG]),
        ({"b64_json": _BARE}, [_PNG]),
        ({"artifacts": [{"base64": _BARE, "seed": 1}]}, [_PNG]),
        ([{"url": _URL}], [_URL]),
        (_URI, [_PNG]),
        (_URL, [_URL]),
    ],
)
def test_images_of_other_endpoints_are_read(content: Any, expected: list[Any]) -> None:
    """A paid image is delivered in each of the common forms."""
    found = read_answer(Response(200, {"content-type": "application/json"}, json.dumps(content).encode()), 4)

    assert isinstance(found, CompletedJob)
    assert expected == [item.url or item.data for item in found.items]


@pytest.mark.parametrize(
    "encoded",
    [
        _URI,
        f" {_URI}",
        "\r\n".join(_BARE[start : start + 20] for start in range(0, len(_BARE), 20)),
        _BARE.rstrip("="),
        _BARE.replace("+", "-").replace("/", "_"),
        _URI.replace("png;", "png;charset=utf-8;"),
    ],
)
def test_base64_is_read_however_it_is_written(encoded: str) -> None:
    """Base64 may be a data URI, have line breaks, lack padding or use the URL alphabet."""
    found = read_answer(Response(200, {}, json.dumps({"data": [{"b64_json": encoded}]}).encode()), 1)

    assert isinstance(found, CompletedJob)
    assert [_PNG] == [item.data for item in found.items]


@pytest.mark.parametrize("media_type", ["image/png", "IMAGE/PNG; x=1", "application/octet-stream", ""])
def test_the_bytes_of_an_image_are_an_answer(media_type: str) -> None:
    """The body may be the image itself, recognized by its media type or its first bytes."""
    found = read_answer(Response(200, {"content-type": media_type}, _PNG), 1)

    assert isinstance(found, CompletedJob)
    assert [_PNG] == [item.data for item in found.items]


@pytest.mark.parametrize(
    "content",
    [
        {"image": ""},
        {"image": 7},
        {"images": []},
        {"images": [None, 7, {}]},
        {"output": [[]]},
        {"output": "done"},
        {"data": "x"},
        ["x", 7, None],
        {"result": {"result": {"result": {"result": {"result": {"url": _URL}}}}}},
        {"url": None},
        {"url": "data:text/plain,hello"},
    ],
)
def test_a_shape_without_an_image_is_an_error(content: Any) -> None:
    """A body without an image causes an error."""
    with pytest.raises(InvalidResponse):
        read_answer(Response(200, {}, json.dumps(content).encode()), 1)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (202, {"status": "queued", "url": _URL}),
        (200, {"status": "queued", "poll_url": "/api/v1/images/generations/j", "url": _URL}),
    ],
)
def test_a_job_with_an_address_of_its_own_is_still_a_job(status: int, content: Any) -> None:
    """The `url` of a pending job is not an image."""
    assert isinstance(read_answer(Response(status, {}, json.dumps(content).encode()), 1), PendingJob)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"error": "Invalid request", "details": [{"path": ["size"], "message": "Unsupported size"}]},
            "Invalid request — size: Unsupported size",
        ),
        (
            {"error": "Invalid", "details": [{"path": ["image", 0], "message": "too small"}, {"message": "n > 10"}]},
            "Invalid — image.0: too small — n > 10",
        ),
        ({"error": {"message": "Bad", "details": [{"path": "n", "message": "not a number"}]}}, "Bad — n: not a number"),
        ({"error": "Bad", "details": ["one", 7, {"path": []}, None]}, "Bad — one"),
    ],
)
def test_the_reasons_of_a_400_are_shown(content: Any, words: str) -> None:
    """The error names each faulty field with the gateway's message."""
    error = error_from_response(Response(400, {}, json.dumps(content).encode()), gateway_named("base"))

    assert words in error.message
