"""The price of Run All, read from the cells of a notebook without running them.

Flags and prompts are read as the magics read them. A cell whose prompts come from variables, from a loop or from a call
of `blockrun_magic.generate` has an unknown price, and the total says "at least".
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError, FlagError, WalletMissing
from blockrun_magic.files import read_file
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.parser import parse
from blockrun_magic.notebook.cells.plan import RequestPlan, apply_defaults, plan_requests
from blockrun_magic.notebook.display.cards import Card, Table, format_amount, short
from blockrun_magic.notebook.settings import Settings
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.practice.server.triggers import Triggers, UnknownTrigger
from blockrun_magic.safejson import read_json

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.session import Session

__all__ = ["CellPrice", "Forecast", "estimate_notebook", "forecast_card"]

_MAX_BYTES = 200_000_000
_MAGIC = re.compile(r"^(?P<indent>\s*+)(?:[\w, ]++=\s*+)?%(?P<magic>imagegen|img2img)\b(?P<line>.*)$")
_CELL_MAGIC = re.compile(r"^%%(?P<magic>imagegen|img2img)\b(?P<line>[^\n]*)\n?(?P<body>.*)$", re.DOTALL)
_USE = re.compile(r"^\s*+%blockrun\s++use\s+(\S+)")
_CONFIG = re.compile(r"^\s*+%config\s++BlockrunMagics\.(model|edit_model|size)\s*=\s*(.+)$")
_SET_BY_CELLS = ("model", "edit_model", "size")
_CALLS = frozenset({"generate", "edit", "agenerate", "aedit"})


@dataclass(slots=True)
class CellPrice:
    """One cell that makes images: its `cost` in micro-USDC, its `images`, and the number of `cached` ones.

    `unknown` is the reason why the price is not known; `cost` is then the known part.
    """

    number: int
    words: str
    images: int = 0
    cached: int = 0
    cost: int = 0
    unknown: str = ""


@dataclass(slots=True)
class Forecast:
    """The price of Run All: one price for each cell that makes images."""

    gateway: str
    realm: Realm
    cells: list[CellPrice] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """The known cost in micro-USDC."""
        return sum(cell.cost for cell in self.cells)

    @property
    def whole(self) -> bool:
        """True if every price is known."""
        return not any(cell.unknown for cell in self.cells)


def estimate_notebook(path: Path, session: Session, home: Path, gateway: str | None = None) -> Forecast:
    """Return the price of Run All for the notebook at `path`; nothing is signed.

    The gateway is the notebook's (`%blockrun use`), else `gateway`, else this session's. Raises FlagError if the file
    is not a notebook, and GatewayError if prices are not available.
    """
    return _NotebookPricer(session, home, gateway).of(_sources(path))


def forecast_card(forecast: Forecast) -> Card:
    """Return a forecast as a table: one row for each cell that makes images, and the total."""
    rows = [(str(cell.number), cell.words, _count_text(cell), _price_text(cell)) for cell in forecast.cells]
    total = ("" if forecast.whole else "at least ") + format_amount(forecast.cost, forecast.realm)
    rows.append(("", "Run All", str(sum(cell.images for cell in forecast.cells)), total))
    notes = [f"Cell {cell.number}: {cell.unknown.rstrip('.')}." for cell in forecast.cells if cell.unknown]
    if any(cell.cached for cell in forecast.cells):
        notes.append("An edit counts as bought while its source is unchanged.")
    title = f"What Run All costs at {forecast.gateway}"
    return Table(("cell", "", "images", "price"), rows, title=title, note=" ".join(notes), left=2)


def _price_text(cell: CellPrice) -> str:
    return f"{'at least ' if cell.unknown else ''}{format_usd(cell.cost)}"


def _count_text(cell: CellPrice) -> str:
    return f"{cell.images}, {cell.cached} stored" if cell.cached else str(cell.images or "")


def _sources(path: Path) -> list[str]:
    try:
        content = read_json(read_file(path, _MAX_BYTES))
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        return ["".join(cell["source"]) for cell in cells]
    except OSError as error:
        raise FlagError(f"{path} cannot be read: {error.strerror}.", "Name a notebook: FILE.ipynb.") from error
    except (ValueError, KeyError, TypeError):
        raise FlagError(f"{path} is not a notebook.", "Name a notebook in the current format: FILE.ipynb.") from None


class _NotebookPricer:
    """Prices the cells of one notebook, from the first to the last."""

    def __init__(self, session: Session, home: Path, gateway: str | None) -> None:
        self._session, self._home = session, home
        self._settings = Settings(**{name: getattr(session.settings, name) for name in _SET_BY_CELLS})
        self._studio, self._gateway = session.studio_and_gateway(gateway)
        self._begun: Counter[str] = Counter()
        """The number of edits of each kind in the cells so far."""
        self._takes: dict[str, set[int]] = {}
        """The takes of each request that are bought already, or by an earlier cell."""

    def of(self, sources: Sequence[str]) -> Forecast:
        """Return the price of the cells with these sources."""
        forecast = Forecast(self._gateway.name, self._gateway.realm)
        for number, source in enumerate(sources, 1):
            forecast.cells += self._cell(number, source)
            forecast.gateway, forecast.realm = self._gateway.name, self._gateway.realm
        return forecast

    def _cell(self, number: int, source: str) -> Iterator[CellPrice]:
        whole = _CELL_MAGIC.match(source)
        if whole is not None:
            yield self._priced(number, whole["magic"], whole["line"], whole["body"])
            return
        plain = []
        for line in source.splitlines():
            if used := _USE.match(line):
                self._use(used[1])
            elif set_to := _CONFIG.match(line):
                setattr(self._settings, set_to[1], _value(set_to[2]) or "")
            elif match := _MAGIC.match(line):
                if match["indent"]:
                    yield CellPrice(number, match["line"].strip(), unknown="it is in a loop or a function")
                else:
                    yield self._priced(number, match["magic"], match["line"], None)
            plain.append("" if line.lstrip().startswith(("%", "!")) else line)
        if _calls_python("\n".join(plain)):
            yield CellPrice(number, "a call from Python", unknown="calls of generate and edit are not read")

    def _use(self, name: str) -> None:
        if name == "auto":
            return
        try:
            self._gateway = self._session.studio_and_gateway(name)[1]
        except WalletMissing:  # a class that was not joined here: a teacher is asking, and needs list prices
            self._gateway = self._session.selection.practice()

    def _priced(self, number: int, magic: str, line: str, body: str | None) -> CellPrice:
        cell = CellPrice(number, short(body or line))
        try:
            flags = parse(magic, line, body)
            cell.words = short(flags.prompt or body or line)
            if flags.dry_run:
                return cell
            if flags.prompts or flags.fill:
                cell.unknown = "its prompts come from variables"
                return cell
            plan = self._planned(magic, flags)
        except BlockrunError as error:
            cell.unknown = error.message
            return cell
        gateway = self._session.studio_and_gateway(flags.gateway)[1] if flags.gateway else self._gateway
        for prompt, model, size in plan.variants:
            request = ImageRequest(plan.operation, prompt, model, size, plan.quality, plan.n)
            cell.images += plan.n
            if self._is_stored(request, flags, gateway):
                cell.cached += plan.n
            elif not _is_refused(prompt, gateway):
                cell.cost += self._price(request, gateway)
        return cell

    def _planned(self, magic: str, flags: Flags) -> RequestPlan:
        catalog = self._studio.catalogs.at(self._gateway)
        flags = apply_defaults(magic, flags, self._settings, catalog)
        # Prices do not depend on the images, which do not exist in a notebook that is not running.
        return plan_requests(magic, replace(flags, images=(), mask=None), catalog, {}, self._home)

    def _is_stored(self, request: ImageRequest, flags: Flags, gateway: Gateway) -> bool:
        from blockrun_magic.studio import Options

        if request.operation == "edit" and not flags.fresh:
            # The sources are unknown, so finished edits with the same prompt and settings are counted instead.
            self._begun[f"{gateway.realm} {request.canonical_json()}"] += 1
            before = self._begun[f"{gateway.realm} {request.canonical_json()}"]
            return before <= self._studio.records.count_finished(gateway.realm, request.to_record())
        if self._studio.is_stored(request, gateway, Options(take=flags.take, fresh=flags.fresh)):
            return True
        takes = self._takes.setdefault(
            f"{gateway.realm} {request.digest}", self._studio.records.finished_takes(gateway.realm, request.digest)
        )
        take = flags.take or (max(takes, default=0) + 1 if flags.fresh or not takes else min(takes))
        stored = take in takes
        takes.add(take)
        return stored

    def _price(self, request: ImageRequest, gateway: Gateway) -> int:
        from blockrun_magic.studio import Options
        from blockrun_magic.studio.payment.pricing import placeholder_image

        if request.operation == "edit":
            request = replace(request, images=(placeholder_image(),))  # for the price only
        return self._session.run(self._studio.quote(request, gateway, Options(unchecked=True), ahead=True)).total


def _is_refused(prompt: str, gateway: Gateway) -> bool:
    if gateway.realm != Realm.PRACTICE:
        return False
    try:
        triggers = Triggers.read(prompt)
    except UnknownTrigger:
        return True
    return triggers.free


def _calls_python(code: str) -> bool:
    """Return whether `code` calls `blockrun_magic.generate` or one of its siblings."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # cells of others may be nested very deeply
        return False
    return any(
        isinstance(step, ast.Call)
        and isinstance(step.func, ast.Attribute)
        and step.func.attr in _CALLS
        and isinstance(step.func.value, ast.Name)
        and step.func.value.id == "blockrun_magic"
        for step in ast.walk(tree)
    )


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return None
