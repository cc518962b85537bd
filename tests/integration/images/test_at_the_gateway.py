"""Images at the gateway: the pixels that arrive equal the pixels in a viewer, for every kind of source."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import importlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import pytest
from IPython.display import Image as DisplayImage
from PIL import ExifTags, Image, ImageFile, ImageOps
from starlette.responses import JSONResponse

from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.gateway.gateways import practice_at
from blockrun_magic.images import conversion
from blockrun_magic.images.source import MAX_UPLOAD_SIDE, read_upload
from blockrun_magic.notebook.cells.parser import parse
from blockrun_magic.notebook.cells.plan import apply_defaults, build_requests, plan_requests
from blockrun_magic.notebook.settings import Settings
from blockrun_magic.practice.server.server import PracticeServer
from fakes.gateway import studio_over
from harness.corpus import SIZE, Sample, card, encoded, exif_of, samples, shown_as, turned

if TYPE_CHECKING:
    from starlette.responses import Response

    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.practice.server.hook import Exchange

SAMPLES = list(samples())
_TOLERANCE = 14
_TAKEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Recorder:
    """A practice gateway that records paid edits and answers them with an error."""

    def __init__(self) -> None:
        self.requests: list[ImageRequest] = []
        self.server = PracticeServer(hook=self._note)

    async def _note(self, point: str, exchange: Exchange) -> Response | None:
        if point != "paid":
            return None
        assert exchange.request is not None
        self.requests.append(exchange.request)
        return JSONResponse({"error": "noted"}, 400)

    def edit(self, folder: Path, line: str, namespace: dict[str, object]) -> ImageRequest:
        """Run an edit like a cell, and return the request that arrived; raises SourceError."""

        async def run() -> None:
            async with studio_over(folder) as studio:
                gateway = practice_at(self.server.url)
                catalog = studio.catalogs.at(gateway)
                flags = apply_defaults("img2img", parse("img2img", line, "at night"), Settings(), catalog)
                plan = plan_requests("img2img", flags, catalog, namespace, folder)
                [request] = await build_requests(plan, studio.fetch)
                self.notes = [image.note for image in request.images]
                await studio.make(request, gateway)

        before = len(self.requests)
        try:
            asyncio.run(run())
        except SourceError:
            assert len(self.requests) == before
            raise
        except BlockrunError:
            assert len(self.requests) == before + 1
        return self.requests[-1]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """Run a gateway that records edits."""
    recorder = Recorder()
    with recorder.server:
        yield recorder


@pytest.fixture
def sent(recorder: Recorder, tmp_path: Path) -> Any:
    """Return a function that edits a source and returns the image that arrived."""

    def send(source: object, flags: str = "") -> Image.Image:
        line = f"--image {source}" if isinstance(source, Path) else "--image x"
        request = recorder.edit(tmp_path, f"--model gpt-image {line} {flags}", {"x": source})
        image = Image.open(io.BytesIO(request.images[0].data))
        image.load()
        return image

    return send


def assert_shows(expected: Image.Image, arrived: Image.Image) -> None:
    """Compare size and colors, with the tolerance of lossy formats."""
    size, colors = shown_as(expected)
    arrived_size, arrived_colors = shown_as(arrived)

    assert size == arrived_size
    for color, arrived_color in zip(colors, arrived_colors, strict=True):
        assert all(abs(one - other) <= _TOLERANCE for one, other in zip(color, arrived_color, strict=True))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_file_arrives_as_it_is_shown(sample: Sample, sent: Any, recorder: Recorder, tmp_path: Path) -> None:
    """The first frame arrives in eight bits, in sRGB and upright, without its metadata."""
    path = tmp_path / "photo"
    path.write_bytes(sample.data)
    arrived = sent(path)

    assert_shows(sample.shown, arrived)
    assert arrived.format in {"PNG", "JPEG", "WEBP"}
    assert arrived.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}
    assert 1 == getattr(arrived, "n_frames", 1)
    assert not dict(arrived.getexif())
    assert "icc_profile" not in arrived.info
    assert b"Person" not in recorder.requests[-1].images[0].data


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_plain_file_arrives_byte_for_byte(form: str, recorder: Recorder, tmp_path: Path) -> None:
    """A file that needs no change is not encoded again."""
    data = encoded(card(), form)
    request = recorder.edit(tmp_path, "--model gpt-image --image x", {"x": data})

    assert data == request.images[0].data


def holders() -> Iterator[tuple[str, object]]:
    """Yield a photo with EXIF rotation in every kind of value that can hold a file."""
    data = encoded(turned(card(), 6), "JPEG", quality=95, exif=exif_of(6, place=True))
    folder = Path(tempfile.mkdtemp())
    path = folder / "photo.jpg"
    path.write_bytes(data)
    stream = io.BytesIO(data)
    stream.read()
    yield "bytes", data
    yield "bytearray", bytearray(data)
    yield "Path", path
    yield "str", str(path)
    yield "data URI", f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    yield "BytesIO", stream
    yield "open file", path.open("rb")
    yield "PIL file", Image.open(path)
    yield "PIL copy", Image.open(path).convert("RGB")
    yield "PIL resized", Image.open(path).resize((SIZE[1], SIZE[0]))
    yield "PIL upright", ImageOps.exif_transpose(Image.open(path))
    yield "IPython data", DisplayImage(data=data)
    yield "IPython file", DisplayImage(filename=str(path))
    text = base64.b64encode(data).decode()
    yield "base64, as OpenAI's b64_json", text
    yield "base64 as bytes", base64.encodebytes(data)
    yield "data URI that is not padded", f"\n data:image/jpeg;base64,{text.rstrip('=')}\n"
    yield "file URL", path.as_uri()
    yield "image widget", widgets.Image(value=data)
    upload = widgets.FileUpload()
    upload.value = ({"name": "a.jpg", "type": "image/jpeg", "size": 1, "content": data, "last_modified": _TAKEN},)
    yield "upload widget", upload
    yield "bundle", Bundle(data)


class Bundle:
    """An object that gives a notebook all its formats at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        return {"text/plain": "a photo", "image/jpeg": self._data}


