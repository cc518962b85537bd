"""Results of cells: images, their cost and their receipt."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from blockrun_magic.errors import BlockrunError, SourceError
from blockrun_magic.files import write_atomically
from blockrun_magic.images.media_types import suffix_of
from blockrun_magic.payments.money import format_usd, to_decimal
from blockrun_magic.payments.realm import Realm
from blockrun_magic.studio.results.images import Preview, StoredImages

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.payments.ledger.records import StoredImage

__all__ = ["ImageResult", "Quote", "Receipt", "check_save_path"]

_MAX_NAME = 240
_MAX_COPIES = 1000
_WRITABLE = frozenset({"", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pdf"})


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a request, in micro-USDC, obtained without signing anything."""

    total: int
    list_price: int | None
    n: int
    network: str
    realm: Realm
    gateway: str
    cached: bool = False
    """Whether the image is already stored, so that the cell would cost nothing."""
    estimated: bool = False
    """Whether `total` is our list price, because the gateway quotes none."""

    def __repr__(self) -> str:
        return f"Quote({format_usd(self.total)} for {self.n} on {self.gateway})"


@dataclass(frozen=True, slots=True)
class Receipt:
    """Receipt of one request: amount, time, and transaction.

    `amount` is in micro-USDC: the cost of the purchase at its time, or our list price if
    `estimated`; `transaction` is None until a response names one. `purchased_at` is in Unix seconds.
    """

    amount: int
    realm: Realm
    gateway: str
    network: str | None
    transaction: str | None
    payer: str | None
    purchased_at: float
    request_digest: str
    take: int
    purchase_id: str
    settled: bool
    cached: bool = False
    estimated: bool = False
    lesson: str | None = None
    """The lesson that the image comes from, whose author paid for it."""


