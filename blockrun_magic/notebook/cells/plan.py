"""Plans of cells: flags become requests, and every name is resolved before money is at stake."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.gateway.catalog.sizes import resolve_size
from blockrun_magic.gateway.catalog.snapshot import dimensions
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.prompts import Variant, fill_variants, prompts_from, prompts_of_lines
from blockrun_magic.notebook.cells.stray_flags import check_prompts
from blockrun_magic.notebook.cells.styles import styled

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.request import ImageRequest, Operation, Upload
    from blockrun_magic.images.source import Fetch
    from blockrun_magic.notebook.settings import Settings

__all__ = ["RequestPlan", "apply_defaults", "build_requests", "notes_of", "plan_requests"]

_OPERATIONS: Mapping[str, Operation] = {"imagegen": "generate", "img2img": "edit"}
_BRACES = re.compile(r"\{([^\W\d]\w*)\}")
_VARY = "Make a variation of this image: the same subject, mood and style, in a new composition."


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """Plan of a cell, before its images are read: one request for each of its variants."""

    operation: Operation
    variants: tuple[tuple[str, str, str], ...]
    """Prompt, full model id and size of each request, in the order they are shown."""
    quality: str | None
    n: int
    sources: tuple[object, ...]
    mask: object | None
    facets: tuple[Mapping[str, str], ...] = ()
    """The values that vary in each request, by name: "model", "size", "prompt", or a name that `--fill` filled in."""
    size_note: str = ""
    """A sentence that gives sizes in words as pixels."""
    fill_note: str = ""
    """A sentence about a variable in braces that was not filled in, because `--fill` is missing."""
    shrink: bool = False
    """Whether sources that are too large are scaled down."""
    source_names: tuple[str, ...] = ()
    mask_name: str = ""
    """The names of the sources and the mask as the user typed them, for errors."""

    @property
    def label(self) -> str:
        """A short label for progress lines: the model, or the number of models."""
        models = list(dict.fromkeys(model for _, model, _ in self.variants))
        return models[0] if len(models) == 1 else f"{len(models)} models"


def apply_defaults(magic: str, flags: Flags, settings: Settings, catalog: Catalog) -> Flags:
    """Return `flags` with the settings' model and size where none was given and the model makes that size."""
    model = settings.model if magic == "imagegen" else settings.edit_model
    if not flags.models and model:
        flags = replace(flags, models=(model,))
    if not flags.sizes and settings.size:
        chosen = [catalog.find(name) for name in flags.models or (catalog.default_model(_OPERATIONS[magic]),)]
        if all(entry is None or entry.allows_size(settings.size) for entry in chosen):
            flags = replace(flags, sizes=(settings.size,))
    return replace(flags, shrink=flags.shrink or (magic == "img2img" and settings.shrink))


def plan_requests(
    magic: str, flags: Flags, catalog: Catalog, namespace: Mapping[str, object], home: Path
) -> RequestPlan:
    """Return the plan for `flags` of `magic`; raises FlagError, RequestError or SourceError."""
    from blockrun_magic.images.source import find_source

    operation = _OPERATIONS[magic]
    models = list(dict.fromkeys(catalog.resolve(name) for name in flags.models)) or [catalog.default_model(operation)]
    sizes = flags.sizes or ("",)
    prompts = _prompts(magic, flags, namespace, home)
    variants: dict[tuple[str, str, str], Mapping[str, str]] = {}
    for variant, model, text in product(prompts, models, sizes):
        size = resolve_size(text, model, catalog) if text else catalog.default_size(model)
        facets = {"model": model, **({"size": text} if text else {}), **variant.values}
        variants.setdefault((variant.prompt, model, size), facets)
    return RequestPlan(
        operation=operation,
        variants=tuple(variants),
        quality=flags.quality,
        n=flags.n or 1,
        sources=tuple(find_source(text, namespace) for text in flags.images),
        mask=find_source(flags.mask, namespace, "mask") if flags.mask else None,
        facets=tuple(variants.values()),
        size_note=_size_note(sizes, models, catalog),
        fill_note="" if flags.fill else _fill_note(prompts, namespace),
        shrink=flags.shrink,
        source_names=flags.images,
        mask_name=flags.mask or "",
    )


