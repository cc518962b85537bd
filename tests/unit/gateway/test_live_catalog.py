"""A gateway's own list of models: checked, merged over our snapshot, cached for a day, never fetched by a purchase."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import Fate, GatewayUnreachable, InvalidResponse, RequestRejected, WalletMissing
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.catalog.remote import overlay, read_models, to_record
from blockrun_magic.gateway.gateways import Gateway, gateway_at, gateway_named, practice_at
from blockrun_magic.gateway.request import ENDPOINTS, ImageRequest, PriceKey
from blockrun_magic.payments.wallets.api_key import find_api_key
from blockrun_magic.practice.server.server import PracticeServer
from blockrun_magic.studio import Studio
from fakes.account_api import KEY, Account
from fakes.clawrouter import ClawRouter
from fakes.gateway import Clock, studio_over
from fakes.raw_socket import json_http, raw_server

_DAY = 86_400
_HERON = ImageRequest("generate", "a heron", "google/nano-banana")


def entry(name: str, **more: Any) -> dict[str, Any]:
    """Return one entry of a list."""
    return {"id": name, "categories": ["image"], **more}


ALL = [entry(model.id) for model in SNAPSHOT.models]


def _in_studio(folder: Path, work: Callable[[Studio], Awaitable[Any]], **more: Any) -> Any:
    parts = {"catalogs": folder / "catalogs", "api_key": lambda: find_api_key({"BLOCKRUN_API_KEY": KEY})} | more

    async def kernel() -> Any:
        async with studio_over(folder, **parts) as studio:
            return await work(studio)

    return asyncio.run(kernel())


def _refreshed(folder: Path, gateway: Gateway, **more: Any) -> Any:
    async def work(studio: Studio) -> Any:
        return await studio.catalogs.refresh(gateway)

    return _in_studio(folder, work, **more)


def price(catalog: Any, model: str, size: str = "1024x1024") -> int | None:
    """Return the list price of one image."""
    found: int | None = catalog.list_price(PriceKey(ENDPOINTS["generate"], model, size, None, 1))
    return found


# -- lists from a gateway


@pytest.mark.parametrize("shape", [{"models": ALL}, {"data": ALL}, {"object": "list", "data": ALL}, ALL])
def test_both_shapes_are_read(shape: Any) -> None:
    """`models` and `data` contain the same list."""
    assert [model.id for model in SNAPSHOT.models] == [model.id for model in read_models(shape)]


@pytest.mark.parametrize("body", [None, 7, "models", {}, {"models": None}, {"data": {"a": 1}}])
def test_what_is_no_list_is_refused(body: Any) -> None:
    """Any other body causes a ValueError, not an empty catalog."""
    with pytest.raises(ValueError, match="not a list"):
        read_models(body)


def test_without_categories_only_the_list_of_images_counts() -> None:
    """`/v1/models` also lists chat models without categories; `/v1/images/models` lists images only."""
    body = {"data": [{"id": "openai/gpt-5.2"}]}

    assert () == read_models(body)
    assert ["openai/gpt-5.2"] == [model.id for model in read_models(body, all_images=True)]


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {},
        {"id": 7},
        entry("no-provider"),
        entry("a/b\x1b[31m"),
        entry("a/" + "b" * 500),
        {"id": "a/chat", "categories": ["chat"]},
        {"id": "a/b", "categories": "image"},
        entry("a/gone", available=False),
    ],
)
def test_odd_entries_are_passed_over(odd: Any) -> None:
    """An odd entry is skipped, and the others are read."""
    assert ["acme/brush"] == [model.id for model in read_models({"data": [odd, entry("acme/brush")]})]


@pytest.mark.parametrize("dollars", [0, -1, "free", True, None, float("inf"), float("nan"), 1e30, "1e9", [], "9" * 100])
def test_absurd_prices_are_no_prices(dollars: Any) -> None:
    """A price of zero, a negative, infinite or enormous one counts as unknown, and the model is still listed."""
    [model] = read_models([entry("acme/brush", pricing={"per_image": dollars, "by_size": {"512x512": dollars}})])

    assert (None, ()) == (model.price, model.by_size)


def test_a_list_without_end_is_cut() -> None:
    """The number of models and sizes is limited, and their text is short and printable."""
    sizes = [f"{side}x{side}" for side in range(1, 300)]
    models = read_models([entry(f"a/m{number}", sizes=sizes, owned_by="x\x00" * 999) for number in range(3000)])

    assert 500 == len(models)
    assert 40 == len(models[0].sizes)
    assert models[0].provider.isprintable()
    assert len(models[0].provider) <= 40


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["models", "data", "id", "pricing", "sizes", "categories", "per_image", "by_size"]),
                inner,
            )
        ),
    )
)
def test_any_json_is_read_or_refused(body: Any) -> None:
    """Any JSON gives models or a ValueError, and stored models are read back the same."""
    try:
        models = read_models(body)
    except ValueError:
        return

    assert models == read_models(json.loads(json.dumps({"models": to_record(models)})), all_images=True)


# -- merging with the snapshot


def test_live_prices_take_the_place_of_the_snapshots() -> None:
    """Prices by size replace ours; a single price is that of the default size."""
    live = read_models(
        [
            entry("google/nano-banana", pricing={"per_image": "0.06"}),
            entry("openai/gpt-image-1", pricing={"per_image": 0.03}),
            entry("zai/cogview-4", pricing={"by_size": {"512x512": "0.01"}}),
        ]
    )
    catalog = overlay(SNAPSHOT, live, "2026-12-01")

    assert (True, "2026-12-01") == (catalog.live, catalog.as_of)
    assert 60_000 == price(catalog, "google/nano-banana")
    assert (30_000, 42_000) == tuple(price(catalog, "openai/gpt-image-1", size) for size in ("1024x1024", "1536x1024"))
    assert (10_000, 15_750) == tuple(price(catalog, "zai/cogview-4", size) for size in ("512x512", "1024x1024"))


def test_what_is_not_listed_is_served_no_more() -> None:
    """A model that is not listed stays known by name, but is not among the served ones."""
    catalog = overlay(
        SNAPSHOT, read_models([row for row in ALL if "dall-e" not in row["id"] and "flux" not in row["id"]]), "x"
    )
    flux = catalog.find("flux")

    assert flux is not None
    assert not flux.served
    assert flux.name not in catalog.served_for("generate")
    assert "gpt-image" in " ".join(catalog.served_for("edit"))


def test_a_model_that_only_the_gateway_knows_works() -> None:
    """The id of an unknown model resolves, any size passes our check, and the price is unknown."""
    catalog = overlay(SNAPSHOT, read_models([entry("acme/brush-9")]), "x")

    assert "acme/brush-9" == catalog.resolve("brush-9")
    catalog.check(ImageRequest("generate", "a heron", "acme/brush-9", "333x222"))
    assert price(catalog, "acme/brush-9") is None


def test_the_practice_list_changes_nothing(tmp_path: Path) -> None:
    """The practice gateway lists our own snapshot, so merging it changes no price."""
    with PracticeServer() as server:
        catalog = _refreshed(tmp_path, practice_at(server.url))

    for model in SNAPSHOT.models:
        for size in model.sizes:
            assert price(SNAPSHOT, model.id, size) == price(catalog, model.id, size)


# -- fetching and caching


@pytest.fixture
def account() -> Iterator[Account]:
    """Return an account that serves only nano-banana and a new model."""
    with Account() as account:
        account.served = ["google/nano-banana", "acme/brush-9"]
        yield account


def test_the_list_is_kept_for_a_day_and_over_kernels(tmp_path: Path, account: Account) -> None:
    """A second kernel uses the stored list without a request; after a day it is stale, but still used."""
    clock = Clock()
    _refreshed(tmp_path, account.gateway, clock=clock)

    async def look(studio: Studio) -> Any:
        catalog = studio.catalogs.at(account.gateway)
        return studio.catalogs.stale(account.gateway), catalog.live, catalog.find("acme/brush-9") is not None

    assert (False, True, True) == _in_studio(tmp_path, look, clock=clock)
    clock.ahead = _DAY + 1
    assert (True, True, True) == _in_studio(tmp_path, look, clock=clock)
    assert (True, False, False) == _in_studio(tmp_path, look, catalogs=None)


def test_a_picture_asks_for_no_list(tmp_path: Path, account: Account) -> None:
    """A purchase does not fetch the catalog."""

    async def make(studio: Studio) -> None:
        await studio.make(_HERON, account.gateway)

    _in_studio(tmp_path, make)

    assert {"/v1/credits", "/v1/images/generations"} == {path for path, _ in account.shown if path.startswith("/v1/")}
    assert [] == list((tmp_path).glob("catalogs/*"))


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"models": []}', b'{"models": 7, "fetched_at": 1}', b"\xff" * 99]
)
def test_a_damaged_file_is_no_catalog(tmp_path: Path, account: Account, damage: bytes) -> None:
    """A damaged stored list is ignored."""
    _refreshed(tmp_path, account.gateway)
    [file] = (tmp_path / "catalogs").iterdir()
    file.write_bytes(damage)

    async def look(studio: Studio) -> Any:
        return studio.catalogs.stale(account.gateway), studio.catalogs.at(account.gateway) is SNAPSHOT

    assert (True, True) == _in_studio(tmp_path, look)


def test_the_older_list_is_asked_for_where_there_is_no_other(tmp_path: Path) -> None:
    """`/v1/images/models` is read if `/v1/models` is missing; its entries need no category."""
    with raw_server(json_http({}, 404), json_http({"models": [{"id": "google/nano-banana"}]})) as server:
        catalog = _refreshed(tmp_path, gateway_at(f"{server.url}/api"))

    assert ["/api/v1/models", "/api/v1/images/models"] == [seen.target for seen in server.seen]
    assert catalog.live


def test_a_list_without_pictures_delists_nothing(tmp_path: Path) -> None:
    """A list without image models causes an error and delists no model."""
    with raw_server(json_http({"data": []})) as server:
        with pytest.raises(InvalidResponse):
            _refreshed(tmp_path, gateway_at(f"{server.url}/api"))

        assert [] == list(tmp_path.glob("catalogs/*"))


def test_clawrouters_chat_models_are_not_image_models(tmp_path: Path) -> None:
    """ClawRouter lists chat models without categories: the image models stay the same."""

    async def ask(studio: Studio) -> Any:
        with pytest.raises(InvalidResponse):
            await studio.catalogs.refresh(proxy.gateway)
        return studio.catalogs.at(proxy.gateway)

    with ClawRouter(tmp_path / "logs") as proxy:
        catalog = _in_studio(tmp_path, ask)

    assert SNAPSHOT.models == catalog.models
    assert ("openai/gpt-image-1", "openai/gpt-image-2") == (
        catalog.default_model("edit"),
        SNAPSHOT.default_model("edit"),
    )


def test_practice_serves_every_model_and_solana_offers_qualities(tmp_path: Path) -> None:
    """Practice serves every model, and Solana offers qualities, before their lists are read."""

    async def look(studio: Studio) -> Any:
        return studio.catalogs.at(practice_at("http://127.0.0.1:9")), studio.catalogs.at(gateway_named("solana"))

    practice, solana = _in_studio(tmp_path, look)

    assert all(model.served for model in practice.models)
    assert {"openai/gpt-image-1", "openai/gpt-image-2"} <= {
        model.id for model in solana.models if "low" in model.qualities
    }


def test_other_names_of_prices_and_sizes_are_read() -> None:
    """The older list's `pricePerImage`, `pricing.flat` and `supportedSizes` are read; new sizes are accepted."""
    live = read_models(
        [
            entry("google/nano-banana", pricePerImage=0.06, supportedSizes=["1024x1024", "2048x1024"]),
            entry("openai/gpt-image-2", pricing={"flat": 0.07}, qualities=["low", "HIGH", 7, "a b"]),
            entry("openai/dall-e-3", pricing={"flat": 0, "per_image": 0.05}),
        ]
    )
    catalog = overlay(SNAPSHOT, live, "2026-12-01")
    banana, back = catalog.find("banana"), catalog.find("dalle")

    assert live == read_models({"models": to_record(live)}, all_images=True)
    assert (60_000, 60_000) == tuple(price(catalog, "google/nano-banana", size) for size in ("1024x1024", "2048x1024"))
    assert banana is not None and back is not None  # noqa: PT018
    assert banana.allows_size("2048x1024")
    assert back.served
    assert ("low", "high") == live[1].qualities


