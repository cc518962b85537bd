"""One cell of `%%imagegen` or `%%img2img`: parse, resolve, make, show, bind."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.errors import BlockrunError, FlagError
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.flags import Flags, parse
from blockrun_magic.notebook.live import LiveLine
from blockrun_magic.studio.progress import Progress

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from blockrun_magic.gateway.presets import Gateway
    from blockrun_magic.gateway.request import ImageRequest, Operation
    from blockrun_magic.notebook.session import Session
    from blockrun_magic.payments.rows import Purchase
    from blockrun_magic.studio import ImageResult, Options, Studio

__all__ = ["collect", "is_terminal", "make"]

_OPERATIONS: Mapping[str, Operation] = {"imagegen": "generate", "img2img": "edit"}


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a cell asks for, before its images are read."""

    operation: Operation
    flags: Flags
    model: str
    size: str
    sources: tuple[object, ...]
    mask: object | None


def make(context: Context, magic: str, line: str, cell: str | None) -> ImageResult | None:
    """Run one image cell and return its result, shown and bound; None for a dry run.

    Raises every error of ours, and KeyboardInterrupt when it was stopped.
    """
    flags = parse(magic, line, cell)
    studio, gateway = context.session.ready()
    wish = _wish(studio, magic, flags, context.shell.user_ns)
    if flags.dry_run:
        _show_quote(context.session, studio, gateway, wish)
        return None

    async def work(progress: Progress) -> ImageResult:
        progress.stage = "reading the picture" if wish.sources else progress.stage
        request = await _request(studio, wish)
        return await studio.make(request, gateway, _options(flags), progress)

    return _finish(context, work, wish.model, gateway.realm, flags)


def collect(context: Context, purchase: Purchase) -> ImageResult:
    """Return the result of a purchase that was left open, shown and bound; raises every error of ours."""
    studio, gateway = context.session.ready()

    async def work(progress: Progress) -> ImageResult:
        return await studio.resume(purchase, gateway, progress)

    model = str(purchase.request["model"])
    return _finish(context, work, model, purchase.realm, Flags(str(purchase.request["prompt"])))


def is_terminal(shell: InteractiveShell) -> bool:
    """Return whether the shell is a terminal, which shows text only."""
    return not hasattr(shell, "kernel")


def _wish(studio: Studio, magic: str, flags: Flags, namespace: Mapping[str, object]) -> _Wish:
    from blockrun_magic.pictures.source import find_source
    from blockrun_magic.studio.result import check_save_path

    operation = _OPERATIONS[magic]
    if len(flags.models) > 1 or len(flags.sizes) > 1:
        raise FlagError("One cell makes pictures of one model and one size.", "Use a cell for each of them.")
    if flags.save:
        check_save_path(flags.save)
    catalog = studio.catalog
    model = catalog.resolve(flags.models[0]) if flags.models else catalog.default_model(operation)
    return _Wish(
        operation=operation,
        flags=flags,
        model=model,
        size=flags.sizes[0] if flags.sizes else catalog.default_size(model),
        sources=tuple(find_source(text, namespace) for text in flags.images),
        mask=find_source(flags.mask, namespace) if flags.mask else None,
    )


async def _request(studio: Studio, wish: _Wish) -> ImageRequest:
    """Return the request of a wish, its images read and encoded; raises SourceError."""
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.pictures.source import read_mask, read_upload, upload_size

    fetch = studio.client.fetch
    images = tuple([await read_upload(source, fetch) for source in wish.sources])
    mask = None if wish.mask is None else await read_mask(wish.mask, upload_size(images[0]), fetch)
    return ImageRequest(
        operation=wish.operation,
        prompt=wish.flags.prompt,
        model=wish.model,
        size=wish.size,
        quality=wish.flags.quality,
        n=wish.flags.n or 1,
        images=images,
        mask=mask,
    )


def _options(flags: Flags) -> Options:
    from blockrun_magic.studio import Options

    return Options(
        max_price=flags.max_price,
        fresh=flags.fresh,
        take=flags.take,
        unchecked=flags.unchecked,
        private=flags.private,
        cache_only=os.environ.get("BLOCKRUN_CACHE_ONLY", "") not in ("", "0"),
    )


def _show_quote(session: Session, studio: Studio, gateway: Gateway, wish: _Wish) -> None:
    from blockrun_magic.notebook.cards import quote_card
    from blockrun_magic.notebook.showing import show

    async def ask() -> Any:
        return await studio.quote(await _request(studio, wish), gateway, _options(wish.flags))

    show(quote_card(session.run(ask()), wish.model, wish.size))


def _finish(
    context: Context,
    work: Callable[[Progress], Coroutine[Any, Any, ImageResult]],
    label: str,
    realm: str,
    flags: Flags,
) -> ImageResult:
    """Wait for `work` with a live line, then show, bind and save what it made."""
    progress = Progress()
    live = LiveLine(label, progress, realm, terminal=is_terminal(context.shell), quiet=flags.quiet)
    try:
        result = context.session.run(work(progress), live.tick)
    except KeyboardInterrupt:
        live.stopped()
        raise
    except BlockrunError:
        live.end()
        raise
    _bind(context.shell, flags, result)
    saved: list[str] = []
    try:
        saved += [str(path) for path in result.save(flags.save)] if flags.save else []
    finally:
        # Shown even when it cannot be saved: it was paid for.
        context.showing.show(live, result, saved, full=flags.full, quiet=flags.quiet)
    return result


def _bind(shell: InteractiveShell, flags: Flags, result: ImageResult) -> None:
    """Bind `img`, `imgs` and the name of `--as` to copies: drawing on them leaves the result whole."""
    images = [image.copy() for image in result.images]
    names: dict[str, object] = {"img": images[0], "imgs": images}
    if flags.name:
        names[flags.name] = images[0] if len(images) == 1 else images
    shell.push(names)