HOLDERS = list(holders())


@pytest.mark.parametrize(("name", "holder"), HOLDERS, ids=[name for name, _ in HOLDERS])
def test_a_photo_is_upright_whatever_holds_it(name: str, holder: object, sent: Any) -> None:
    """Files, bytes, streams, data URIs, PIL images and IPython's display objects give an upright photo."""
    assert_shows(card(), sent(holder))


def test_a_photo_that_was_turned_by_hand_stays_as_it_is(sent: Any) -> None:
    """PIL keeps the tag on a rotated copy; the camera's own size shows that it was rotated."""
    exif = exif_of(6)
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.ExifImageWidth: SIZE[1], ExifTags.Base.ExifImageHeight: SIZE[0]}
    )
    photo = Image.open(io.BytesIO(encoded(turned(card(), 6), "JPEG", quality=95, exif=exif)))
    by_hand = photo.transpose(Image.Transpose.ROTATE_270)

    assert SIZE == by_hand.size
    assert_shows(card(), sent(by_hand))
    assert_shows(card(), sent(photo))
    assert_shows(card(), sent(photo.copy()))


def test_what_ipython_shows_from_a_url_is_fetched() -> None:
    """A display object with only a URL is read from the URL."""
    asked: list[str] = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return encoded(card(), "PNG")

    upload = asyncio.run(read_upload(DisplayImage(url="https://example.org/a.png"), fetch))

    assert ["https://example.org/a.png"] == asked
    assert_shows(card(), Image.open(io.BytesIO(upload.data)))


def arrays() -> Iterator[tuple[str, object]]:
    """Yield the card as arrays and objects of every kind."""
    values = np.asarray(card())
    yield "uint8", values
    yield "int64", values.astype("int64")
    yield "floats to 1", values / 255
    yield "floats to 255", values.astype("float32")
    yield "float16 to 1", (values / 255).astype("float16")
    yield "uint16", values.astype("uint16") * 257
    yield "a view", np.asarray(card().transpose(Image.Transpose.FLIP_LEFT_RIGHT))[:, ::-1]
    yield "a tensor", Tensor(values / 255)
    yield "a drawing", Drawing()
    yield "a result", Result()


class Tensor:
    """An array of another library: torch and TensorFlow give their values like this."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return self._values.shape

    def __array__(self, dtype: object = None, *, copy: bool | None = None) -> np.ndarray:
        return self._values


class Drawing:
    """An object that gives notebooks a JPEG."""

    def _repr_jpeg_(self) -> bytes:
        return encoded(card(), "JPEG", quality=95)


class Result:
    """The part of a result that these tests use."""

    image = card()


@pytest.mark.parametrize(("name", "value"), list(arrays()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_value_arrives_as_it_is_shown(name: str, value: object, sent: Any) -> None:
    """Arrays in their ranges, tensors, drawings and results arrive with the same pixels."""
    assert_shows(card(), sent(value))


def test_a_figure_arrives_as_it_is_shown(sent: Any) -> None:
    """A matplotlib figure is drawn as a PNG; axes, which pandas and seaborn return, stand for their figure."""
    figure_module = importlib.import_module("matplotlib.figure")
    figure = figure_module.Figure(figsize=(0.48, 0.64), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.asarray(card()), aspect="auto")
    axes.axis("off")

    for holder in (figure, axes, axes.images[0], figure.subfigures()):
        assert_shows(card(), sent(holder))


def test_an_object_that_cannot_be_drawn_is_our_error(sent: Any) -> None:
    """Any error of the user's own code becomes a SourceError."""

    class Broken:
        def _repr_png_(self) -> bytes:
            raise ZeroDivisionError

    with pytest.raises(SourceError):
        sent(Broken())


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_modern_formats_arrive_as_they_are_shown(form: str, orientation: int, sent: Any) -> None:
    """HEIC needs pillow-heif, and AVIF needs a Pillow with AVIF."""
    Image.init()
    if form == "HEIF":
        importlib.import_module("pillow_heif").register_heif_opener()
    elif form not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    stored = turned(card(), orientation)

    assert_shows(card(), sent(encoded(stored, form, quality=95, exif=exif_of(orientation).tobytes())))


