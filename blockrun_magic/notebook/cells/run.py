"""One cell of `%%imagegen` or `%%img2img`: parse, resolve, make, show, bind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.parser import parse
from blockrun_magic.notebook.cells.plan import RequestPlan, apply_defaults, build_requests, plan_requests
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import Message
from blockrun_magic.notebook.display.progress import BatchProgressLine, ProgressLine
from blockrun_magic.notebook.unlock import run_with_unlock
from blockrun_magic.studio.progress import Progress
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio import ImageResult, ImageResults, Options

__all__ = ["bind_results", "request_options", "resume_purchase", "run_cell"]

T = TypeVar("T")

_POLL_INTERVAL = 0.25


def run_cell(
    context: Context, magic: str, line: str, cell: str | None
) -> ImageResult | ImageResults | BackgroundJob | None:
    """Run one image cell and return what it made, shown and bound; None for a dry run.

    Raises every error of ours, and KeyboardInterrupt when it was stopped.
    """
    from blockrun_magic.studio.results.result import check_save_path

    flags = parse(magic, line, cell)
    studio, gateway = context.session.studio_and_gateway(flags.gateway)
    if flags.save:
        check_save_path(flags.save)
    catalog = studio.catalog_at(gateway)
    flags = apply_defaults(magic, flags, context.session.settings, catalog)
    wish = plan_requests(magic, flags, catalog, context.shell.user_ns, blockrun_home())
    if flags.dry_run:
        _show_price(context, flags, wish)
        return None
    if len(wish.variants) > 1:
        return _make_many(context, flags, wish)
    return _make_one(context, flags, wish)


def resume_purchase(context: Context, purchase: Purchase) -> ImageResult:
    """Return the result of a purchase that was left open, shown and bound; raises every error of ours."""
    studio, gateway = context.session.studio_and_gateway(purchase.gateway)
    progress = Progress()

    async def work() -> ImageResult:
        return await studio.resume(purchase, gateway, progress)

    live = ProgressLine(str(purchase.request["model"]), progress, purchase.realm, context.shell)
    return _finish(context, live, work, Flags(str(purchase.request["prompt"])))


def _make_one(context: Context, flags: Flags, wish: RequestPlan) -> ImageResult | BackgroundJob:
    studio, gateway = context.session.studio_and_gateway(flags.gateway)
    progress = Progress()

    async def work() -> ImageResult:
        progress.stage = "reading the picture" if wish.sources else progress.stage
        [request] = await build_requests(wish, studio.client.fetch)
        return await studio.make(request, gateway, request_options(context, flags), progress)

    [(_, model, size)] = wish.variants
    usual = studio.ledger.usual_seconds(model, size)
    live = ProgressLine(wish.label, progress, gateway.realm, context.shell, quiet=flags.quiet, usual=usual)
    if flags.background:
        return _in_background(context, live, work, flags, lambda: progress.sent)
    return _finish(context, live, work, flags)


def _make_many(context: Context, flags: Flags, wish: RequestPlan) -> ImageResults | BackgroundJob:
    from blockrun_magic.studio.batch import BatchProgress, make_all

    studio, gateway = context.session.studio_and_gateway(flags.gateway)
    progress = BatchProgress(len(wish.variants))

    async def work() -> ImageResults:
        requests = await build_requests(wish, studio.client.fetch)
        results = await make_all(
            studio,
            requests,
            gateway,
            request_options(context, flags),
            progress,
            flags.jobs or context.session.settings.jobs,
        )
        if results.failures and not results:
            raise results.failures[0].error
        return results

    live = BatchProgressLine(wish.label, progress, gateway.realm, context.shell, quiet=flags.quiet)
    if flags.background:
        return _in_background(context, live, work, flags, lambda: bool(progress.done or progress.in_flight))
    return _finish(context, live, work, flags)


def _finish(context: Context, live: ProgressLine, work: Callable[[], Coroutine[Any, Any, T]], flags: Flags) -> T:
    """Wait for `work` with a live line, then bind, save and show what it made."""
    try:
        result: Any = run_with_unlock(context.session, work, live.update)
    except KeyboardInterrupt:
        live.show_interrupted()
        raise
    except BlockrunError:
        live.finish()
        raise
    bind_results(context, flags, result.images)
    saved: list[str] = []
    try:
        saved += [str(path) for path in result.save(flags.save)] if flags.save else []
    finally:
        # Shown even when it cannot be saved: it was paid for.
        context.showing.show(live, result, saved, full=flags.full, quiet=flags.quiet)
    made: T = result
    return made


def _in_background(
    context: Context,
    live: ProgressLine,
    work: Callable[[], Coroutine[Any, Any, Any]],
    flags: Flags,
    sent: Callable[[], bool],
) -> BackgroundJob:
    """Start `work`, show its line, and return the handle, which is also bound in place of a picture."""
    live.detach()

    async def watched() -> Any:
        task = asyncio.ensure_future(work())
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_POLL_INTERVAL)
                live.update()
            result = task.result()
            saved = [str(path) for path in result.save(flags.save)] if flags.save else []
        except BlockrunError as error:
            live.finish(Message(str(error)))
            raise
        except asyncio.CancelledError:
            task.cancel()
            live.show_interrupted()
            raise
        context.showing.show(live, result, saved, full=flags.full, quiet=flags.quiet)
        return result

    handle = BackgroundJob(context.session.bridge.submit(watched()), live.label, sent)
    context.session.backgrounds.append(handle)
    context.shell.push({flags.name or context.session.settings.image_name: handle})
    return handle


def _show_price(context: Context, flags: Flags, wish: RequestPlan) -> None:
    from blockrun_magic.notebook.display.captions import quotes_card
    from blockrun_magic.notebook.display.output import show
    from blockrun_magic.studio.batch import quote_all

    studio, gateway = context.session.studio_and_gateway(flags.gateway)

    async def ask() -> Any:
        requests = await build_requests(wish, studio.client.fetch)
        return requests, await quote_all(studio, requests, gateway, request_options(context, flags))

    requests, quotes = context.session.run(ask())
    show(quotes_card(requests, quotes))


def request_options(context: Context, flags: Flags) -> Options:
    """Return how `flags` allow their requests to be answered."""
    from blockrun_magic.studio import Options

    return Options(
        max_price=flags.max_price,
        fresh=flags.fresh,
        take=flags.take,
        unchecked=flags.unchecked,
        private=flags.private,
        cache_only=context.session.settings.cache_only or os.environ.get("BLOCKRUN_CACHE_ONLY", "") not in ("", "0"),
    )


def bind_results(context: Context, flags: Flags, pictures: Sequence[Image.Image]) -> None:
    """Bind `img`, `imgs` and the name of `--as` to copies: drawing on them leaves the result whole."""
    images = [image.copy() for image in pictures]
    settings = context.session.settings
    names: dict[str, object] = {settings.image_name: images[0], settings.images_name: images}
    if flags.name:
        names[flags.name] = images[0] if len(images) == 1 else images
    context.shell.push(names)
