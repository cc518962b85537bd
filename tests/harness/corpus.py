"""Small image files of every common kind, each with the image that a viewer shows. Nothing is downloaded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageCms

__all__ = ["COLORS", "SIZE", "Sample", "card", "encoded", "exif_of", "samples", "shown_as", "turned"]

SIZE = (48, 64)
COLORS = ((200, 30, 40), (40, 160, 60), (30, 60, 190), (230, 220, 120))
"""The quarters of the card: top left, top right, bottom left, bottom right."""

_STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class Sample:
    """One file: its name, its bytes, and the image that a viewer shows."""

    name: str
    data: bytes
    shown: Image.Image


def card(colors: Sequence[tuple[int, int, int]] = COLORS, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a portrait of four different quarters, which shows its orientation and its colors."""
    image = Image.new("RGB", size)
    half = (size[0] // 2, size[1] // 2)
    for index, color in enumerate(colors):
        left, top = index % 2 * half[0], index // 2 * half[1]
        image.paste(color, (left, top, left + half[0], top + half[1]))
    return image


def shown_as(image: Image.Image) -> tuple[tuple[int, int], list[tuple[int, ...]]]:
    """Return the size of a card and the color in the middle of each quarter, over white."""
    if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    rgb = image.convert("RGB")
    width, height = rgb.size
    places = [(width * x // 4, height * y // 4) for y in (1, 3) for x in (1, 3)]
    return rgb.size, [tuple(rgb.getpixel(place)) for place in places]  # type: ignore[arg-type]


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return the pixels as a camera stores them with this EXIF `orientation`."""
    return image if orientation == 1 else image.transpose(_STORED_BY[orientation])


def exif_of(orientation: int = 1, *, place: bool = False) -> Image.Exif:
    """Return EXIF data with an orientation and, with `place`, the location of the photo."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Camera of a Person"
    if place:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return exif


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def samples() -> Iterator[Sample]:
    """Yield every file of the corpus."""
    yield from _png_samples()
    yield from _jpeg_samples()
    yield from _other_samples()
    for orientation in range(1, 9):
        stored, exif = turned(card(), orientation), exif_of(orientation, place=True)
        for form in ("JPEG", "PNG", "WEBP", "TIFF") if orientation in {3, 6} else ("JPEG",):
            options: dict[str, object] = {"quality": 95} if form == "JPEG" else {"lossless": True}
            options = options if form in {"JPEG", "WEBP"} else {}
            yield Sample(f"{form} orientation {orientation}", encoded(stored, form, exif=exif, **options), card())


def _png_samples() -> Iterator[Sample]:
    whole = card()
    gray = whole.convert("L")
    for mode in ("1", "L", "P", "RGB"):
        yield Sample(f"PNG {mode}", encoded(whole.convert(mode), "PNG"), whole.convert(mode))
    holes = whole.convert("RGBA")
    holes.paste((0, 0, 0, 0), (0, 0, SIZE[0] // 2, SIZE[1] // 2))
    yield Sample("PNG RGBA", encoded(holes, "PNG"), holes)
    yield Sample("PNG LA", encoded(holes.convert("LA"), "PNG"), holes.convert("LA"))
    palette = holes.quantize(8)
    yield Sample("PNG palette with transparency", encoded(palette, "PNG"), holes)
    sixteen = gray.convert("I").point(lambda level: level * 257).convert("I;16")
    yield Sample("PNG gray of 16 bits", encoded(sixteen, "PNG"), gray)
    yield Sample("PNG color of 16 bits", _png(whole, depth=16), whole)
    yield Sample("PNG interlaced", _png(whole, interlaced=True), whole)
    yield Sample("PNG with text", encoded(whole, "PNG", pnginfo=_text()), whole)
    yield Sample("PNG animated", encoded(whole, "PNG", save_all=True, append_images=[Image.new("RGB", SIZE)]), whole)
    linear = whole.point([round(255 * (level / 255) ** 2.2) for level in range(256)] * 3)
    yield Sample("PNG of linear brightness", _with_gamma(encoded(linear, "PNG"), 1.0), whole)
    swapped = card([(blue, green, red) for red, green, blue in COLORS])
    yield Sample("PNG with a profile", encoded(swapped, "PNG", icc_profile=swapped_profile()), whole)


def _text() -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", "Camera of a Person")
    return info


def _jpeg_samples() -> Iterator[Sample]:
    whole = card()
    swapped = card([(blue, green, red) for red, green, blue in COLORS])
    for mode in ("L", "RGB", "CMYK"):
        yield Sample(f"JPEG {mode}", encoded(whole.convert(mode), "JPEG", quality=95), whole.convert(mode))
    yield Sample("JPEG progressive", encoded(whole, "JPEG", quality=95, progressive=True), whole)
    yield Sample("JPEG with a place", encoded(whole, "JPEG", quality=95, exif=exif_of(place=True)), whole)
    yield Sample("JPEG with a comment", encoded(whole, "JPEG", quality=95, comment=b"Camera of a Person"), whole)
    profile = swapped_profile()
    yield Sample("JPEG with a profile", encoded(swapped, "JPEG", quality=95, icc_profile=profile), whole)
    frames = [Image.new("RGB", SIZE, "black")]
    yield Sample("JPEG of two frames", encoded(whole, "MPO", quality=95, save_all=True, append_images=frames), whole)
    trailing = encoded(whole, "JPEG", quality=95) + b"\0\0\0\x18ftypmp42 Camera of a Person"
    yield Sample("JPEG with a video after it", trailing, whole)


def _other_samples() -> Iterator[Sample]:
    whole = card()
    black = [Image.new("RGB", SIZE)]
    yield Sample("WebP", encoded(whole, "WEBP", lossless=True), whole)
    animated = encoded(whole, "WEBP", lossless=True, save_all=True, append_images=black)
    yield Sample("WebP animated", animated, whole)
    yield Sample("GIF", encoded(whole, "GIF"), whole)
    yield Sample("GIF animated", encoded(whole, "GIF", save_all=True, append_images=black), whole)
    yield Sample("BMP", encoded(whole, "BMP"), whole)
    yield Sample("TIFF of pages", encoded(whole, "TIFF", save_all=True, append_images=black), whole)
    gray = whole.convert("L")
    yield Sample("TIFF of 16 bits", encoded(gray.convert("I").point(lambda v: v * 257).convert("I;16"), "TIFF"), gray)
    lab = ImageCms.profileToProfile(
        whole, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    yield Sample("TIFF LAB", encoded(lab, "TIFF"), whole)


def swapped_profile() -> bytes:
    """Return an ICC profile with red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = (entries[name] + 4 for name in (b"rXYZ", b"bXYZ"))
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    return bytes(profile)


def _with_gamma(data: bytes, gamma: float) -> bytes:
    """Return a PNG with a gAMA chunk after its header."""
    content = b"gAMA" + round(gamma * 100_000).to_bytes(4, "big")
    return data[:33] + b"\0\0\0\4" + content + zlib.crc32(content).to_bytes(4, "big") + data[33:]


def _png(image: Image.Image, *, depth: int = 8, interlaced: bool = False) -> bytes:
    """Return an RGB image as one of the kinds of PNG that Pillow does not write."""
    width, height = image.size
    rows = b""
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        for y in range(top, height, down):
            pixels = [image.getpixel((x, y)) for x in range(left, width, across)]
            values = [value for pixel in pixels for value in pixel]  # type: ignore[union-attr]
            row = struct.pack(f">{len(values)}H", *(v * 257 for v in values)) if depth == 16 else bytes(values)
            rows += (b"\0" + row) if pixels else b""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