def test_settings_of_pillow_change_nothing(sent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's settings change nothing here or at the practice gateway, which runs in the same process."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(SourceError):
        sent(encoded(card(), "JPEG")[:-200])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000_000)

    assert_shows(card(), sent(encoded(card(), "WEBP", lossless=True)))


@pytest.mark.parametrize("level", range(1, 8))
def test_sixteen_bits_become_eight(level: int, sent: Any) -> None:
    """A gradient of sixteen bits arrives as the same gradient."""
    ramp = Image.linear_gradient("L").resize((64, 256)).convert("I").point(lambda value: value * 257).convert("I;16")
    arrived = sent(encoded(ramp, "PNG"))

    assert abs(level * 32 - arrived.convert("L").getpixel((10, level * 32))) <= 1


# Masks


def top_white(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a mask that allows changes in the upper half."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0], size[1] // 2))
    return mask


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned_mask", [False, True])
def test_a_mask_lies_on_what_is_shown(orientation: int, turned_mask: bool, recorder: Recorder, tmp_path: Path) -> None:
    """An upright mask and a mask with the photo's orientation both fit the photo, for every orientation."""
    photo = encoded(turned(card(), orientation), "JPEG", quality=95, exif=exif_of(orientation))
    stored = encoded(turned(top_white(), orientation), "PNG", exif=exif_of(orientation))
    request = recorder.edit(
        tmp_path,
        "--model gpt-image --image photo --mask mask",
        {"photo": photo, "mask": stored if turned_mask else top_white()},
    )

    assert request.mask is not None
    mask = Image.open(io.BytesIO(request.mask.data))
    assert_shows(card(), Image.open(io.BytesIO(request.images[0].data)))
    assert (SIZE, "L", top_white().tobytes()) == (mask.size, mask.mode, mask.tobytes())


def test_every_source_is_upright(recorder: Recorder, tmp_path: Path) -> None:
    """The second of two sources is turned like the first."""
    photo = encoded(turned(card(), 8), "JPEG", quality=95, exif=exif_of(8))
    request = recorder.edit(tmp_path, "--model gpt-image --image a --image b", {"a": card(), "b": photo})

    for upload in request.images:
        assert_shows(card(), Image.open(io.BytesIO(upload.data)))


# Sizes


def large(width: int = MAX_UPLOAD_SIDE + 200) -> Image.Image:
    """Return an image above the limit that is quick to encode."""
    return card().convert("L").resize((width, MAX_UPLOAD_SIDE), Image.Resampling.NEAREST)


@pytest.mark.parametrize("kind", ["PIL", "array", "JPEG", "path"])
def test_a_source_over_the_limit_is_refused_or_shrunk(kind: str, sent: Any, recorder: Recorder, tmp_path: Path) -> None:
    """Files and variables have the same limit, checked before encoding; --shrink reduces the image with a note."""
    image = large()
    source: Any = image
    if kind == "array":
        source = np.asarray(image)
    elif kind != "PIL":
        source = encoded(image, kind) if kind == "JPEG" else encoded(image, "PNG", compress_level=1)
    if kind == "path":
        (tmp_path / "large.png").write_bytes(source)
        source = tmp_path / "large.png"
    with pytest.raises(SourceError, match="--shrink") as caught:
        sent(source)
    shrunk = sent(source, "--shrink")

    assert "17.6 megapixels" in caught.value.message
    assert shrunk.width * shrunk.height <= MAX_UPLOAD_SIDE**2
    assert shown_as(card().convert("L"))[1][0] == pytest.approx(shown_as(shrunk)[1][0], abs=_TOLERANCE)
    assert all(recorder.notes)


def test_a_large_noisy_image_is_the_same_request_when_it_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its PNG would exceed the limit of bytes, so it is sent in a lossy format; its digest is that of these bytes."""
    monkeypatch.setattr(conversion, "MAX_UPLOAD_BYTES", 900_000)
    noise = Image.frombytes("RGB", (600, 600), np.random.default_rng(1).bytes(600 * 600 * 3))
    first = asyncio.run(read_upload(noise, no_fetch))
    (tmp_path / "stored.jpg").write_bytes(first.data)
    again = asyncio.run(read_upload(tmp_path / "stored.jpg", no_fetch))

    assert "image/jpeg" == first.media_type
    assert len(first.data) < 900_000
    assert first.digest == again.digest


async def no_fetch(url: str) -> bytes:
    """Fail, because no network is needed."""
    raise AssertionError(url)
