"""Conversion of images for a gateway: eight bits, sRGB, upright, without metadata; and their uploads."""

from __future__ import annotations

import array
import hashlib
import io
import math
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, cast

from blockrun_magic.errors import SourceError
from blockrun_magic.gateway.request import Upload
from blockrun_magic.images.formats import check_decodable, strict_pillow
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.metadata import without_metadata

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_UPLOAD_BYTES", "eight_bit", "orientation_of", "to_upload", "unconverted"]

MAX_UPLOAD_BYTES = 30_000_000
"""The most bytes of one image that are sent; a PNG that would be larger is sent as JPEG or WebP."""

_COMPACT_FROM = 4_000_000
_QUALITY = 95
_BYTE = 255
_WORD = 65535
_SIDEWAYS = range(5, 9)
_SRGB_GAMMA = 0.45455
_SAME_GAMMA = 0.02
_MAX_DIFFERENCE = 2


def to_upload(image: Image.Image, *, photo: bool = False) -> Upload:
    """Return an eight-bit image as an upload.

    It is a PNG, named by its mode, size and pixels. Above four megapixels, a `photo` (a former JPEG) becomes a JPEG
    again; so does a PNG of more than 30 MB (a WebP if it is transparent).
    """
    pixels = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    pixels.update(image.tobytes())
    digest = f"pixels-sha256:{pixels.hexdigest()}"
    if not (photo and image.width * image.height > _COMPACT_FROM and image.mode != "RGBA"):
        # Level 3 takes a third of the default's time for a few percent more bytes.
        data = _encoded(image, "PNG", compress_level=3)
        if len(data) <= MAX_UPLOAD_BYTES:
            return Upload(data, "image/png", digest)
    # Named by its bytes: a lossy file has other pixels when it is read again, but must be the same request.
    if image.mode == "RGBA":
        return Upload.from_file_bytes(_encoded(image, "WEBP", quality=_QUALITY, method=2), "image/webp")
    return Upload.from_file_bytes(_encoded(image, "JPEG", quality=_QUALITY, subsampling=0), "image/jpeg")


def unconverted(content: bytes, image: Image.Image) -> Upload | None:
    """Return the file as an upload without encoding its pixels again; None if it has to be converted.

    It can be sent if it is a PNG, JPEG or WebP of eight bits and one frame, upright and in sRGB.
    """
    media_type = media_type_of(content)
    profile = image.info.get("icc_profile")
    is_plain = (
        media_type is not None
        and image.mode in {"1", "L", "LA", "P", "RGB", "RGBA"}
        and not (media_type == "image/png" and content[24] > 8)  # IHDR's bit depth
        and getattr(image, "n_frames", 1) == 1
        and orientation_of(image) == 1
        and not _has_own_gamma(image)
        and (not profile or (image.mode in {"L", "RGB"} and _is_srgb(profile, image.mode)))
    )
    if media_type is None or not is_plain:
        return None
    try:
        data = without_metadata(content, media_type)
    except ValueError:
        return None
    return Upload.from_file_bytes(data, media_type) if len(data) <= MAX_UPLOAD_BYTES else None


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def eight_bit(image: Image.Image, name: str, max_pixels: int | None = None, *, stretch: bool = False) -> Image.Image:
    """Return a copy of a PIL image of any mode as L, RGB or RGBA: upright, in sRGB, without metadata.

    Sixteen-bit grays are scaled down; I and F are taken as 0..255 (F also as 0..1) if their values fit. With
    `stretch`, as for masks, an I, I;16 or F image of two values becomes 0 and 255, for any such values. Raises
    SourceError for values that fit no range, and for files that can no longer be read.
    """
    check_decodable(image.size, name, max_pixels or image.width * image.height)
    try:
        orientation = orientation_of(image)
        with strict_pillow():
            image.load()
        orientation = orientation_of(image) if orientation == 1 else orientation  # the tag may follow the pixels
        converted = _upright(_converted(image, name, stretch=stretch), orientation)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{name}, a PIL image of mode {image.mode}, cannot be read ({error}).",
            "Open its file again, then run this cell again.",
        ) from error
    converted.info = {}
    return converted


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 (upright) to 8; 1 if it has none that can be read."""
    from PIL import ExifTags

    try:
        exif = image.getexif()
        orientation = int(exif.get(ExifTags.Base.Orientation, 1))
        if orientation in _SIDEWAYS and _was_turned(image, exif):
            return 1
    except Exception:  # noqa: BLE001  damaged EXIF raises all sorts; viewers ignore it
        return 1
    return orientation if 1 < orientation <= max(_SIDEWAYS) else 1


def _was_turned(image: Image.Image, exif: Image.Exif) -> bool:
    """Return whether the user has turned an opened image: PIL keeps the orientation tag on such copies."""
    from PIL import ExifTags

    if getattr(image, "format", None) is not None:
        return False
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    width, height = camera.get(ExifTags.Base.ExifImageWidth), camera.get(ExifTags.Base.ExifImageHeight)
    if not width or not height or width == height:
        return False
    return bool((width > height) != (image.width > image.height))


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    from PIL import ExifTags, Image, ImageOps

    if orientation == 1:
        return image
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.info = {"exif": exif.tobytes()}
    return ImageOps.exif_transpose(image)


# Modes


def _converted(image: Image.Image, name: str, *, stretch: bool) -> Image.Image:
    """Return a loaded image as L, RGB or RGBA, in sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _in_srgb(_narrowed(image, name, stretch=stretch), profile)
    if image.mode in {"CMYK", "LAB"}:
        return _in_srgb(image, profile)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode in {"1", "L"}:
        image = image.convert("L")
    else:
        image = image.convert("RGB")
    return _in_srgb(image, profile) if profile else _gamma_corrected(image)


