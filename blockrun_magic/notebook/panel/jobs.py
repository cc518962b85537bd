"""Running jobs: a line for each, with its stage, its seconds and a button to cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError, BudgetError
from blockrun_magic.notebook.cells.plan import build_requests
from blockrun_magic.notebook.cells.run import bind_results, request_options
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import format_amount, short
from blockrun_magic.notebook.display.progress import BatchProgressLine, ProgressLine
from blockrun_magic.notebook.panel import light
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.form.offer import Order
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, html, row, show_if
from blockrun_magic.studio import ImageResult, ImageResults
from blockrun_magic.studio.batch import BatchProgress, make_all
from blockrun_magic.studio.options import Handling
from blockrun_magic.studio.progress import Progress
from blockrun_magic.threads import run_cpu, run_io

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.payments.ledger.records import Purchase
    from blockrun_magic.studio.gallery import ImageIndex

__all__ = ["Jobs", "Made"]

_POLL_INTERVAL = 0.5

Made = ImageResult | ImageResults


class Jobs:
    """Jobs that the panel is running.

    `on_result` is called after each job with its images, and `refused` with the error that ended one. `index` notes
    which image was edited.
    """

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        on_result: Callable[[Made | None], Awaitable[None]],
        refused: Callable[[BlockrunError], Awaitable[None]],
        index: Callable[[], ImageIndex],
    ) -> None:
        self.index = index
        self.box = light.VBox()
        self.box.add_class("brm-jobs")
        self._context = context
        self._dispatcher = dispatcher
        self._on_result = on_result
        self._refused = refused
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, order: Order) -> None:
        """Make the images of `order`, as a new take."""
        usual = None
        if len(order.plan.variants) == 1:
            [(_, model, size)] = order.plan.variants
            usual = await run_io(self._context.session.studio.records.usual_seconds, model, size)
        job = _Job(self._context, self._dispatcher, order, self, usual)
        self.box.children = (*self.box.children, job.box)
        self.follow(job)

    def follow(self, job: _Job) -> None:
        """Run a job to its end, in the background."""
        task = asyncio.get_running_loop().create_task(self._follow(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _follow(self, job: _Job) -> None:
        made = await job.run()
        if made is not None and not job.failed:
            self.remove(job.box)
        await self._on_result(made)
        if job.error is not None:
            await self._refused(job.error)

    def remove(self, box: widgets.Box) -> None:
        """Remove the line of a job."""
        self.box.children = tuple(child for child in self.box.children if child is not box)
        close_tree(box)

    def close(self) -> None:
        """Remove the lines; purchases that are already paid continue."""
        for task in self._running:
            task.cancel()
        close_tree(self.box)


class _Job:
    """One press of a button."""

    def __init__(self, context: Context, dispatcher: Dispatcher, order: Order, jobs: Jobs, usual: float | None) -> None:
        self._usual = usual
        self.error: BlockrunError | None = None
        self.failed: tuple[int, ...] = ()
        """The indexes of the requests of a batch that made no image."""
        self._cancelled = False
        self._context = context
        self._jobs = jobs
        self._order = order if order.flags.take else replace(order, flags=replace(order.flags, fresh=True))
        self._open: Purchase | None = None
        self._digests: frozenset[str] = frozenset()
        self._making: asyncio.Task[Made] | None = None
        count = len(order.plan.variants)
        self._progress = Progress() if count == 1 else BatchProgress(count)
        self._realm = context.session.gateway.realm
        self._line = self._progress_line()
        self._text = html(self._line.card().html, "brm-job-words")
        self._notice = Notice()
        self._cancel = button("Cancel", "Cancel this job; paid images still arrive")
        self._retry = button("Retry the failed ones", "Make only the failed images; the others are not paid again")
        self._continue = button("Continue", "Collect it with the same payment; nothing is paid twice")
        self._dismiss = button("Dismiss")
        for widget in (self._retry, self._continue, self._dismiss):
            show_if(widget, visible=False)
        self.box = row(
            self._text,
            self._notice.box,
            *(self._cancel, self._continue, self._retry, self._dismiss),
            classes=("brm-job",),
        )
        for widget, do in (
            (self._cancel, self._stop),
            (self._retry, self._retry_failed),
            (self._continue, self._resume),
            (self._dismiss, lambda: jobs.remove(self.box)),
        ):
            dispatcher.on_click(widget, do)

    def _progress_line(self) -> ProgressLine:
        shell, progress, plan = self._context.shell, self._progress, self._order.plan
        if isinstance(progress, BatchProgress):
            return BatchProgressLine(plan.label, progress, self._realm, shell)
        [(prompt, _, _)] = plan.variants
        return ProgressLine(short(prompt, 40) or plan.label, progress, self._realm, shell, usual=self._usual)

    # -- running

    async def run(self) -> Made | None:
        """Return the images, bound and saved, or None if there are none: the line says why."""
        self._making = making = asyncio.get_running_loop().create_task(
            self._collect(self._open) if self._open is not None else self._make()
        )
        try:
            while not making.done():
                await asyncio.wait([making], timeout=_POLL_INTERVAL)
                if not self._cancelled:
                    self._text.value = self._line.card().html
            made = making.result()
            await run_cpu(self._bind, made)
        except BlockrunError as error:
            await self._fail(error)
            return None
        except asyncio.CancelledError:
            if not self._cancelled:  # the panel is closing: no further request is sent
                making.cancel()
                raise
            self._notice.info(self._money_after_cancel())
            # Paid images still arrive, and belong in the gallery.
            await self._context.session.studio.running.wait_idle()
            return None
        self._note_failures(made)
        return made

    def _bind(self, made: Made) -> None:
        flags = self._order.flags
        bind_results(self._context, flags, made.images)
        if flags.save:
            made.save(flags.save)
        for result in made if isinstance(made, ImageResults) else [made]:
            if self._order.parent is not None:
                self._jobs.index().link(result.receipt.purchase_id, self._order.parent)

    async def _make(self) -> Made:
        studio, gateway = self._context.session.studio_and_gateway()
        flags, plan = self._order.flags, self._order.plan
        if self._order.agreed is None and flags.max_price is None:
            raise BudgetError("The price is not known yet.", "Wait until the button shows it, then press again.")
        options = replace(request_options(self._context, flags), handling=Handling(agreed=self._order.agreed))
        requests = await build_requests(plan, studio.fetch)
        self._digests = await run_cpu(_digests, requests)
        if isinstance(self._progress, BatchProgress):
            jobs = flags.jobs or self._context.session.settings.jobs
            results = await make_all(studio, requests, gateway, options, self._progress, jobs)
            if results.failures and not results:
                raise results.failures[0].error
            return results
        return await studio.make(requests[0], gateway, options, self._progress)

    async def _collect(self, purchase: Purchase) -> ImageResult:
        assert isinstance(self._progress, Progress)  # noqa: S101  only one purchase is continued at a time
        studio, gateway = self._context.session.studio_and_gateway(purchase.gateway)
        return await studio.resume(purchase, gateway, self._progress)

    def _note_failures(self, made: Made) -> None:
        failures = made.failures if isinstance(made, ImageResults) else ()
        self.failed = tuple(failure.index for failure in failures)
        if failures:
            count = len(self._order.plan.variants)
            self._notice.problem(
                f"{len(failures)} of {count} failed: {failures[0].error.message}", failures[0].error.hint
            )
            self._end(retry=True)

    # -- ending

    def _stop(self) -> None:
        if self._cancelled or self._making is None or self._making.done():
            return
        self._cancelled = True
        self._making.cancel()
        self._notice.info("Cancelling …")
        self._end()

    def _money_after_cancel(self) -> str:
        progress = self._progress
        if isinstance(progress, Progress):
            sent, undecided = [progress] if progress.sent else [], progress.running
            begun = "Cancelled."
        else:
            sent, undecided = progress.in_flight, bool(progress.undecided)
            begun = f"Cancelled. {progress.done} of {progress.count} were made before."
        if not sent and undecided:
            return f"{begun} The work has not ended yet: the bars show whether it was paid."
        if not sent:
            return f"{begun} Nothing more was sent, nothing more is charged."
        paid = format_amount(sum(part.price or 0 for part in sent), self._realm)
        return f"{begun} The payment of {paid} had been sent: that image is stored, and appears when it arrives."

    async def _fail(self, error: BlockrunError) -> None:
        self.error = error
        open_purchases = await run_io(self._context.session.studio.records.open_purchases)
        mine = [purchase for purchase in open_purchases if purchase.digest in self._digests]
        self._open = mine[-1] if mine and isinstance(self._progress, Progress) else None
        self._notice.error(error)
        self._end(resume=self._open is not None)

    def _end(self, *, retry: bool = False, resume: bool = False) -> None:
        shown = ((self._text, False), (self._cancel, False), (self._dismiss, True))
        for widget, shown_now in (*shown, (self._retry, retry), (self._continue, resume)):
            show_if(widget, shown_now)

    async def _retry_failed(self) -> None:
        plan = self._order.plan
        again = replace(plan, variants=tuple(plan.variants[index] for index in self.failed))
        self._jobs.remove(self.box)
        await self._jobs.start(replace(self._order, plan=again))

    def _resume(self) -> None:
        self.error = None
        self._progress = Progress()
        self._line = self._progress_line()
        self._notice.clear()
        for widget, visible in ((self._text, True), (self._continue, False), (self._dismiss, False)):
            show_if(widget, visible)
        self._jobs.follow(self)


def _digests(requests: list[ImageRequest]) -> frozenset[str]:
    return frozenset(request.digest for request in requests)
