"""The cell that makes an image again, for `%blockrun reuse`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockrun_magic.images.store import Store
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio import Studio

__all__ = ["cell_of"]


def cell_of(studio: Studio, purchase: Purchase) -> tuple[str, str]:
    """Return the cell that makes `purchase` again, and a sentence about sources that are gone, or ""."""
    from blockrun_magic.notebook.cells.flags import Flags
    from blockrun_magic.notebook.cells.parser import render

    request = purchase.request
    model = studio.catalog.find(request["model"])
    sources, mask, note = _sources(studio.store, request)
    flags = Flags(
        prompt=request["prompt"],
        models=(model.shorthands[0] if model and model.shorthands else request["model"],),
        sizes=(request["size"],),
        n=request["n"] if request["n"] > 1 else None,
        quality=request["quality"],
        take=purchase.take if purchase.take > 1 else None,
        images=sources,
        mask=mask,
    )
    return render("img2img" if sources else "imagegen", flags), note


def _sources(store: Store, request: Any) -> tuple[tuple[str, ...], str | None, str]:
    """Return what to write after --image and --mask, and a sentence where a source is gone."""
    paths = [store.path(upload["file"], upload["media_type"]) for upload in request.get("uploads", ())]
    names = [str(path) if path.exists() else "img" for path in paths]
    gone = sum(not path.exists() for path in paths)
    note = f"# {gone} of its pictures are no longer kept: put yours in the place of img." if gone else ""
    mask = names.pop() if request["mask"] else None
    return tuple(names), mask, note