def _narrowed(image: Image.Image, name: str, *, stretch: bool) -> Image.Image:
    """Return an image of mode I, F or I;16 as L."""
    is_deep_file = image.format is not None and (image.mode.startswith("I;16") or image.format == "PNG")
    if image.mode not in {"I", "F"}:
        image = image.convert("I")
    low, high = cast("tuple[float, float]", image.getextrema())
    if stretch and low < high and math.isfinite(high - low) and image.getcolors(2) is not None:
        factor = _BYTE / (high - low)
        return image.point(lambda value: value * factor + (0.5 - low * factor)).convert("L")
    scale = _BYTE / _WORD if is_deep_file and low >= 0 else _scale(image, name)
    # Half a step up, because the conversion to L truncates.
    return image.point(lambda value: value * scale + 0.5).convert("L")


def _scale(image: Image.Image, name: str) -> float:
    """Return the factor that brings the values of an I or F image to 0..255."""
    finite = image.mode == "I" or math.isfinite(sum(array.array("f", image.tobytes())))
    low, high = cast("tuple[float, float]", image.getextrema())
    if finite and low >= 0:
        if image.mode == "F" and high <= 1:
            return 255.0
        if high <= _BYTE:
            return 1.0
        if image.mode == "I" and high <= _WORD:
            return _BYTE / _WORD
    raise SourceError(
        f"{name}, a PIL image of mode {image.mode}, has values from {low:g} to {high:g}"
        f"{'' if finite else ', and some that are not finite'}.",
        "Scale them to 0..255 first.",
    )


# Colors


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an L, RGB, RGBA, CMYK or LAB image in sRGB; a profile that does not fit is ignored, as viewers do."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    color = image.convert("RGB") if alpha is not None else image
    converted = _transformed(color, profile)
    if converted is None:
        converted = color if color.mode in {"L", "RGB"} else color.convert("RGB")
    if image.mode == "L":
        return converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _transformed(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Return an L, RGB, CMYK or LAB image as RGB in sRGB, or None if `profile` does not fit or cannot be read."""
    from PIL import ImageCms

    spaces = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
            mode = spaces.get(source.xcolor_space.strip())
            if mode == "RGB" and image.mode == "L":
                image = image.convert("RGB")
            elif mode != image.mode:
                return None
        else:
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(source), ImageCms.ImageCmsProfile(target), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ImportError, ValueError, TypeError):
        return None


@lru_cache(maxsize=32)
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Return whether `profile` leaves the colors of an L or RGB image unchanged."""
    from PIL import Image, ImageChops

    if mode == "L":
        ramp = Image.linear_gradient("L").resize((1, 256))
    else:
        steps = range(0, 256, 17)
        cube = bytes(value for color in product(steps, steps, steps) for value in color)
        ramp = Image.frombytes("RGB", (256, 16), cube)

    transformed = _transformed(ramp, profile)
    if transformed is None:
        return True
    difference = ImageChops.difference(transformed, ramp.convert("RGB")).convert("L")
    return cast("tuple[int, int]", difference.getextrema())[1] <= _MAX_DIFFERENCE


def _has_own_gamma(image: Image.Image) -> bool:
    """Return whether the gAMA chunk of a PNG differs from sRGB's brightness."""
    gamma = image.info.get("gamma")
    if not isinstance(gamma, float) or gamma <= 0 or "srgb" in image.info:
        return False
    return abs(gamma - _SRGB_GAMMA) > _SAME_GAMMA


def _gamma_corrected(image: Image.Image) -> Image.Image:
    if not _has_own_gamma(image):
        return image
    power = _SRGB_GAMMA / image.info["gamma"]
    curve = [round(_BYTE * (level / _BYTE) ** power) for level in range(256)]
    bands = image.getbands()
    return image.point([value for band in bands for value in (range(256) if band == "A" else curve)])
