"""Results of a batch: a sequence of ImageResult, and the failures."""

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

    from blockrun_magic.studio.results.grid import GridCell

__all__ = ["Failure", "ImageResults"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request of a batch: its index, the request and the error."""

    index: int
    request: Mapping[str, Any]
    error: BlockrunError


class ImageResults(Sequence[ImageResult]):
    """The results of a batch, in the order of the requests; failed requests are in `failures` instead."""

    def __init__(
        self,
        results: Sequence[ImageResult],
        failures: Sequence[Failure] = (),
        facets: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._results = tuple(results)
        self.failures = tuple(failures)
        self.facets = tuple(facets)
        """The varying values of each request, by name; if empty, they are derived from the requests."""

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
    def images(self) -> Sequence[Image.Image]:
        """Every image of every result, in order; each is opened when it is used."""
        from blockrun_magic.studio.results.images import ChainedImages

        return ChainedImages([result.images for result in self._results])

    @property
    def image(self) -> Image.Image:
        """The first image."""
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
        """Return one plain dict per request: its fields, its cost in dollars, its file or its error.

        Failures are in their positions, with `error` set and `file` None.
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
        """Write every original into the folder `path`, numbered in order, and return the paths.

        A path with a suffix numbers the files beside it. Raises SourceError.
        """
        target = Path(path).expanduser()
        single = target if target.suffix else target / "image.png"
        written = []
        for index, result in enumerate(self._results, start=1):
            suffix = target.suffix or result.files[0].suffix
            written += result.save(single.with_name(f"{single.stem}-{index:03d}{suffix}"))
        return written

    def contact_sheet(self, side: int = 1024) -> Image.Image:
        """Return all images on one sheet of at most `side` pixels a side, each labeled."""
        from blockrun_magic.images.preview import sheet

        return sheet(self.images, side, self.labels())

    def labels(self) -> list[str]:
        """Return two short lines for each image: its model and size; its price and seconds."""
        return [label for result in self._results for label in [_label(result)] * len(result.images)]

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<ImageResults {len(self)} results{failed}, {format_usd(self.cost_micros)}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.mimebundle()

    def mimebundle(self, side: int = 768, form: str = "jpeg") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the images for display: an HTML grid, numbered like the results, with the failures in their positions.

        `form` is "jpeg" or "png"; an image has at most `side` pixels a side.
        """
        from blockrun_magic.studio.results.grid import MAX_CELLS, grid_html

        if not self._results:
            return {"text/plain": repr(self)}, {}
        cells = self._cells()
        html = grid_html(cells[:MAX_CELLS], side, form)
        more = len(cells) - MAX_CELLS
        html += f"<div>{more} more are not shown: display(results[{MAX_CELLS}:])</div>" if more > 0 else ""
        return {"text/html": html, "text/plain": repr(self)}, {}

    def _cells(self) -> list[GridCell]:
        """Return one cell for each request, in order."""
        from blockrun_magic.studio.results.grid import GridCell

        facets_of = dict(enumerate(self.facets))
        failed = {failure.index: failure for failure in self.failures}
        results = iter(enumerate(self._results))
        cells = []
        for place in range(len(self._results) + len(failed)):
            failure = failed.get(place)
            if failure is not None:
                reason = " ".join(line for line in failure.error.lines if line)
                facets = facets_of.get(place) or _facets(failure.request)
                cells.append(GridCell((), "", facets, ("failed",), str(failure.request["prompt"]), reason))
                continue
            number, result = next(results)
            facets = facets_of.get(place) or _facets(result.request)
            cells.append(
                GridCell(result.images, str(number), facets, (_cost_line(result), *result.notes), result.prompt)
            )
        return cells


def _facets(request: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(request[name]) for name in ("model", "size", "prompt", "quality") if request.get(name)}


def _cost_line(result: ImageResult) -> str:
    """Return the size, the price and the state of a result as a short line."""
    receipt = result.receipt
    size = "x".join(map(str, (result.stored[0].width, result.stored[0].height)))
    if receipt.lesson is not None or receipt.cached:
        return f"{size} · $0.00, {'from a lesson' if receipt.lesson is not None else 'stored'}"
    state = "" if receipt.settled else ", not confirmed yet"
    return (
        f"{size} · {format_usd(receipt.amount)}{', estimated' if receipt.estimated else state} · {result.seconds:.1f} s"
    )


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
    price = "stored, $0.00" if result.receipt.cached else format_usd(result.receipt.amount)
    return f"{model} {result.request['size']}\n{price}  {result.seconds:.1f} s"
