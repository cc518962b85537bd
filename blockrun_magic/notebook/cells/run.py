"""Running of one cell of `%%imagegen` or `%%img2img`: parse, plan, run, show, bind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from blockrun_magic.errors import BlockrunError, BudgetError, Money, WalletError
from blockrun_magic.notebook.background import BackgroundJob
from blockrun_magic.notebook.cells.flags import Flags, help_text
from blockrun_magic.notebook.cells.parser import asks_for_help, parse
from blockrun_magic.notebook.cells.plan import RequestPlan, apply_defaults, build_requests, notes_of, plan_requests
from blockrun_magic.notebook.cells.rerun import record_cell
from blockrun_magic.notebook.config_file import ask_above
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.captions import quotes_card
from blockrun_magic.notebook.display.cards import Message, Preformatted, format_amount
from blockrun_magic.notebook.display.output import render_as, show
from blockrun_magic.notebook.display.progress import BatchProgressLine, ProgressLine
from blockrun_magic.notebook.unlock import run_with_unlock
from blockrun_magic.payments.money import format_usd
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.passphrase import prompt_visible
from blockrun_magic.studio.progress import Progress
from blockrun_magic.threads import run_cpu, run_io
from blockrun_magic.unexpected import await_guarded
from blockrun_magic.wiring import blockrun_home

if TYPE_CHECKING:
    from PIL import Image

    from blockrun_magic.gateway.gateways import Gateway
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio import ImageResult, ImageResults, Options, Studio
    from blockrun_magic.studio.results.result import Quote

__all__ = ["bind_results", "request_options", "resume_purchase", "run_cell"]

T = TypeVar("T")

_POLL_INTERVAL = 0.25
_MAX_COPIES = 8
_STOPPED_SHOWING = "Stopped. The image is made and stored; run the cell again to see it for $0.00."


@dataclass(frozen=True, slots=True)
class _Cell:
    """A running cell: its flags, its plan, and the studio and gateway that answer it."""

    context: Context
    flags: Flags
    plan: RequestPlan
    studio: Studio
    gateway: Gateway

    @property
    def options(self) -> Options:
        """The options of its requests."""
        draw = None if self.flags.quiet else self.context.showing.drawing(len(self.plan.variants) * self.plan.n)
        from blockrun_magic.studio.options import Handling

        return replace(request_options(self.context, self.flags), handling=Handling(draw=draw))


def run_cell(
    context: Context, magic: str, line: str, cell: str | None
) -> ImageResult | ImageResults | BackgroundJob | None:
    """Run one image cell and return its result, shown and bound; None for a dry run or a request for help.

    Raises BlockrunError, and KeyboardInterrupt when it was stopped.
    """
    from blockrun_magic.studio.results.result import check_save_path

    if asks_for_help(line, cell):
        show(Preformatted(help_text(magic)))
        return None
    flags = parse(magic, line, cell)
    studio, gateway = context.session.studio_and_gateway(flags.gateway)
    if flags.save:
        check_save_path(flags.save)
    catalog = studio.catalogs.at(gateway)
    flags = apply_defaults(magic, flags, context.session.settings, catalog)
    plan = plan_requests(magic, flags, catalog, context.namespace, blockrun_home())
    running = _Cell(context, flags, plan, studio, gateway)
    if flags.dry_run:
        show(quotes_card(*_prices(running, ahead=False)))
        return None
    flags = _ask_if_expensive(running)
    running = replace(running, flags=flags)
    return _make_many(running) if len(plan.variants) > 1 else _make_one(running)


def resume_purchase(context: Context, purchase: Purchase) -> ImageResult:
    """Return the result of a purchase that was left open, shown and bound; raises BlockrunError."""
    studio, gateway = context.session.studio_and_gateway(purchase.gateway)
    progress = Progress()

    async def work() -> ImageResult:
        return await studio.resume(purchase, gateway, progress)

    live = ProgressLine(str(purchase.request["model"]), progress, purchase.realm, context.shell)
    return _finish(context, live, work, Flags(str(purchase.request["prompt"])))


def _make_one(cell: _Cell) -> ImageResult | BackgroundJob:
    progress, flags, plan = Progress(), cell.flags, cell.plan

    async def work() -> ImageResult:
        progress.stage = "reading the image" if plan.sources else progress.stage
        [request] = await build_requests(plan, cell.studio.fetch)
        live.note = notes_of(plan, [request])
        return await cell.studio.make(request, cell.gateway, cell.options, progress)

    [(_, model, size)] = plan.variants
    usual = cell.studio.records.usual_seconds(model, size)
    shell = cell.context.shell
    live = ProgressLine(plan.label, progress, cell.gateway.realm, shell, quiet=flags.quiet, usual=usual)
    if flags.background:
        return _in_background(cell.context, live, work, flags, lambda: progress.sent)
    return _finish(cell.context, live, work, flags)


def _make_many(cell: _Cell) -> ImageResults | BackgroundJob:
    from blockrun_magic.studio.batch import BatchProgress, make_all
    from blockrun_magic.studio.results.batch import ImageResults

    progress, flags, plan = BatchProgress(len(cell.plan.variants)), cell.flags, cell.plan

    async def work() -> ImageResults:
        requests = await build_requests(plan, cell.studio.fetch)
        live.note = notes_of(plan, requests)
        jobs = flags.jobs or cell.context.session.settings.jobs
        results = await make_all(cell.studio, requests, cell.gateway, cell.options, progress, jobs)
        if results.failures and not results:
            raise results.failures[0].error
        return ImageResults(results, results.failures, plan.facets)

    live = BatchProgressLine(plan.label, progress, cell.gateway.realm, cell.context.shell, quiet=flags.quiet)
    if flags.background:
        sent = lambda: bool(progress.done or progress.in_flight)  # noqa: E731
        return _in_background(cell.context, live, work, flags, sent)
    return _finish(cell.context, live, work, flags)


def _finish(context: Context, live: ProgressLine, work: Callable[[], Coroutine[Any, Any, T]], flags: Flags) -> T:
    """Wait for `work` with a live line, then bind, save and show its images."""
    result: Any = None
    try:
        result = run_with_unlock(context.session, work, live.update)
        _deliver(context, live, result, flags)
    except KeyboardInterrupt as stop:
        live.finish()
        render_as(stop, live.interrupted_text() if result is None else _STOPPED_SHOWING)
        raise
    except Exception:
        if result is None:
            live.finish()
        raise
    delivered: T = result
    return delivered


def _deliver(context: Context, live: ProgressLine, result: Any, flags: Flags) -> None:
    """Bind, save and show the images."""
    bind_results(context, flags, result.images)
    record_cell(blockrun_home(), _purchase_ids(result), flags)
    saved: list[str] = []
    try:
        saved += [str(path) for path in result.save(flags.save)] if flags.save else []
    finally:
        # Shown even when it cannot be saved: it was paid for.
        context.showing.show(live, result, saved, full=flags.full, quiet=flags.quiet)


def _purchase_ids(result: Any) -> list[str]:
    results = [result] if hasattr(result, "receipt") else list(result)
    return [each.receipt.purchase_id for each in results if each.receipt.purchase_id]


def _in_background(
    context: Context,
    live: ProgressLine,
    work: Callable[[], Coroutine[Any, Any, Any]],
    flags: Flags,
    sent: Callable[[], bool],
) -> BackgroundJob:
    """Start `work`, show its line, and return the handle, which is also bound in place of an image."""
    live.detach()

    async def finished(task: asyncio.Task[Any]) -> Any:
        while not task.done():
            await asyncio.wait([task], timeout=_POLL_INTERVAL)
            live.update()
        result = task.result()
        await run_io(record_cell, blockrun_home(), _purchase_ids(result), flags)
        saved = await run_cpu(result.save, flags.save) if flags.save else []
        # Previews take time, and output goes to the cell in the task's context.
        show_result = partial(context.showing.show, live, result, [str(path) for path in saved])
        await run_cpu(copy_context().run, partial(show_result, full=flags.full, quiet=flags.quiet))
        return result

    async def watched() -> Any:
        task = asyncio.ensure_future(work())
        try:
            return await await_guarded(finished(task))
        except BlockrunError as error:
            live.finish(Message(str(error)))
            raise
        except asyncio.CancelledError:
            task.cancel()
            live.finish(Message(live.interrupted_text()))
            raise

    handle = BackgroundJob(context.session.loop_thread, watched(), live.label, sent)
    context.session.backgrounds.append(handle)
    context.shell.push({flags.name or context.session.settings.image_name: handle})
    return handle


def _prices(cell: _Cell, *, ahead: bool) -> tuple[list[ImageRequest], list[Quote]]:
    """Return the requests of a cell and their prices; with `ahead`, prices of the last hour are accepted."""
    from blockrun_magic.studio.batch import quote_all

    async def ask() -> tuple[list[ImageRequest], list[Quote]]:
        requests = await build_requests(cell.plan, cell.studio.fetch)
        return requests, await quote_all(cell.studio, requests, cell.gateway, cell.options, ahead=ahead)

    return cell.context.session.run(ask())


def _ask_if_expensive(cell: _Cell) -> Flags:
    """Return the flags to run with, after asking for consent if the cell costs more than the sum of `budget --ask`.

    Raises BudgetError if the user declines or cannot be asked.
    """
    limit = ask_above(blockrun_home())
    if limit is None or cell.flags.yes or cell.flags.max_price is not None or cell.options.cache_only:
        return cell.flags
    requests, quotes = _prices(cell, ahead=True)
    total = sum(quote.total for quote in quotes if not quote.cached)
    if total <= limit:
        return cell.flags
    show(quotes_card(requests, quotes))
    amount = format_amount(total, cell.gateway.realm)
    try:
        answer = prompt_visible(f"This cell costs {amount}. Run it? [y/n] ")
    except WalletError:  # no input, or Stop
        answer = Secret("n")
    if answer is None:
        raise BudgetError(
            f"This cell costs {amount}. Above {format_usd(limit)}, cells ask first, but this session has no keyboard.",
            f"Add --max-price {format_usd(total)} or --yes.",
            Money.nothing_signed(),
        )
    if str(answer.reveal()).strip().lower() not in ("y", "yes"):
        raise BudgetError("The cell was not run.", "Answer y to run it.", Money.nothing_signed())
    return replace(cell.flags, max_price=total)


def request_options(context: Context, flags: Flags) -> Options:
    """Return the request options that `flags` set."""
    from blockrun_magic.studio import Options

    return Options(
        max_price=flags.max_price,
        fresh=flags.fresh,
        take=flags.take,
        unchecked=flags.unchecked,
        private=flags.private,
        cache_only=context.session.is_cache_only(),
    )


def _copies(images: Sequence[Image.Image]) -> Sequence[Image.Image]:
    """Return copies of a few images; for many, a sequence that opens each image at first use."""
    from blockrun_magic.studio.results.images import ChainedImages, StoredImages

    if len(images) > _MAX_COPIES and isinstance(images, ChainedImages | StoredImages):
        return images.fresh()
    return [image.copy() for image in images]


def bind_results(context: Context, flags: Flags, originals: Sequence[Image.Image]) -> None:
    """Bind `img`, `imgs` and the name of `--as` to copies: drawing on them does not change the result."""
    images = _copies(originals)
    settings = context.session.settings
    names: dict[str, object] = {settings.image_name: images[0], settings.images_name: images}
    if flags.name:
        names[flags.name] = images[0] if len(images) == 1 else images
    context.shell.push(names)