@dataclass(frozen=True, repr=False, slots=True)
class ImageResult:
    """The images of one request.

    `images` are PIL images, `cost` is the cost of this call in dollars (zero for images that were bought before), and
    `request` holds the request as plain values.
    """

    request: Mapping[str, Any]
    receipt: Receipt
    stored: Sequence[StoredImage]
    files: Sequence[Path]
    """The file of each original."""
    seconds: float
    images: Sequence[Image.Image]
    """Every image as a PIL image; changing it does not change the stored original."""
    notes: Sequence[str] = ()
    """Remarks, such as a missing image, or one that could not be stored."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @overload
    def __getitem__(self, number: int) -> Image.Image: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Image.Image]: ...

    def __getitem__(self, number: int | slice) -> Image.Image | Sequence[Image.Image]:
        """Return the image with that number, as the grid below the cell counts them: from 0."""
        return self.images[number]

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self.images[0]

    @property
    def cost(self) -> Decimal:
        """Dollars that this call cost, exact to the micro-dollar."""
        return to_decimal(self.cost_micros)

    @property
    def cost_micros(self) -> int:
        """Micro-USDC that this call cost."""
        return 0 if self.receipt.cached else self.receipt.amount

    @property
    def prompt(self) -> str:
        """The prompt of the request."""
        return str(self.request["prompt"])

    def save(self, path: str | Path) -> list[Path]:
        """Write the original files to `path`, numbered if there are several; return the paths.

        A folder takes files named by time; a suffix that differs from the original's converts. An existing file is
        never changed: a different image is written beside it, as `name-2.png`. Raises SourceError when a file cannot
        be written.
        """
        target = Path(path).expanduser()
        if target.is_dir() or str(path).endswith(("/", "\\")):
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.receipt.purchased_at))
            target = target / f"{stamp}-{self.receipt.purchase_id}"
        several = len(self.stored) > 1
        written = []
        for index, stored in enumerate(self.stored):
            suffix = target.suffix or suffix_of(stored.media_type)
            stem = f"{target.stem if target.suffix else target.name}{f'-{index + 1}' if several else ''}"
            written.append(self._write(index, stored, target.with_name(stem + suffix)))
        return written

    def _write(self, index: int, stored: StoredImage, destination: Path) -> Path:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            return _write_beside(destination, self._encoded(index, stored, destination.suffix.lower()))
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{destination} cannot be written: {error}.",
                "The image is in the store. Choose another path for --save or .save().",
            ) from error

    def _encoded(self, index: int, stored: StoredImage, suffix: str) -> bytes:
        """Return the original's bytes if `suffix` is its own, else the image in the format of `suffix`."""
        if suffix.replace(".jpeg", ".jpg") == suffix_of(stored.media_type):
            with suppress(OSError):  # an image that could not be stored has no file
                return self.files[index].read_bytes()
        from PIL import Image

        image = self.images[index]
        if suffix in (".jpg", ".jpeg"):
            image = image.convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, Image.registered_extensions()[suffix])
        return buffer.getvalue()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{image.width}x{image.height}" for image in self.stored)
        return f"<ImageResult {self.request['model']} {sizes} {format_usd(self.cost_micros)}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.mimebundle()

    def mimebundle(self, side: int = 768, form: str = "jpeg") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the preview for display, at most `side` pixels a side, with the prompt as alternative text.

        `form` is "jpeg" or "png".
        """
        from blockrun_magic.images.preview import display_bundle

        if len(self.stored) > 1:
            from blockrun_magic.studio.results.grid import GridCell, grid_html

            cells = [
                GridCell(self._only(number), str(number), {}, (f"{image.width}x{image.height}",), self.prompt)
                for number, image in enumerate(self.stored)
            ]
            return {"text/html": grid_html(cells, side, form), "text/plain": repr(self)}, {}
        drawn = self.images.preview(0, side, form, _preview) if isinstance(self.images, StoredImages) else None
        return display_bundle(drawn or _preview(self.image, side, form), form, self.prompt, repr(self))

    def _only(self, index: int) -> Sequence[Image.Image]:
        return self.images.single(index) if isinstance(self.images, StoredImages) else self.images[index : index + 1]

    def draw(self, side: int, form: str, count: int) -> None:
        """Draw the previews for an output of `count` images in advance."""
        from blockrun_magic.studio.results.grid import grid_side, small_image

        with suppress(BlockrunError):  # if a file is missing, showing it raises the error
            if count == 1:
                self.mimebundle(side, form)
                return
            for index in range(len(self.images)):
                small_image(self.images, index, grid_side(count, side), form)


def _preview(image: Image.Image, side: int, form: str) -> Preview:
    from blockrun_magic.images.preview import preview

    return preview([image], side, form=form)


def check_save_path(path: str | Path) -> None:
    """Raise SourceError unless an image can be written to `path`; called before anything is paid."""
    try:
        _check_target(Path(path).expanduser())
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"{str(path)[:80]!r} is not a path: {error}.", "Choose another path for --save.") from error


def _check_target(target: Path) -> None:
    if "\0" in str(target):
        raise SourceError("The file name contains a NUL character.", "Choose another path for --save.")
    if len(os.fsencode(target.name)) > _MAX_NAME:
        raise SourceError("The file name is too long.", f"Use at most {_MAX_NAME} bytes.")
    if not target.is_dir() and target.suffix.lower() not in _WRITABLE:
        raise SourceError(f"An image cannot be saved as {target.suffix}.", "Use .png, .jpg or .webp, or name a folder.")
    folder = target if target.is_dir() else target.parent
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SourceError(f"{existing} is not a writable folder.", "Choose another path for --save.")


def _write_beside(path: Path, data: bytes) -> Path:
    """Write `data` to `path`, or beside it if another file has that name; return the path."""
    for number in range(1, _MAX_COPIES):
        place = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            write_atomically(place, data, exclusive=True, durable=False)
        except FileExistsError:
            if place.is_file() and place.stat().st_size == len(data) and place.read_bytes() == data:
                return place
        else:
            return place
    raise OSError(f"{path.name} and {_MAX_COPIES} copies of it exist")
