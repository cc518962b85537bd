"""JavaScript modules and style sheets of the package, as the text that anywidget sends to the page."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["script", "style"]

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def script(name: str) -> str:
    """Return the module `name` of this folder with the modules that it imports, as one module.

    Modules share one scope afterwards: their names must differ. Anywidget gets the text and no path: it would watch the
    file and never release its widgets.
    """
    order: list[str] = []
    _visit(name, order)
    parts = [_IMPORT.sub("", _text(part)) for part in order]
    return "\n".join([*(_EXPORT.sub("", part) for part in parts[:-1]), parts[-1]])


@cache
def style(*names: str) -> str:
    """Return the style sheets `names` of this folder, one after the other."""
    return "\n".join(map(_text, names))


def _visit(name: str, order: list[str]) -> None:
    for imported in _IMPORT.findall(_text(name)):
        if imported not in order:
            _visit(imported, order)
    order.append(name)


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
