"""What Run All of a notebook would cost, read from its cells: nothing of it is run.

Flags and prompts are read as the magics read them. Variables are known as far as a cell sets them to plain values
(texts, numbers, lists, a DataFrame of such); what a program computes is not known, and the cell says so.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError, FlagError
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.parser import parse
from blockrun_magic.notebook.cells.plan import RequestPlan, apply_defaults, plan_requests
from blockrun_magic.notebook.display.cards import Card, Table, format_amount
from blockrun_magic.notebook.settings import Settings
from blockrun_magic.payments.money import format_usd
from blockrun_magic.practice.server.triggers import Triggers, UnknownTrigger
from blockrun_magic.safejson import read_json

if TYPE_CHECKING:
    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.notebook.session import Session

__all__ = ["CellPrice", "Forecast", "estimate_notebook", "forecast_card"]

_MAGIC = re.compile(r"^(?P<indent>\s*+)(?:[\w, ]++=\s*+)?%(?P<magic>imagegen|img2img)\b(?P<line>.*)$")
_CELL_MAGIC = re.compile(r"^%%(?P<magic>imagegen|img2img)\b(?P<line>[^\n]*)\n?(?P<body>.*)$", re.DOTALL)
_USE = re.compile(r"^\s*+%blockrun\s++use\s+(\S+)")
_CONFIG = re.compile(r"^\s*+%config\s++BlockrunMagics\.(model|edit_model|size)\s*=\s*(.+)$")
_SET_BY_CELLS = ("model", "edit_model", "size")
_CALLS = frozenset({"generate", "edit", "agenerate", "aedit"})
_FREE = frozenset({"400", "402", "403", "408", "429-always", "500", "502", "503", "504", "html-error", "fail-job"})
"""Triggers of the practice gateway that end before anything is paid."""


@dataclass(slots=True)
class CellPrice:
    """One cell that makes pictures: `cost` in micro-USDC, how many of its `pictures` are bought already.

    `unknown` says why its price cannot be told without running it; then `cost` is what is known of it.
    """

    number: int
    words: str
    images: int = 0
    cached: int = 0
    cost: int = 0
    unknown: str = ""


@dataclass(slots=True)
class Forecast:
    """What Run All would cost: a price for each cell that makes pictures."""

    gateway: str
    realm: str
    cells: list[CellPrice] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """All of it in micro-USDC, as far as it is known."""
        return sum(cell.cost for cell in self.cells)

    @property
    def whole(self) -> bool:
        """Whether every cell's price is known."""
        return not any(cell.unknown for cell in self.cells)


def estimate_notebook(path: Path, session: Session, home: Path, gateway: str | None = None) -> Forecast:
    """Return what Run All of the notebook at `path` would cost from now on; nothing is signed.

    Requests go where the notebook says (`%blockrun use`), else to `gateway`, else where this session's go. Raises
    FlagError when it is no notebook, and GatewayError when prices cannot be asked.
    """
    return _NotebookPricer(session, home, gateway).of(_sources(path))


def forecast_card(found: Forecast) -> Card:
    """Return a forecast as a table: a row for each cell that makes pictures, and the sum."""
    rows = [(str(cell.number), cell.words, _pictures_words(cell), _price_words(cell)) for cell in found.cells]
    rows.append(("", "Run All", str(sum(cell.images for cell in found.cells)), format_amount(found.cost, found.realm)))
    notes = [f"Cell {cell.number}: {cell.unknown.rstrip('.')}." for cell in found.cells if cell.unknown]
    if any(cell.cached for cell in found.cells):
        notes.append("An edit counts as kept while its source is what it was.")
    title = f"What Run All costs at {found.gateway}"
    return Table(("cell", "", "pictures", "price"), rows, title=title, note=" ".join(notes), left=2)


