"""Many results at once: a sequence of pictures, with what failed beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from blockrun_magic.errors import BlockrunError
from blockrun_magic.payments.money import format_usd, to_decimal
from blockrun_magic.studio.results.result import ImageResult

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Failure", "ImageResults"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One request of a batch that brought no picture: its place, what was asked, and why."""

    index: int
    request: Mapping[str, Any]
    error: BlockrunError


class ImageResults(Sequence[ImageResult]):
    """The results of a batch, in the order they were asked for; `failures` are not among them."""

    def __init__(self, results: Sequence[ImageResult], failures: Sequence[Failure] = ()) -> None:
        self._results = tuple(results)
        self.failures = tuple(failures)

    @overload
    def __getitem__(self, index: int) -> ImageResult: ...
    @overload
    def __getitem__(self, index: slice) -> ImageResults: ...
    def __getitem__(self, index: int | slice) -> ImageResult | ImageResults:
        if isinstance(index, slice):
            return ImageResults(self._results[index])
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[ImageResult]:
        return iter(self._results)

    @property
    def images(self) -> list[Image.Image]:
        """Every picture of every result, in order."""
        return [image for result in self._results for image in result.images]

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self._results[0].image

    @property
    def cost(self) -> Decimal:
        """Dollars that this batch cost, exact to the micro-dollar."""
        return to_decimal(self.cost_micros)

    @property
    def cost_micros(self) -> int:
        """Micro-USDC that this batch cost."""
        return sum(result.cost_micros for result in self._results)

    def to_records(self) -> list[dict[str, Any]]:
        """Return one plain dict a request: what was asked, what it cost (dollars), where it is, or why not.

        Failures stand in their places, with `error` set and `file` None.
        """
        records = [_record(result) for result in self._results]
        for failure in self.failures:
            asked = {name: failure.request[name] for name in ("prompt", "model", "size", "n")}
            nothing = {"cost_usd": Decimal(0), "seconds": None, "transaction": None, "file": None}
            records.insert(failure.index, {**asked, **nothing, "error": failure.error.message})
        return records

    def to_dataframe(self) -> Any:
        """Return `to_records` as a pandas DataFrame; raises ImportError without pandas."""
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]

        return pd.DataFrame(self.to_records())

    def save(self, path: str | Path) -> list[Path]:
        """Write every original into the folder `path`, numbered in order, and return where.

        A path with a suffix numbers the files beside it. Raises SourceError.
        """
        target = Path(path).expanduser()
        single = target if target.suffix else target / "picture.png"
        written = []
        for index, result in enumerate(self._results, start=1):
            suffix = target.suffix or result.files[0].suffix
            written += result.save(single.with_name(f"{single.stem}-{index:03d}{suffix}"))
        return written

    def contact_sheet(self, side: int = 1024) -> Image.Image:
        """Return all pictures on one sheet of at most `side` pixels a side, each labeled."""
        from blockrun_magic.images.preview import sheet

        return sheet(self.images, side, self.labels())

    def labels(self) -> list[str]:
        """Return two short lines for each picture: its model and size; its price and seconds."""
        return [label for result in self._results for label in [_label(result)] * len(result.images)]

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<ImageResults {len(self)} results{failed}, {format_usd(self.cost_micros)}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.mimebundle()

    def mimebundle(self, side: int = 768, form: str = "jpeg") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the contact sheet for display, about `side` pixels wide, the prompts as alternative text.

        `form` is "jpeg" or "png".
        """
        from blockrun_magic.images.preview import display_bundle, preview

        if not self._results:
            return {"text/plain": repr(self)}, {}
        alt = "; ".join(dict.fromkeys(result.prompt for result in self._results))
        sheet = preview(self.images, side, self.labels(), form=form)
        return display_bundle(sheet, form, alt, repr(self))


def _record(result: ImageResult) -> dict[str, Any]:
    return {
        **{name: result.request[name] for name in ("prompt", "model", "size", "n")},
        "cost_usd": result.cost,
        "seconds": round(result.seconds, 3),
        "transaction": result.receipt.transaction,
        "file": str(result.files[0]),
        "error": None,
    }


def _label(result: ImageResult) -> str:
    model = str(result.request["model"]).rpartition("/")[2]
    price = "kept, $0.00" if result.receipt.cached else format_usd(result.receipt.amount)
    return f"{model} {result.request['size']}\n{price}  {result.seconds:.1f} s"
