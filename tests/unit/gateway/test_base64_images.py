"""Pictures inside an answer: decoded where they stand, and never mistaken."""

from __future__ import annotations

import base64
import json

import pytest

from blockrun_magic.gateway.base64_images import lift_pictures
from blockrun_magic.gateway.responses import CompletedJob, Response, read_answer

PICTURE = bytes(range(256)) * 80
ENCODED = base64.b64encode(PICTURE).decode()


def data_of(body: bytes) -> list[bytes | None]:
    """Return the pictures that an answer with this body brings."""
    found = read_answer(Response(200, {}, body))

    assert isinstance(found, CompletedJob)
    return [item.data for item in found.items]


@pytest.mark.parametrize(
    "entry",
    [
        {"url": f"data:image/png;base64,{ENCODED}"},
        {"b64_json": ENCODED},
        {"revised_prompt": 'a "fox", said @0', "url": f"data:image/png;base64,{ENCODED}", "b64_json": ""},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_picture_is_lifted_out_of_its_text(entry: dict[str, str], separators: tuple[str, str]) -> None:
    """What is left to parse is short, and the bytes are the picture's."""
    body = json.dumps({"data": [entry, entry]}, separators=separators).encode()
    rest, pictures = lift_pictures(body)

    assert len(rest) < 500
    assert [PICTURE, PICTURE] == list(pictures.values()) == data_of(body)


@pytest.mark.parametrize(
    "encoded",
    [ENCODED.replace("/", "\\/"), ENCODED[:4000], ENCODED.replace("A", "\\u0041")],
    ids=["escaped slashes", "short", "escaped letters"],
)
def test_what_cannot_be_lifted_is_read_as_any_text(encoded: str) -> None:
    """Base64 that JSON has escaped, or that is short, is decoded all the same."""
    body = b'{"data":[{"url":"data:image/png;base64,' + encoded.encode() + b'"}]}'
    rest, pictures = lift_pictures(body)

    assert (body, {}) == (rest, pictures)
    assert [base64.b64decode(json.loads(f'"{encoded}"'))] == data_of(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'"b64_json":', b'"b64_json":"', b";base64,", b";base64," + b"A" * 20_000, b'\xff;base64,"' * 9],
)
def test_what_is_no_json_stays_as_it_is(body: bytes) -> None:
    """Cut or senseless bodies are given back untouched, and bring no picture."""
    assert (body, {}) == lift_pictures(body)
    assert Response(200, {}, body).json() is None


def test_a_name_that_names_no_picture_is_not_believed() -> None:
    """A gateway that writes @0 itself has sent no picture."""
    answer = Response(200, {}, b'{"data":[{"b64_json":"@0"}]}')

    assert answer.picture("@0") is None
