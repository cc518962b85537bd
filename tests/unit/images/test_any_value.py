"""Any value as an image or a mask gives an upload or an error of ours, and no other exception."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from blockrun_magic.errors import SourceError
from blockrun_magic.gateway.request import Upload
from blockrun_magic.images.conversion import to_upload
from blockrun_magic.images.source import read_mask, read_upload
from harness.corpus import Sample, card, encoded, samples

SAMPLES = list(samples())
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
MODES = (*ALPHA_MODES, "1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16")
DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "complex64")
_CHANNELS = {"LA": 2, "La": 2, "PA": 2, "RGB": 3, "YCbCr": 3, "HSV": 3, "LAB": 3, "I;16": 2}


async def no_fetch(url: str) -> bytes:
    """Fail: the test needs no network."""
    raise AssertionError(url)


def read(value: object, *, mask: bool) -> Upload | None:
    """Return the upload of a source or a mask, or None if it is refused."""
    try:
        if mask:
            return asyncio.run(read_mask(value, to_upload(card(size=(6, 4))), no_fetch))
        return asyncio.run(read_upload(value, no_fetch))
    except SourceError as error:
        assert len(str(error).splitlines()) == 2  # noqa: PT017  an upload and a refusal are both valid
        return None


def seen(upload: Upload | None) -> Image.Image | None:
    """Return the uploaded image."""
    if upload is None:
        return None
    image = Image.open(io.BytesIO(upload.data))
    image.load()
    return image


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    """Return an image of 6 x 4 with any mode and any values."""
    mode = draw(st.sampled_from(MODES))
    size = 4 if mode == "1" else 24 * _CHANNELS.get(mode, 1 if mode in {"L", "P"} else 4)
    content = draw(
        st.binary(min_size=size, max_size=size) | st.sampled_from([bytes(size), b"\1" * size, b"\xff" * size])
    )
    return Image.frombytes(mode, (6, 4), content)


@settings(max_examples=150)
@given(images(), st.booleans())
def test_any_pil_image_is_an_upload_or_our_error(image: Image.Image, mask: bool) -> None:
    """An uploaded mask is gray and has a bright pixel."""
    arrived = seen(read(image, mask=mask))

    assert arrived is None or (6, 4) == arrived.size
    assert not mask or arrived is None or ("L" == arrived.mode and max(arrived.tobytes()) >= 128)


@settings(max_examples=150)
@given(
    arrays.arrays(st.sampled_from(DTYPES), st.sampled_from([(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4), (3, 4, 6), (4,)])),
    st.booleans(),
)
@example(np.eye(4, 3, dtype="bool")[np.arange(24).reshape(4, 6) % 4], True)  # red, green, blue and black
def test_any_array_is_an_upload_or_our_error(array: np.ndarray, mask: bool) -> None:
    """Arrays may contain NaN, infinities and negative values."""
    arrived = seen(read(array, mask=mask))

    assert arrived is None or arrived.mode in {"L", "RGB", "RGBA"}


@settings(max_examples=100)
@given(st.sampled_from(SAMPLES), st.data())
def test_any_damage_is_an_upload_or_our_error(sample: Sample, data: st.DataObject) -> None:
    """A file with changed bytes or a missing end gives an upload or an error of ours."""
    at = data.draw(st.integers(0, len(sample.data) - 1))
    byte = data.draw(st.binary(max_size=3))
    damaged = sample.data[:at] + byte + data.draw(st.sampled_from([sample.data[at + 1 :], b""]))
    arrived = seen(read(damaged, mask=False))

    assert arrived is None or min(arrived.size) > 0


@pytest.mark.parametrize(
    "value", [None, 5, 1.5, object(), [], {}, (), "", "no such file", lambda: None, int, np.float64(1), b"", {1: 2}]
)
@pytest.mark.parametrize("mask", [False, True])
def test_what_is_no_image_is_our_error(value: Any, mask: bool) -> None:
    """Numbers, text, functions, types and empty values are refused."""
    assert read(value, mask=mask) is None


def test_a_stream_stays_where_it_was() -> None:
    """Reading an open file does not change its position."""
    stream = io.BytesIO(encoded(card(), "PNG"))
    stream.seek(7)

    assert read(stream, mask=False) is not None
    assert 7 == stream.tell()
