"""From what was typed to what is asked: prompts, models, sizes and images, resolved before money is at stake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.prompts import fill, prompts_from, prompts_of_lines
from blockrun_magic.notebook.cells.sizes import resolve_size
from blockrun_magic.notebook.cells.stray_flags import check_prompts
from blockrun_magic.notebook.cells.styles import styled

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.request import ImageRequest, Operation
    from blockrun_magic.images.source import Fetch
    from blockrun_magic.notebook.settings import Settings

__all__ = ["RequestPlan", "apply_defaults", "build_requests", "plan_requests"]

_OPERATIONS: Mapping[str, Operation] = {"imagegen": "generate", "img2img": "edit"}
_VARY = "Make a variation of this picture: the same subject, mood and style, composed anew."


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What a cell asks for, before its images are read: one request for each of its variants."""

    operation: Operation
    variants: tuple[tuple[str, str, str], ...]
    """Prompt, full model id and size of each request, in the order they are shown."""
    quality: str | None
    n: int
    sources: tuple[object, ...]
    mask: object | None

    @property
    def label(self) -> str:
        """What is being made, in a few words."""
        models = list(dict.fromkeys(model for _, model, _ in self.variants))
        return models[0] if len(models) == 1 else f"{len(models)} models"


def apply_defaults(magic: str, flags: Flags, settings: Settings, catalog: Catalog) -> Flags:
    """Return `flags` with the settings' model and size where none was given and the model makes that size."""
    model = settings.model if magic == "imagegen" else settings.edit_model
    if not flags.models and model:
        flags = replace(flags, models=(model,))
    if not flags.sizes and settings.size:
        chosen = [catalog.find(name) for name in flags.models or (catalog.default_model(_OPERATIONS[magic]),)]
        if all(known is None or known.allows_size(settings.size) for known in chosen):
            flags = replace(flags, sizes=(settings.size,))
    return flags


def plan_requests(
    magic: str, flags: Flags, catalog: Catalog, namespace: Mapping[str, object], home: Path
) -> RequestPlan:
    """Return what `flags` ask of `magic`; raises FlagError, RequestError or SourceError."""
    from blockrun_magic.images.source import find_source

    operation = _OPERATIONS[magic]
    if flags.prompts:
        check_prompts(magic, prompts_from(flags.prompts, namespace))
    models = [catalog.resolve(name) for name in flags.models] or [catalog.default_model(operation)]
    variants = [
        (prompt, model, size)
        for prompt, model in product(_prompts(flags, namespace, home), dict.fromkeys(models))
        for size in dict.fromkeys(
            resolve_size(text, model, catalog) for text in flags.sizes or (catalog.default_size(model),)
        )
    ]
    return RequestPlan(
        operation=operation,
        variants=tuple(variants),
        quality=flags.quality,
        n=flags.n or 1,
        sources=tuple(find_source(text, namespace) for text in flags.images),
        mask=find_source(flags.mask, namespace) if flags.mask else None,
    )


def _prompts(flags: Flags, namespace: Mapping[str, object], home: Path) -> list[str]:
    if flags.prompts:
        prompts = prompts_from(flags.prompts, namespace)
    elif flags.each:
        prompts = prompts_of_lines(flags.prompt)
    else:
        prompts = [flags.prompt]
    if flags.vary:
        prompts = [f"{_VARY} {prompt}".strip() for prompt in prompts]
    if flags.fill:
        prompts = [filled for prompt in prompts for filled in fill(prompt, namespace)]
    if flags.style:
        prompts = [styled(prompt, flags.style, home) for prompt in prompts]
    return prompts


async def build_requests(wish: RequestPlan, fetch: Fetch) -> list[ImageRequest]:
    """Return the requests of a wish, its images read and encoded once; raises SourceError."""
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.images.source import read_mask, read_upload

    images = tuple([await read_upload(source, fetch) for source in wish.sources])
    mask = None if wish.mask is None else await read_mask(wish.mask, images[0], fetch)
    return [
        ImageRequest(
            operation=wish.operation,
            prompt=prompt,
            model=model,
            size=size,
            quality=wish.quality,
            n=wish.n,
            images=images,
            mask=mask,
        )
        for prompt, model, size in wish.variants
    ]
