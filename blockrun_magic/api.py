"""The Python API: `generate` and `edit`, their `async` twins, and `list_payments`.

In a notebook with the extension, calls use the studio, gateway, lessons and modes of its cells. In a script they use
the remembered gateway, otherwise Base; beside a lesson, practice. Limits, ledger and store are the same everywhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from blockrun_magic.errors import RequestError, UsageError
from blockrun_magic.gateway.catalog.sizes import read_size
from blockrun_magic.gateway.gateways import CLASSROOM, PRACTICE_NAME, Gateway, gateway_named
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.images.source import read_mask, read_upload
from blockrun_magic.notebook.config_file import remembered_gateway
from blockrun_magic.payments.ledger.reports import PaymentList
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.user_records import UserRecords
from blockrun_magic.studio import ImageResult, Options, Studio
from blockrun_magic.text import sanitize
from blockrun_magic.threads import run_io
from blockrun_magic.unexpected import translated
from blockrun_magic.wiring import (
    Notebook,
    blockrun_home,
    current_notebook,
    find_classroom,
    open_ledger,
    open_practice,
    open_studio,
)

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.request import Operation

__all__ = ["aedit", "agenerate", "edit", "generate", "list_payments"]

T = TypeVar("T")
_Work = Callable[[Studio, Gateway, bool], Awaitable[ImageResult]]
"""Work of one call, given a studio, a gateway, and whether only stored images may be used."""


async def agenerate(
    prompt: str,
    *,
    model: str | None = None,
    size: str | tuple[int, int] | None = None,
    n: int = 1,
    quality: str | None = None,
    max_price: str | None = None,
    fresh: bool = False,
    gateway: str | None = None,
    studio: Studio | None = None,
) -> ImageResult:
    """Return images for `prompt`: stored ones at no cost, otherwise newly bought.

    `model` is an id or a shorthand, `size` "WIDTHxHEIGHT" in pixels, `max_price` dollars for the whole request
    ("0.10"). `gateway` is "base", "testnet", "solana", "clawrouter", "account", "practice", "classroom" or a URL; the
    default is the notebook's gateway, then the remembered one, then Base. `studio` is your own studio, for many calls
    on one event loop. Raises BlockrunError.
    """

    async def work(where: Studio, at: Gateway, cache_only: bool) -> ImageResult:
        request = _request(where.catalogs.at(at), "generate", prompt, model, size, n, quality)
        return await where.make(request, at, _options(max_price, fresh, cache_only))

    return await _call(work, gateway, studio)


async def aedit(
    prompt: str,
    image: Any,
    *,
    mask: Any = None,
    shrink: bool = False,
    model: str | None = None,
    size: str | tuple[int, int] | None = None,
    n: int = 1,
    max_price: str | None = None,
    fresh: bool = False,
    gateway: str | None = None,
    studio: Studio | None = None,
) -> ImageResult:
    """Return `image` edited as `prompt` describes; a list of images is fused; only white areas of `mask` change.

    An image is a PIL image, an array, a path, bytes, a file, a URL, a data URI, a figure or a result; a mask is one of
    the same shape. With `shrink`, an image of more than 16.8 megapixels is reduced, which `notes` of the result
    mention. The other parameters are those of `agenerate`. Raises BlockrunError.
    """

    async def work(where: Studio, at: Gateway, cache_only: bool) -> ImageResult:
        fetch = where.fetch
        sources = image if isinstance(image, list | tuple) else [image]
        uploads = tuple([await read_upload(source, fetch, shrink=shrink) for source in sources])
        white = None if mask is None else await read_mask(mask, uploads[0], fetch)
        request = _request(where.catalogs.at(at), "edit", prompt, model, size, n, None, uploads, white)
        result = await where.make(request, at, _options(max_price, fresh, cache_only))
        return replace(result, notes=(*[upload.note for upload in uploads if upload.note], *result.notes))

    return await _call(work, gateway, studio)


def generate(
    prompt: str,
    *,
    model: str | None = None,
    size: str | tuple[int, int] | None = None,
    n: int = 1,
    quality: str | None = None,
    max_price: str | None = None,
    fresh: bool = False,
    gateway: str | None = None,
) -> ImageResult:
    """Return images for `prompt`: stored ones at no cost, otherwise newly bought.

    The parameters are those of `agenerate`. Raises BlockrunError, and RuntimeError in an event loop outside of a
    notebook with the extension: await `agenerate` there.
    """
    return _run(
        agenerate(
            prompt,
            model=model,
            size=size,
            n=n,
            quality=quality,
            max_price=max_price,
            fresh=fresh,
            gateway=gateway,
        )
    )


def edit(
    prompt: str,
    image: Any,
    *,
    mask: Any = None,
    shrink: bool = False,
    model: str | None = None,
    size: str | tuple[int, int] | None = None,
    n: int = 1,
    max_price: str | None = None,
    fresh: bool = False,
    gateway: str | None = None,
) -> ImageResult:
    """Return `image` edited as `prompt` describes: stored ones at no cost, otherwise newly bought.

    The parameters are those of `aedit`. Raises BlockrunError, and RuntimeError in an event loop outside of a notebook
    with the extension: await `aedit` there.
    """
    return _run(
        aedit(
            prompt,
            image,
            mask=mask,
            shrink=shrink,
            model=model,
            size=size,
            n=n,
            max_price=max_price,
            fresh=fresh,
            gateway=gateway,
        )
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    notebook = current_notebook()
    if notebook is not None:
        return notebook.run(work)
    work.close()
    raise RuntimeError("an event loop is running here: await agenerate(...) or aedit(...) instead")


async def _call(work: _Work, gateway: str | None, studio: Studio | None) -> ImageResult:
    """Run `work` in the studio of the notebook, in `studio`, or in a new one; return its result.

    Unexpected exceptions become a BlockrunError here.
    """
    notebook = current_notebook()
    try:
        if notebook is not None and studio is None:
            return await _in_notebook(notebook, work, gateway)
        async with _place(gateway, studio, notebook) as (active_studio, where):
            return await work(active_studio, where, _is_cache_only(notebook))
    except Exception as error:  # noqa: BLE001  this entrance is one of the door's
        failure = translated(error)
    raise failure


async def _in_notebook(notebook: Notebook, work: _Work, gateway: str | None) -> ImageResult:
    active_studio, where = notebook.studio_and_gateway(gateway)
    running = notebook.submit(_as_coroutine(work(active_studio, where, notebook.is_cache_only())))
    return await asyncio.wrap_future(running)


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work


@asynccontextmanager
async def _place(
    gateway: str | None, studio: Studio | None, notebook: Notebook | None
) -> AsyncIterator[tuple[Studio, Gateway]]:
    """Yield the studio and the gateway of one call; close them if they were opened for it."""
    active_studio = studio or open_studio()
    if gateway is None and notebook is not None:
        yield active_studio, (await run_io(notebook.studio_and_gateway))[1]
        return
    try:
        name = gateway or os.environ.get("BLOCKRUN_API_URL") or ""
        name = name or await run_io(_default_gateway, active_studio)
        where, end = await _gateway(name, active_studio)
        try:
            yield active_studio, where
        finally:
            if end is not None:
                end()
    finally:
        if studio is None:
            await active_studio.close()


async def _gateway(name: str, studio: Studio) -> tuple[Gateway, Callable[[], None] | None]:
    if name.lower() == CLASSROOM:
        return await find_classroom(studio), None
    return open_practice() if name.lower() == PRACTICE_NAME else (gateway_named(name), None)


def _default_gateway(studio: Studio) -> str:
    """Return the gateway of a request that names none: practice beside a lesson, as in a notebook."""
    studio.lessons.find()
    return PRACTICE_NAME if studio.lessons else remembered_gateway(blockrun_home()) or "base"


def _is_cache_only(notebook: Notebook | None) -> bool:
    return os.environ.get("BLOCKRUN_CACHE_ONLY", "") not in ("", "0") if notebook is None else notebook.is_cache_only()


def _request(
    catalog: Catalog,
    operation: Operation,
    prompt: str,
    model: str | None,
    size: str | tuple[int, int] | None,
    n: int,
    quality: str | None,
    images: Sequence[Upload] = (),
    mask: Upload | None = None,
) -> ImageRequest:
    if not isinstance(prompt, str) or not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise RequestError("A request needs a prompt and a number of images.", "Pass the prompt as text, and n from 1.")
    full = catalog.resolve(model) if model else catalog.default_model(operation)
    return ImageRequest(
        operation=operation,
        prompt=prompt,
        model=full,
        size=read_size(size, full, catalog),
        quality=quality,
        n=n,
        images=tuple(images),
        mask=mask,
    )


def _options(max_price: str | None, fresh: bool, cache_only: bool) -> Options:
    try:
        limit = None if max_price is None else parse_usd(str(max_price))
    except ValueError as error:
        raise UsageError(
            f"max_price={sanitize(repr(max_price), 40)} is not an amount in dollars.", 'Write it like max_price="0.10".'
        ) from error
    return Options(max_price=limit, fresh=fresh, cache_only=cache_only)


def list_payments(when: str = "all", money: str | None = None) -> PaymentList:
    """Return the payments of all kernels, of "today" (UTC) or "all", as records, a DataFrame or CSV.

    `money` is "real", "testnet" or "practice"; they are never added up. The default is that of the
    notebook's gateway, otherwise "real". Raises ValueError for another value, and LedgerError.
    """
    if when not in ("today", "all") or money not in (None, *Realm):
        raise ValueError('list_payments takes "today" or "all", and "real", "testnet" or "practice"')
    notebook = current_notebook()
    if money is None:
        money = Realm.REAL if notebook is None else notebook.studio_and_gateway()[1].realm
    with closing(open_ledger()) as ledger:
        return UserRecords(ledger).payment_list(money, when)
