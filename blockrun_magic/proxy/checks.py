"""Checks against the catalog, reported as OpenAI's API does: the field, and values that work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockrun_magic.gateway.catalog.catalog import nearest_size
from blockrun_magic.proxy.errors import BadRequest
from blockrun_magic.text import any_of, quoted

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.catalog.snapshot import Model
    from blockrun_magic.gateway.request import ImageRequest

__all__ = ["check_request"]

_SHOWN = 8


def check_request(
    request: ImageRequest, catalog: Catalog, *, sources: int | None = None, masked: bool | None = None
) -> None:
    """Raise BadRequest for a request that its model cannot answer, if the catalog has the model.

    `sources` and `masked` replace the images and the mask of a request that does not have them yet.
    """
    model = catalog.find(request.model)
    if model is None or model.unverified:
        return
    if request.operation == "edit":
        count = len(request.images) if sources is None else sources
        _check_edit(model, catalog, count, masked=request.mask is not None if masked is None else masked)
    if not model.allows_size(request.size):
        able = any_of(dict.fromkeys([nearest_size(model, request.size), *model.sizes[:_SHOWN], "auto"]))
        message = f"{model.id} does not make images of size {quoted(request.size)}. Use {able}."
        raise BadRequest(message, "size", code="invalid_value")
    if request.quality is not None and request.quality not in model.qualities:
        advice = f"Use {any_of(model.qualities)}" if model.qualities else "Leave `quality` out"
        raise BadRequest(
            f"{model.id} offers no quality {quoted(request.quality)} here. {advice}.", "quality", code="invalid_value"
        )


def _check_edit(model: Model, catalog: Catalog, sources: int, *, masked: bool) -> None:
    if not model.edits:
        able = any_of(each.id for each in catalog.models if each.edits)
        raise BadRequest(f"{model.id} does not edit images. Use {able}.", "model", code="invalid_value")
    if masked and not model.takes_mask:
        able = any_of(each.id for each in catalog.models if each.takes_mask)
        raise BadRequest(f"{model.id} does not take a mask. Use {able}.", "model", code="invalid_value")
    if masked and sources > 1:
        raise BadRequest("A mask works with one image. Send one image, or no mask.", "mask", code="invalid_value")
    if sources > model.max_images:
        raise BadRequest(f"{model.id} takes at most {model.max_images} images.", "image", code="invalid_value")