def _short(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= 60 else f"{words[:59]}…"


def _price_words(cell: CellPrice) -> str:
    return f"{'at least ' if cell.unknown else ''}{format_usd(cell.cost)}"


def _pictures_words(cell: CellPrice) -> str:
    return f"{cell.images}, {cell.cached} kept" if cell.cached else str(cell.images or "")


def _sources(path: Path) -> list[str]:
    try:
        content = read_json(path.read_bytes())
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        return ["".join(cell["source"]) for cell in cells]
    except OSError as error:
        raise FlagError(f"{path} cannot be read: {error.strerror}.", "Name a notebook: FILE.ipynb.") from error
    except (ValueError, KeyError, TypeError):
        raise FlagError(f"{path} is no notebook.", "Name a notebook in today's format: FILE.ipynb.") from None


class _NotebookPricer:
    """One notebook, read from its first cell to its last."""

    def __init__(self, session: Session, home: Path, gateway: str | None) -> None:
        self._session, self._home = session, home
        self._settings = Settings(**{name: getattr(session.settings, name) for name in _SET_BY_CELLS})
        self._studio, self._gateway = session.studio_and_gateway(gateway)
        self._known: dict[str, object] = {}
        self._begun: Counter[str] = Counter()
        """How often each kind of edit has stood in the cells so far."""
        self._takes: dict[str, set[int]] = {}
        """The takes of each picture that are bought, or will be by then."""

    def of(self, sources: Sequence[str]) -> Forecast:
        """Return the price of the cells with these sources."""
        found = Forecast(self._gateway.name, self._gateway.realm)
        for number, source in enumerate(sources, 1):
            found.cells += self._cell(number, source)
            found.gateway, found.realm = self._gateway.name, self._gateway.realm
        return found

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
            elif made := _MAGIC.match(line):
                if made["indent"]:
                    yield CellPrice(number, made["line"].strip(), unknown="it is in a loop or a function")
                else:
                    yield self._priced(number, made["magic"], made["line"], None)
            plain.append("" if line.lstrip().startswith(("%", "!")) else line)
        if self._track_assignments("\n".join(plain)):
            yield CellPrice(number, "a call from Python", unknown="calls of generate and edit are not read")

    def _use(self, name: str) -> None:
        if name != "auto":
            self._gateway = self._session.studio_and_gateway(name)[1]

    def _track_assignments(self, code: str) -> bool:
        """Take over the plain values that `code` sets; return whether it calls for pictures itself."""
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # a stranger's cell may be nested without end
            return False
        for step in tree.body:
            if isinstance(step, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For):
                targets = step.targets if isinstance(step, ast.Assign) else [step.target]
                value = (
                    _literal_value(step.value) if isinstance(step, ast.Assign | ast.AnnAssign) and step.value else None
                )
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._known.pop(target.id, None)
                        if value is not None:
                            self._known[target.id] = value
        return any(
            isinstance(step, ast.Call)
            and isinstance(step.func, ast.Attribute)
            and step.func.attr in _CALLS
            and isinstance(step.func.value, ast.Name)
            and step.func.value.id == "blockrun_magic"
            for step in ast.walk(tree)
        )

    def _priced(self, number: int, magic: str, line: str, body: str | None) -> CellPrice:
        cell = CellPrice(number, _short(body or line))
        try:
            flags = parse(magic, line, body)
            cell.words = _short(flags.prompt or body or line)
            if flags.dry_run:
                return cell
            wish = self._wish(magic, flags)
        except BlockrunError as error:
            cell.unknown = error.message
            return cell
        gateway = self._session.studio_and_gateway(flags.gateway)[1] if flags.gateway else self._gateway
        for prompt, model, size in wish.variants:
            request = ImageRequest(wish.operation, prompt, model, size, wish.quality, wish.n)
            cell.images += wish.n
            if self._is_kept(request, flags, gateway):
                cell.cached += wish.n
            elif not _is_refused(prompt, gateway):
                cell.cost += self._price(request, gateway)
        return cell

    def _wish(self, magic: str, flags: Flags) -> RequestPlan:
        catalog = self._studio.catalog_at(self._gateway)
        flags = apply_defaults(magic, flags, self._settings, catalog)
        # Prices do not depend on pictures, and those of a notebook that does not run are not there.
        return plan_requests(magic, replace(flags, images=(), mask=None), catalog, self._known, self._home)

    def _is_kept(self, request: ImageRequest, flags: Flags, gateway: Gateway) -> bool:
        from blockrun_magic.studio import Options

        if request.operation == "edit" and not flags.fresh:
            # Its source is not known: as many as were bought in these words are taken for these.
            self._begun[f"{gateway.realm} {request.canonical_json()}"] += 1
            before = self._begun[f"{gateway.realm} {request.canonical_json()}"]
            return before <= self._studio.ledger.count_finished(gateway.realm, request.to_record())
        if self._studio.is_stored(request, gateway, Options(take=flags.take, fresh=flags.fresh)):
            return True
        takes = self._takes.setdefault(f"{gateway.realm} {request.digest}", self._taken(gateway.realm, request.digest))
        take = flags.take or (max(takes, default=0) + 1 if flags.fresh or not takes else min(takes))
        kept = take in takes
        takes.add(take)
        return kept

    def _taken(self, realm: str, digest: str) -> set[int]:
        return {known.take for known in self._studio.ledger.takes(realm, digest) if known.finished_at is not None}

    def _price(self, request: ImageRequest, gateway: Gateway) -> int:
        from blockrun_magic.studio import Options
        from blockrun_magic.studio.payment.pricing import placeholder_image

        if request.operation == "edit":
            request = replace(request, images=(placeholder_image(),))  # only its price is asked
        return self._session.run(self._studio.quote(request, gateway, Options(unchecked=True), ahead=True)).total


def _is_refused(prompt: str, gateway: Gateway) -> bool:
    if gateway.realm != "practice":
        return False
    try:
        triggers = Triggers.read(prompt)
    except UnknownTrigger:
        return True
    return any(name in triggers for name in _FREE)


class _KnownFrame(dict[str, list[Any]]):
    """A DataFrame as far as it is known: its columns."""

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self)


def _literal_value(node: ast.expr) -> Any:
    """Return the value that an expression has without being run, or None."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        content = _literal(node.args[0]) if name == "DataFrame" and node.args else None
        return _KnownFrame(content) if isinstance(content, Mapping) else None
    return _literal(node)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return None
