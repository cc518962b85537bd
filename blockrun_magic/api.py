"""The studio for scripts: `generate` and `edit`, and their `async` twins, without a notebook.

Ledger, store, caps and wallet are the same as the magics'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from blockrun_magic.gateway.gateways import Gateway, gateway_named
from blockrun_magic.gateway.request import ImageRequest, Upload
from blockrun_magic.images.source import read_mask, read_upload
from blockrun_magic.payments.ledger import reports
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.studio import ImageResult, Options, Studio
from blockrun_magic.wiring import blockrun_home, open_practice, open_studio

if TYPE_CHECKING:
    from blockrun_magic.gateway.catalog.catalog import Catalog
    from blockrun_magic.gateway.request import Operation

__all__ = ["aedit", "agenerate", "edit", "generate", "list_payments"]

T = TypeVar("T")


async def agenerate(
    prompt: str,
    *,
    model: str | None = None,
    size: str | None = None,
    n: int = 1,
    quality: str | None = None,
    max_price: str | None = None,
    fresh: bool = False,
    gateway: str = "base",
    studio: Studio | None = None,
) -> ImageResult:
    """Return images made from `prompt`: kept ones at no cost, else bought at `gateway`.

    `model` is an id or a shorthand, `size` "WIDTHxHEIGHT" in pixels, `max_price` dollars for the whole
    request ("0.10"), `gateway` "base", "testnet", "solana", "clawrouter", "account", "practice" or a URL. `studio` is
    one of yours to use for many calls on one event loop; without it one is opened for this call. Raises
    BlockrunError.
    """
    async with _place(gateway, studio) as (ours, where):
        request = _request(ours.catalog_at(where), "generate", prompt, model, size, n, quality)
        return await ours.make(request, where, _options(max_price, fresh=fresh))


async def aedit(
    prompt: str,
    image: Any,
    *,
    mask: Any = None,
    model: str | None = None,
    size: str | None = None,
    n: int = 1,
    max_price: str | None = None,
    fresh: bool = False,
    gateway: str = "base",
    studio: Studio | None = None,
) -> ImageResult:
    """Return `image` edited as `prompt` says; a list of images is fused; only white in `mask` changes.

    An image is a PIL image, an array, a path, bytes, a URL, a data URI or a result; a mask is one of the same size in
    pixels. The other choices are those of `agenerate`. Raises BlockrunError.
    """
    async with _place(gateway, studio) as (ours, where):
        fetch = ours.client.fetch
        sources = image if isinstance(image, list | tuple) else [image]
        uploads = tuple([await read_upload(source, fetch) for source in sources])
        white = None if mask is None else await read_mask(mask, uploads[0], fetch)
        request = _request(ours.catalog_at(where), "edit", prompt, model, size, n, None, uploads, white)
        return await ours.make(request, where, _options(max_price, fresh=fresh))


class _Choices(TypedDict, total=False):
    model: str | None
    size: str | None
    n: int
    max_price: str | None
    fresh: bool
    gateway: str


class _GenerateChoices(_Choices, total=False):
    quality: str | None


class _EditChoices(_Choices, total=False):
    mask: Any


def generate(prompt: str, **choices: Unpack[_GenerateChoices]) -> ImageResult:
    """Return images made from `prompt`: kept ones at no cost, else bought, each paid for by itself.

    For scripts; where an event loop runs, as in a notebook, await `agenerate`. Takes the same choices, by name:
    `model`, `size`, `n`, `quality`, `max_price`, `fresh`, `gateway`. Raises BlockrunError, and RuntimeError where
    an event loop runs.
    """
    return _run(agenerate(prompt, **choices))


def edit(prompt: str, image: Any, **choices: Unpack[_EditChoices]) -> ImageResult:
    """Return `image` edited as `prompt` says: a kept image at no cost, else bought.

    For scripts; where an event loop runs, as in a notebook, await `aedit`. Takes the same choices, by name: `mask`,
    `model`, `size`, `n`, `max_price`, `fresh`, `gateway`. Raises BlockrunError, and RuntimeError where an event
    loop runs.
    """
    return _run(aedit(prompt, image, **choices))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise RuntimeError("an event loop is running here: await agenerate(...) or aedit(...) instead")


@asynccontextmanager
async def _place(gateway: str, studio: Studio | None) -> AsyncIterator[tuple[Studio, Gateway]]:
    """Yield the studio and the gateway of one call, and close what was opened for it."""
    where, end = open_practice() if gateway == "practice" else (gateway_named(gateway), None)
    ours = studio or open_studio()
    try:
        yield ours, where
    finally:
        if studio is None:
            await ours.close()
        if end is not None:
            end()


def _request(
    catalog: Catalog,
    operation: Operation,
    prompt: str,
    model: str | None,
    size: str | None,
    n: int,
    quality: str | None,
    images: Sequence[Upload] = (),
    mask: Upload | None = None,
) -> ImageRequest:
    full = catalog.resolve(model) if model else catalog.default_model(operation)
    return ImageRequest(
        operation=operation,
        prompt=prompt,
        model=full,
        size=size or catalog.default_size(full),
        quality=quality,
        n=n,
        images=tuple(images),
        mask=mask,
    )


def _options(max_price: str | None, *, fresh: bool) -> Options:
    return Options(max_price=None if max_price is None else parse_usd(max_price), fresh=fresh)


def list_payments(when: str = "all", money: str = "real") -> reports.PaymentList:
    """Return the payments of all kernels, of "today" (UTC) or "all", as records, a DataFrame or CSV.

    `money` is "real", "testnet" or "practice"; they are never added up. Raises ValueError for another value, and
    LedgerError.
    """
    if when not in ("today", "all") or money not in ("real", "testnet", "practice"):
        raise ValueError('list_payments takes "today" or "all", and "real", "testnet" or "practice"')
    with closing(Ledger(blockrun_home() / "magic" / "ledger.sqlite", "list_payments")) as ledger:
        return reports.list_payments(ledger, money, when)