@pytest.mark.parametrize("size", ["1216x832", "1024x1792"])
def test_a_size_of_older_documents_is_explained_when_it_is_refused(tmp_path: Path, account: Account, size: str) -> None:
    """The size is sent, because the gateway checks it before payment; the refusal suggests a valid size."""
    account.fail((400, {"error": "Invalid size"}))

    async def make(studio: Studio) -> None:
        with pytest.raises(RequestRejected) as caught:
            await studio.make(replace(_HERON, size=size), account.gateway)

        assert "--size 1024x1024" in caught.value.hint

    _in_studio(tmp_path, make)


def test_a_gateway_that_is_away_keeps_the_old_list(tmp_path: Path, account: Account) -> None:
    """A refresh by the user fails with an error; one in the background does not, and the old list stays."""
    _refreshed(tmp_path, account.gateway)
    gone = replace(account.gateway, base_url="http://127.0.0.1:9")
    [file] = (tmp_path / "catalogs").iterdir()

    async def ask(studio: Studio) -> Any:
        studio.catalogs._known[gone.base_url] = (0.0, studio.catalogs.at(account.gateway))
        with pytest.raises(GatewayUnreachable):
            await studio.catalogs.refresh(gone)
        await studio.catalogs.refresh_if_stale(gone)
        return studio.catalogs.at(gone).live

    assert _in_studio(tmp_path, ask)
    assert [file] == list((tmp_path / "catalogs").iterdir())