def _size_note(sizes: Sequence[str], models: Sequence[str], catalog: Catalog) -> str:
    """Return sizes in words as pixels: "16:9 is 1216x832." or, for several models, each with its size."""
    notes = []
    for text in sizes:
        if not text or dimensions(text):
            continue
        meant = {model: resolve_size(text, model, catalog) for model in models}
        if len(set(meant.values())) == 1:
            notes.append(f"{text} is {meant[models[0]]} here.")
        else:
            notes.append(f"{text} is {', '.join(f'{size} for {model}' for model, size in meant.items())}.")
    return " ".join(notes)


def _fill_note(prompts: Sequence[Variant], namespace: Mapping[str, object]) -> str:
    """Return a sentence about a variable in braces that is sent unchanged."""
    names = [name for each in prompts for name in _BRACES.findall(each.prompt) if name in namespace]
    return f"{{{names[0]}}} was sent as it is; --fill fills in variables." if names else ""


def _prompts(magic: str, flags: Flags, namespace: Mapping[str, object], home: Path) -> list[Variant]:
    if flags.prompts:
        prompts = prompts_from(flags.prompts, namespace)
        check_prompts(magic, prompts)
    elif flags.each:
        prompts = prompts_of_lines(flags.prompt)
    else:
        prompts = [flags.prompt]
    several = len(prompts) > 1
    variants = [Variant(prompt, {"prompt": prompt} if several else {}) for prompt in prompts]
    if flags.vary:
        variants = [replace(each, prompt=f"{_VARY} {each.prompt}".strip()) for each in variants]
    if flags.fill:
        variants = [
            Variant(filled.prompt, {**each.values, **filled.values})
            for each in variants
            for filled in fill_variants(each.prompt, namespace)
        ]
    if flags.style:
        variants = [replace(each, prompt=styled(each.prompt, flags.style, home)) for each in variants]
    return variants


async def build_requests(plan: RequestPlan, fetch: Fetch) -> list[ImageRequest]:
    """Return the requests of a plan, its images read and encoded once; raises SourceError."""
    from blockrun_magic.gateway.request import ImageRequest

    images, mask = await _read_images(plan, fetch)
    return [
        ImageRequest(
            operation=plan.operation,
            prompt=prompt,
            model=model,
            size=size,
            quality=plan.quality,
            n=plan.n,
            images=images,
            mask=mask,
        )
        for prompt, model, size in plan.variants
    ]


async def _read_images(plan: RequestPlan, fetch: Fetch) -> tuple[tuple[Upload, ...], Upload | None]:
    """Return the sources and the mask of a plan, read and encoded once; raises SourceError."""
    from blockrun_magic.images.source import read_mask, read_upload

    # Sources that the panel adds have no names of their own.
    names = plan.source_names if len(plan.source_names) == len(plan.sources) else [""] * len(plan.sources)
    sources = [await source if isinstance(source, BackgroundJob) else source for source in plan.sources]
    uploads = [
        await read_upload(source, fetch, text=name, shrink=plan.shrink)
        for source, name in zip(sources, names, strict=True)
    ]
    mask = None if plan.mask is None else await read_mask(plan.mask, uploads[0], fetch, text=plan.mask_name)
    return tuple(uploads), mask


def notes_of(plan: RequestPlan, requests: Sequence[ImageRequest]) -> str:
    """Return sentences about what the requests changed: sizes in words, shrunk sources."""
    notes = [plan.size_note, plan.fill_note, *(image.note for image in requests[0].images)]
    return " ".join(note for note in notes if note)
