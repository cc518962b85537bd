"""Pictures on their way: a line for each with its stage, its seconds and a way to cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import ipywidgets as widgets

from blockrun_magic.errors import BlockrunError
from blockrun_magic.notebook.cells.flags import Flags
from blockrun_magic.notebook.cells.plan import RequestPlan, build_requests
from blockrun_magic.notebook.cells.run import bind_results, request_options
from blockrun_magic.notebook.context import Context
from blockrun_magic.notebook.display.cards import format_amount, short
from blockrun_magic.notebook.display.progress import BatchProgressLine, ProgressLine
from blockrun_magic.notebook.panel.dispatcher import Dispatcher
from blockrun_magic.notebook.panel.widgets import Notice, button, close_tree, html, row, show_if
from blockrun_magic.studio import ImageResult, ImageResults
from blockrun_magic.studio.batch import BatchProgress, make_all
from blockrun_magic.studio.progress import Progress

__all__ = ["Jobs"]

_POLL_INTERVAL = 0.5


class Jobs:
    """What the panel is making now; `came` is called after each job, with what it brought."""

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        came: Callable[[ImageResult | ImageResults | None], Awaitable[None]],
    ) -> None:
        self.box = widgets.VBox()
        self.box.add_class("brm-jobs")
        self._context = context
        self._dispatcher = dispatcher
        self._came = came
        self._running: set[asyncio.Task[None]] = set()

    def start(self, flags: Flags, wish: RequestPlan) -> None:
        """Make what `wish` asks for, as a new take; to be called on the loop."""
        job = _Job(self._context, self._dispatcher, flags, wish, self._remove)
        self.box.children = (*self.box.children, job.box)
        task = asyncio.get_running_loop().create_task(self._follow(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _follow(self, job: _Job) -> None:
        result = await job.run()
        if result is not None:
            self._remove(job.box)
        await self._came(result)

    def _remove(self, box: widgets.Box) -> None:
        self.box.children = tuple(child for child in self.box.children if child is not box)
        close_tree(box)

    def close(self) -> None:
        """Take the lines away; what is being paid for goes on and is kept."""
        for task in self._running:
            task.cancel()
        close_tree(self.box)


class _Job:
    """One press of the button."""

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        flags: Flags,
        wish: RequestPlan,
        remove: Callable[[widgets.Box], None],
    ) -> None:
        self._cancelled = False
        self._context = context
        self._flags = flags if flags.take else replace(flags, fresh=True)
        self._wish = wish
        self._making: asyncio.Task[ImageResult | ImageResults] | None = None
        self._progress = Progress() if len(wish.variants) == 1 else BatchProgress(len(wish.variants))
        self._realm = context.session.gateway.realm
        self._line = self._live_line()
        self._words = html(self._line.card().html, "brm-job-words")
        self._notice = Notice()
        self._cancel = button("Cancel", "Stop this one; what has been paid for is kept")
        self._dismiss = button("Dismiss")
        show_if(self._dismiss, False)
        self.box = row(self._words, self._notice.box, self._cancel, self._dismiss, classes=("brm-job",))
        dispatcher.on_click(self._cancel, self._stop)
        dispatcher.on_click(self._dismiss, lambda: remove(self.box))

    def _live_line(self) -> ProgressLine:
        shell, progress = self._context.shell, self._progress
        if isinstance(progress, BatchProgress):
            return BatchProgressLine(self._wish.label, progress, self._realm, shell)
        [(prompt, model, size)] = self._wish.variants
        usual = self._context.session.studio.ledger.usual_seconds(model, size)
        label = short(prompt, 40) or self._wish.label
        return ProgressLine(label, progress, self._realm, shell, usual=usual)

    async def run(self) -> ImageResult | ImageResults | None:
        """Return what came, bound and saved, or None when nothing did: the line says why."""
        self._making = making = asyncio.get_running_loop().create_task(self._make())
        try:
            while not making.done():
                await asyncio.wait([making], timeout=_POLL_INTERVAL)
                if not self._cancelled:
                    self._words.value = self._line.card().html
            result = making.result()
            bind_results(self._context, self._flags, result.images)
            if self._flags.save:
                result.save(self._flags.save)
        except BlockrunError as error:
            self._end(error)
            return None
        except asyncio.CancelledError:
            if not self._cancelled:  # the panel is closing: what has not been sent is not
                making.cancel()
                raise
            # What had been paid for comes home all the same, and belongs into the gallery.
            await self._context.session.studio.wait_idle()
            return None
        return result

    async def _make(self) -> ImageResult | ImageResults:
        studio, gateway = self._context.session.studio_and_gateway()
        options = request_options(self._context, self._flags)
        requests = await build_requests(self._wish, studio.client.fetch)
        if isinstance(self._progress, BatchProgress):
            jobs = self._flags.jobs or self._context.session.settings.jobs
            results = await make_all(studio, requests, gateway, options, self._progress, jobs)
            if results.failures and not results:
                raise results.failures[0].error
            return results
        return await studio.make(requests[0], gateway, options, self._progress)

    def _stop(self) -> None:
        if self._cancelled or self._making is None or self._making.done():
            return
        self._cancelled = True
        self._making.cancel()
        self._end(self._money_after_cancel())

    def _money_after_cancel(self) -> str:
        progress = self._progress
        if isinstance(progress, Progress):
            sent = [progress] if progress.sent else []
            begun = "Cancelled."
        else:
            sent = progress.in_flight
            begun = f"Cancelled. {progress.done} of {progress.count} were made before."
        if not sent:
            return f"{begun} Nothing more was sent, nothing more is charged."
        paid = format_amount(sum(part.price or 0 for part in sent), self._realm)
        return f"{begun} The payment of {paid} had been sent: that picture is kept, and shows below when it comes."

    def _end(self, last: BlockrunError | str) -> None:
        if isinstance(last, BlockrunError):
            self._notice.error(last)
        else:
            self._notice.info(last)
        for widget, wanted in ((self._words, False), (self._cancel, False), (self._dismiss, True)):
            show_if(widget, wanted)
