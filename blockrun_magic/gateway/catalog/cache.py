"""Cached catalogs of the gateways: the snapshot, updated with each gateway's live list for a day."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockrun_magic.errors import BlockrunError, GatewayUnreachable, InvalidResponse, RequestRejected
from blockrun_magic.files import read_file, write_atomically
from blockrun_magic.gateway.catalog.catalog import Catalog
from blockrun_magic.gateway.catalog.remote import LiveModel, overlay, read_models, to_record
from blockrun_magic.gateway.catalog.snapshot import with_qualities
from blockrun_magic.gateway.classroom.refusals import ClassRefusal
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway, Payer
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import error_from_response
from blockrun_magic.payments.x402.networks import PRACTICE
from blockrun_magic.safejson import read_json
from blockrun_magic.threads import run_io, run_within

__all__ = ["CatalogCache"]

_DAY = 86_400.0
_IMAGES_ONLY = "/v1/images/models"
_PATHS = ("/v1/models", _IMAGES_ONLY)
_SECONDS = 20.0
_QUICK = 3.0
_MAX_FILE_BYTES = 2 * 1024 * 1024


class CatalogCache:
    """The catalog of every gateway; the live lists are stored in `folder`, or only in memory if it is None.

    `headers_for` returns the headers for a gateway's list, and raises WalletError.
    """

    def __init__(
        self,
        client: Client,
        snapshot: Catalog,
        folder: Path | None,
        clock: Callable[[], float],
        headers_for: Callable[[Gateway], Mapping[str, str]],
    ) -> None:
        self._client = client
        self._snapshot = snapshot
        self._folder = folder
        self._clock = clock
        self._headers_for = headers_for
        self._known: dict[str, tuple[float, Catalog]] = {}

    def at(self, gateway: Gateway) -> Catalog:
        """Return the known catalog of `gateway`; uses no network."""
        return self._load(gateway)[1]

    def stale(self, gateway: Gateway) -> bool:
        """Return whether the live list was never read, or more than a day ago."""
        return not 0 <= self._clock() - self._load(gateway)[0] < _DAY

    async def refresh(self, gateway: Gateway) -> Catalog:
        """Return the catalog after asking `gateway` for its list; raises GatewayError or WalletError.

        A list without an image model, such as ClawRouter's of chat models, is an error, and the snapshot stays in use.
        """
        models = await self._fetch(gateway)
        read_at = self._clock()
        self._known[gateway.base_url] = (read_at, self._merged(gateway, models, read_at))
        await run_io(self._keep, gateway, models, read_at)
        return self.at(gateway)

    async def refresh_if_stale(self, gateway: Gateway) -> None:
        """Refresh a list that is older than a day; if it is not available now, the old one stays in use."""
        if await run_io(self.stale, gateway):
            with suppress(BlockrunError):
                await self.refresh(gateway)

    @asynccontextmanager
    async def explain_unavailable_model(self, gateway: Gateway, request: ImageRequest) -> AsyncIterator[None]:
        """Add to an error that refuses `request` the reason: a model or size that the gateway no longer serves."""
        try:
            yield
        except ClassRefusal as error:
            if error.code == "model":  # the teacher has changed the rules since the list was read
                with suppress(TimeoutError, BlockrunError):
                    async with asyncio.timeout(_QUICK):
                        await self.refresh(gateway)
            raise
        except RequestRejected as error:
            with suppress(TimeoutError):
                await run_within(_QUICK, self.refresh_if_stale(gateway))
            catalog = self.at(gateway)
            model = catalog.find(request.model)
            if model is None:
                raise
            served = catalog.served_for(request.operation)
            if not model.served and served:
                raise RequestRejected(
                    f"{gateway.name} no longer serves {request.model}.",
                    f"Choose a model that it serves: {', '.join(served)}.",
                    money=error.money,
                ) from error
            if request.size not in model.older_sizes:
                raise
            raise RequestRejected(
                error.message,
                f"Only older documents list {request.size} for {model.id}: use --size {model.sizes[0]}.",
                money=error.money,
            ) from error

    async def _fetch(self, gateway: Gateway) -> tuple[LiveModel, ...]:
        headers = self._headers_for(gateway)
        fault: BlockrunError | None = None
        for path in _PATHS:
            try:
                async with asyncio.timeout(_SECONDS):
                    answer = await self._client.get(gateway, path, headers)
            except TimeoutError:
                raise GatewayUnreachable(
                    f"{gateway.name} did not send its list of models in time.", "Try again later."
                ) from None
            if answer.status != 200:
                fault = fault or error_from_response(answer, gateway)
                continue
            with suppress(ValueError):
                models = read_models(answer.json(), all_images=path == _IMAGES_ONLY)
                if models:
                    return models
            fault = InvalidResponse(f"{gateway.name} lists no image models.", "The built-in catalog stays in use.")
        assert fault is not None  # noqa: S101  each path ends in one
        raise fault

    def _base(self, gateway: Gateway) -> Catalog:
        """Return the snapshot for `gateway`, before its own list is known."""
        if gateway.paid_by is Payer.PROXY:
            return replace(self._snapshot, edit_defaults=tuple(reversed(self._snapshot.edit_defaults)))
        models = self._snapshot.models
        if gateway.realm == PRACTICE.realm:
            return replace(self._snapshot, models=tuple(replace(model, served=True) for model in models))
        if gateway.on_solana:
            return replace(self._snapshot, models=tuple(map(with_qualities, models)))
        return self._snapshot

    def _merged(self, gateway: Gateway, models: tuple[LiveModel, ...], read_at: float) -> Catalog:
        merged = overlay(self._base(gateway), models, time.strftime("%Y-%m-%d", time.gmtime(read_at)))
        return _with_allowed_defaults(merged) if gateway.paid_by is Payer.CLASSROOM else merged

    def _load(self, gateway: Gateway) -> tuple[float, Catalog]:
        entry = self._known.get(gateway.base_url)
        if entry is None:
            entry = (float("-inf"), self._base(gateway))
            with suppress(OSError, ValueError, TypeError, KeyError):
                record = self._record(gateway)
                models, read_at = read_models(record, all_images=True), float(record["fetched_at"])
                if models:
                    entry = (read_at, self._merged(gateway, models, read_at))
            self._known[gateway.base_url] = entry
        return entry

    def _record(self, gateway: Gateway) -> dict[str, Any]:
        path = self._path(gateway)
        if path is None:
            raise ValueError("there is none to read")
        return dict(read_json(read_file(path, _MAX_FILE_BYTES)))

    def _keep(self, gateway: Gateway, models: tuple[LiveModel, ...], read_at: float) -> None:
        path = self._path(gateway)
        if path is None:
            return
        record = {"gateway": gateway.base_url, "fetched_at": read_at, "models": to_record(models)}
        with suppress(OSError):  # the list stays in memory
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, json.dumps(record).encode(), durable=False)

    def _path(self, gateway: Gateway) -> Path | None:
        name = hashlib.sha256(gateway.base_url.encode()).hexdigest()[:16]
        return None if self._folder is None else self._folder / f"{name}.json"


def _with_allowed_defaults(catalog: Catalog) -> Catalog:
    """Return the catalog of a class with defaults that the class allows."""
    allowed = [model for model in catalog.models if model.served]
    default = catalog.find(catalog.default)
    if allowed and (default is None or not default.served):
        catalog = replace(catalog, default=allowed[0].id)
    edit_defaults = (*catalog.edit_defaults, *(model.id for model in allowed if model.edits))
    return replace(catalog, edit_defaults=edit_defaults, only_served=bool(allowed))
