"""Notes on cells: flags that are not part of a request, stars, and the cell that `%blockrun reuse` writes.

A line of `magic/cells.jsonl` belongs to a purchase; the last line for a name counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.parser import render

if TYPE_CHECKING:
    from blockrun_magic.notebook.context import Context
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio import Studio
    from blockrun_magic.studio.results.stored_files import StoredFiles

__all__ = ["cell_notes", "cell_of", "record_cell", "set_star"]

_MAX_BYTES = 50_000_000


def record_cell(home: Path, purchase_ids: Iterable[str], flags: Flags) -> None:
    """Record `--as`, `--image` and `--mask` as they were typed; a failure to write is ignored."""
    typed = {"as": flags.name, "images": list(flags.images), "mask": flags.mask, "style": flags.style}
    if any(typed.values()):
        _append(home, [{"id": purchase_id, **typed} for purchase_id in purchase_ids])


def set_star(home: Path, purchase_id: str, *, starred: bool) -> None:
    """Star an image, or remove its star."""
    _append(home, [{"id": purchase_id, "star": starred}])


def cell_notes(home: Path) -> dict[str, dict[str, Any]]:
    """Return the recorded notes by the id of the purchase."""
    path = _path(home)
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_BYTES).splitlines()
    except OSError:
        return {}
    notes: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            note = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(note, dict) and isinstance(note.get("id"), str):
            notes.setdefault(note["id"], {}).update(note)
    return notes


def cell_of(context: Context, studio: Studio, purchase: Purchase, note: Mapping[str, Any]) -> tuple[str, str]:
    """Return the cell that makes `purchase` again, and a sentence about missing sources, or "".

    A source is written as it was typed if that is still the same image; otherwise it is bound to a new variable.
    """
    from blockrun_magic.gateway.catalog.catalog import SNAPSHOT

    request = purchase.request
    model = SNAPSHOT.find(request["model"])
    names, gone = _sources(context, studio, request, note)
    mask = names.pop() if request["mask"] else None
    flags = Flags(
        prompt=request["prompt"],
        models=(model.shorthands[0] if model and model.shorthands else request["model"],),
        sizes=(request["size"],),
        n=request["n"] if request["n"] > 1 else None,
        quality=request["quality"],
        take=purchase.take if purchase.take > 1 else None,
        name=note.get("as") if isinstance(note.get("as"), str) else None,
        images=tuple(names),
        mask=mask,
    )
    sentence = f"# {gone} of its source images are no longer stored: replace img with yours." if gone else ""
    return render("img2img" if names else "imagegen", flags), sentence


def _sources(context: Context, studio: Studio, request: Any, note: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the text for each source and for the mask, and the number of missing ones."""
    uploads = request.get("uploads", ())
    images, mask = note.get("images"), note.get("mask")
    typed = [*(images if isinstance(images, list) else []), *([mask] if request["mask"] else [])]
    digests = [*request["image"], *([request["mask"]] if request["mask"] else [])]
    names: list[str] = []
    gone = 0
    for place, upload in enumerate(uploads):
        text = typed[place] if len(typed) == len(uploads) else None
        is_mask = bool(request["mask"]) and place == len(uploads) - 1
        if isinstance(text, str) and _is_same(context, studio, text, None if is_mask else digests[place]):
            names.append(text)
            continue
        name = _bind(context, studio.files, upload, pixels=digests[place].startswith("pixels"))
        gone += name is None
        names.append(name or "img")
    return names, gone


def _is_same(context: Context, studio: Studio, text: str, digest: str | None) -> bool:
    """Return whether `text` still names the image that was sent; without a digest, whether it names an image.

    An image on the web is not fetched.
    """
    from blockrun_magic.errors import BlockrunError
    from blockrun_magic.images.source import find_source, read_upload

    if text[:5].lower() in ("http:", "https"):
        return True
    try:
        source = find_source(text, context.namespace)
        upload = context.session.run(read_upload(source, studio.fetch))
    except BlockrunError:
        return False
    return digest is None or upload.digest == digest


def _bind(context: Context, files: StoredFiles, upload: Mapping[str, str], *, pixels: bool) -> str | None:
    """Bind a stored source to a new variable and return its name, or None if it is no longer stored.

    With `pixels`, the source was an image in memory; as one, and otherwise as a file, it gives the same request.
    """
    from PIL import Image

    path = files.path(upload["file"], upload["media_type"])
    if not path.exists():
        return None
    taken = context.shell.user_ns
    name = next(name for number in range(1, 10_000) if (name := f"source{number}") not in taken)
    if not pixels:
        context.shell.push({name: path})
        return name
    with Image.open(path) as image:
        context.shell.push({name: image.copy()})
    return name


def _append(home: Path, notes: Iterable[Mapping[str, Any]]) -> None:
    path = _path(home)
    text = "".join(json.dumps(note) + "\n" for note in notes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return


def _path(home: Path) -> Path:
    return home / "magic" / "cells.jsonl"