def test_an_accounts_list_needs_its_key(tmp_path: Path) -> None:
    """The key goes to the account's own host; without a key no request is sent."""
    with Account() as account:
        with pytest.raises(WalletMissing):
            _refreshed(tmp_path, account.gateway, api_key=None)
        assert [] == account.shown

        catalog = _refreshed(tmp_path, account.gateway, api_key=lambda: find_api_key({"BLOCKRUN_API_KEY": KEY}))

        assert catalog.live
        assert [("/v1/models", f"Bearer {KEY}")] == account.shown


# -- delisted models


def test_a_delisted_model_is_named_with_those_that_are_served(tmp_path: Path, account: Account) -> None:
    """After a 400 for a delisted model, the error names the served models."""
    flux = replace(_HERON, model="black-forest/flux-1.1-pro")

    async def make(studio: Studio) -> None:
        with pytest.raises(RequestRejected) as caught:
            await studio.make(flux, account.gateway)

        assert "account" in caught.value.message
        assert "black-forest/flux-1.1-pro" in caught.value.message
        assert "nano-banana" in caught.value.hint
        assert caught.value.money is not None
        assert Fate.UNKNOWN is caught.value.money.fate  # an account's claim about money is only a note

    _in_studio(tmp_path, make)


def test_a_400_for_another_reason_is_left_alone(tmp_path: Path, account: Account) -> None:
    """A refusal for another reason raises RequestRejected as usual."""
    account.fail((400, {"error": "Too rude"}))

    async def make(studio: Studio) -> None:
        with pytest.raises(RequestRejected):
            await studio.make(_HERON, account.gateway)

    _in_studio(tmp_path, make)
