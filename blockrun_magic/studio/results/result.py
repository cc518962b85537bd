"""What a cell gives back: the pictures, what they cost, and the receipt that proves it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import SourceError
from blockrun_magic.images.media_types import suffix_of
from blockrun_magic.payments.money import format_usd, to_decimal

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.payments.ledger.records import StoredImage

__all__ = ["ImageResult", "Quote", "Receipt", "check_save_path"]

_WRITABLE = frozenset({"", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pdf"})


@dataclass(frozen=True, slots=True)
class Quote:
    """What a request would cost, in micro-USDC; nothing was signed to learn it."""

    total: int
    list_price: int | None
    n: int
    network: str
    realm: str
    gateway: str
    cached: bool = False
    """Whether the picture is kept already, so that the cell would cost nothing."""
    estimated: bool = False
    """Whether `total` is our list price, because the gateway quotes none."""

    def __repr__(self) -> str:
        return f"Quote({format_usd(self.total)} for {self.n} on {self.gateway})"


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one request was paid: what was charged when, and where it can be looked up.

    `amount` is in micro-USDC and is what the purchase cost when it was made, or our list price where it is
    `estimated`; `transaction` is None while no answer has named one. `purchased_at` is in Unix seconds.
    """

    amount: int
    realm: str
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
    """The lesson that the picture comes from: then somebody else has paid for it."""


@dataclass(frozen=True, repr=False, slots=True)
class ImageResult:
    """The pictures of one request.

    `images` are PIL images, `cost` is what this call cost in dollars (zero when the pictures
    were bought before), `request` is the request in plain values.
    """

    request: Mapping[str, Any]
    receipt: Receipt
    stored: Sequence[StoredImage]
    files: Sequence[Path]
    """Where each original is kept."""
    seconds: float
    images: Sequence[Image.Image]
    """Every image as a PIL image, yours to change: the stored original stays as it is."""
    notes: Sequence[str] = ()
    """What you should know: an image that is missing, or one that could not be stored."""

    @property
    def image(self) -> Image.Image:
        """The first picture."""
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
        """Write the original files and return where: `path`, or numbered beside it when several.

        A folder takes files named by time; a suffix that differs from the original's converts. Raises
        SourceError when a file cannot be written.
        """
        target = Path(path).expanduser()
        if target.is_dir() or str(path).endswith(("/", "\\")):
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.receipt.purchased_at))
            target = target / f"{stamp}-{self.receipt.purchase_id}"
        several = len(self.stored) > 1
        written = []
        for index, kept in enumerate(self.stored):
            suffix = target.suffix or suffix_of(kept.media_type)
            stem = f"{target.stem if target.suffix else target.name}{f'-{index + 1}' if several else ''}"
            destination = target.with_name(stem + suffix)
            self._write(index, kept, destination)
            written.append(destination)
        return written

    def _write(self, index: int, kept: StoredImage, destination: Path) -> None:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            if destination.suffix.lower().replace(".jpeg", ".jpg") == suffix_of(kept.media_type):
                destination.write_bytes(self.files[index].read_bytes())
                return
            image = self.images[index]
            if destination.suffix.lower() in (".jpg", ".jpeg"):
                image = image.convert("RGB")
            image.save(destination)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{destination} cannot be written: {error}.",
                "The picture is kept all the same; choose another path for --save or .save().",
            ) from error

    def __repr__(self) -> str:
        sizes = ", ".join(f"{kept.width}x{kept.height}" for kept in self.stored)
        return f"<ImageResult {self.request['model']} {sizes} {format_usd(self.cost_micros)}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.mimebundle()

    def mimebundle(self, side: int = 768, form: str = "jpeg") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the preview for display, at most `side` pixels a side, with the prompt as alternative text.

        `form` is "jpeg" or "png".
        """
        from blockrun_magic.images.preview import display_bundle, preview

        if len(self.stored) > 1:
            from blockrun_magic.studio.results.grid import GridCell, grid_html

            cells = [
                GridCell((image,), str(number), {}, (f"{image.width}x{image.height}",), self.prompt)
                for number, image in enumerate(self.images)
            ]
            return {"text/html": grid_html(cells, side, form), "text/plain": repr(self)}, {}
        return display_bundle(preview(self.images, side, form=form), form, self.prompt, repr(self))


def check_save_path(path: str | Path) -> None:
    """Raise SourceError unless a picture can be written to `path`; asked before anything is paid."""
    target = Path(path).expanduser()
    if not target.is_dir() and target.suffix.lower() not in _WRITABLE:
        raise SourceError(
            f"A picture cannot be saved as {target.suffix}.", "Use .png, .jpg or .webp, or name a folder."
        )
    folder = target if target.is_dir() else target.parent
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SourceError(f"{existing} is not a folder that can be written to.", "Choose another path for --save.")
