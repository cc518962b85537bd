"""The catalog: every row of the gateway's list, and every refusal with its advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import RequestError
from blockrun_magic.gateway.catalog.catalog import SNAPSHOT, Catalog, dimensions, nearest_size
from blockrun_magic.gateway.catalog.snapshot import Model, PriceRule, with_qualities
from blockrun_magic.gateway.request import ENDPOINTS, ImageRequest, PriceKey, Upload
from blockrun_magic.payments.money import parse_usd

PHOTO = Upload.from_file_bytes(b"a photo", "image/jpeg")
MASK = Upload.from_file_bytes(b"a mask", "image/png")
IDS = [model.id for model in SNAPSHOT.models]

# Model, its shorthands, size, quality, dollars: the gateway's list, row by row.
ROWS = [
    ("google/nano-banana", "nano-banana banana", "1024x1024", None, "0.0525"),
    ("google/nano-banana", "nano-banana banana", "1216x832", None, "0.0525"),
    ("google/nano-banana", "nano-banana banana", "1024x1792", None, "0.0525"),
    ("google/nano-banana-pro", "banana-pro nano-banana-pro", "1024x1024", None, "0.105"),
    ("google/nano-banana-pro", "banana-pro nano-banana-pro", "2048x2048", None, "0.105"),
    ("google/nano-banana-pro", "banana-pro nano-banana-pro", "4096x4096", None, "0.1575"),
    ("google/nano-banana-pro", "banana-pro nano-banana-pro", "1024x1792", None, "0.105"),
    ("openai/gpt-image-1", "gpt-image gpt-image-1", "1024x1024", None, "0.021"),
    ("openai/gpt-image-1", "gpt-image gpt-image-1", "1536x1024", None, "0.042"),
    ("openai/gpt-image-1", "gpt-image gpt-image-1", "1024x1536", None, "0.042"),
    ("openai/gpt-image-2", "gpt-image-2", "1024x1024", None, "0.063"),
    ("openai/gpt-image-2", "gpt-image-2", "1536x1024", None, "0.126"),
    ("openai/gpt-image-2", "gpt-image-2", "1024x1536", None, "0.126"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1024x1024", None, "0.042"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1024x1024", "standard", "0.042"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1792x1024", "standard", "0.084"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1024x1792", None, "0.084"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1024x1024", "hd", "0.084"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1792x1024", "hd", "0.126"),
    ("openai/dall-e-3", "dall-e-3 dall-e dalle dalle3", "1024x1792", "hd", "0.084"),
    ("openai/dall-e-2", "dall-e-2", "1024x1024", None, "0.021"),
    ("openai/dall-e-2", "dall-e-2", "512x512", None, "0.021"),
    ("openai/dall-e-2", "dall-e-2", "256x256", None, "0.021"),
    ("black-forest/flux-1.1-pro", "flux", "1024x1024", None, "0.042"),
    ("black-forest/flux-1.1-pro", "flux", "1216x832", None, "0.042"),
    ("black-forest/flux-1.1-pro", "flux", "832x1216", None, "0.042"),
    ("zai/cogview-4", "cogview cogview-4", "1024x1024", None, "0.01575"),
    ("zai/cogview-4", "cogview cogview-4", "1440x1440", None, "0.021"),
    ("zai/cogview-4", "cogview cogview-4", "512x1440", None, "0.01575"),
    ("zai/cogview-4", "cogview cogview-4", "528x1424", None, "0.01575"),
    ("xai/grok-imagine-image", "grok-imagine grok", "1024x1024", None, "0.021"),
    ("xai/grok-imagine-image-pro", "grok-imagine-pro", "1024x1024", None, "0.0735"),
    ("bytedance/seedream-5-pro", "seedream", "1024x1024", None, "0.04725"),
    ("bytedance/seedream-5-pro", "seedream", "1280x720", None, "0.04725"),
    ("bytedance/seedream-5-pro", "seedream", "2048x1024", None, "0.04725"),
    ("bytedance/seedream-5-pro", "seedream", "2048x2048", None, "0.0945"),
    ("bytedance/seedream-5-pro", "seedream", "2304x1728", None, "0.0945"),
    ("bytedance/seedream-5-pro", "seedream", "1728x2304", None, "0.0945"),
    ("bytedance/seedream-5-pro", "seedream", "2848x1600", None, "0.0945"),
    ("bytedance/seedream-5-pro", "seedream", "1600x2848", None, "0.0945"),
    ("google/nano-banana-2", "banana-2", "1024x1024", None, "0.0945"),
    ("openai/gpt-image-2.5-flare", "gpt-image-2.5-flare", "1024x1024", None, "0.294"),
    ("openai/gpt-image-2.5-flare", "gpt-image-2.5-flare", "1536x1024", None, "0.588"),
    ("openai/gpt-image-2.5-sunburst", "gpt-image-2.5-sunburst", "1024x1024", None, "0.294"),
    ("openai/gpt-image-2.5-sunburst", "gpt-image-2.5-sunburst", "1024x1536", None, "0.588"),
    ("xai/grok-imagine-image-2.0", "grok-imagine-image-2.0", "1024x1024", None, "0.042"),
]

# Model, number of source images in an edit, mask.
ABILITIES = [
    ("google/nano-banana", 3, False),
    ("google/nano-banana-2", 3, False),
    ("google/nano-banana-pro", 3, False),
    ("openai/gpt-image-1", 4, True),
    ("openai/gpt-image-2", 4, True),
    ("openai/gpt-image-2.5-flare", 0, False),
    ("openai/gpt-image-2.5-sunburst", 4, True),
    ("openai/dall-e-3", 0, False),
    ("openai/dall-e-2", 0, False),
    ("black-forest/flux-1.1-pro", 0, False),
    ("zai/cogview-4", 0, False),
    ("xai/grok-imagine-image", 0, False),
    ("xai/grok-imagine-image-pro", 0, False),
    ("xai/grok-imagine-image-2.0", 0, False),
    ("bytedance/seedream-5-pro", 0, False),
]


def generate(model: str = "google/nano-banana", prompt: str = "a fox", **fields: object) -> ImageRequest:
    """Return a request to generate an image."""
    return replace(ImageRequest("generate", prompt, model), **fields)  # type: ignore[arg-type]


def edit(model: str = "openai/gpt-image-1", **fields: object) -> ImageRequest:
    """Return a request to edit an image."""
    request = ImageRequest("edit", "more snow", model, images=(PHOTO,))
    return replace(request, **fields)  # type: ignore[arg-type]


def refusal(request: ImageRequest) -> RequestError:
    """Return the error of a request that the catalog refuses."""
    with pytest.raises(RequestError) as caught:
        SNAPSHOT.check(request)
    return caught.value


@pytest.mark.parametrize(("model", "shorthands", "size", "quality", "dollars"), ROWS)
def test_every_row_is_priced(model: str, shorthands: str, size: str, quality: str | None, dollars: str) -> None:
    """Each size and quality of a model has the listed price per image, under each of the model's names."""
    key = PriceKey(ENDPOINTS["generate"], model, size, quality, 1)
    expected = parse_usd(dollars)

    assert expected == SNAPSHOT.list_price(key)
    assert 3 * expected == SNAPSHOT.list_price(replace(key, n=3))
    for name in (model, model.upper(), *shorthands.split(), *shorthands.upper().split()):
        assert model == SNAPSHOT.resolve(name)
    SNAPSHOT.check(generate(model, size=size, quality=quality))


def test_the_rows_are_all() -> None:
    """Every model and every listed size of the snapshot is in the rows above."""
    listed = {(model, size) for model, _, size, _, _ in ROWS}

    # Cogview has other sizes than the listed ones, and the rows omit one size of each 2.5 model.
    free = {model.id for model in SNAPSHOT.models if model.sides or "2.5" in model.id}
    assert {model for model, _ in listed} == set(IDS)
    assert {(model.id, size) for model in SNAPSHOT.models for size in model.sizes if model.id not in free} == {
        (model, size) for model, size in listed if model not in free
    }


@pytest.mark.parametrize(("name", "images", "mask"), ABILITIES)
def test_abilities(name: str, images: int, mask: bool) -> None:
    """The catalog lists which models edit, how many source images they take, and which take a mask."""
    model = SNAPSHOT.find(name)

    assert model is not None
    assert (images, images > 0, mask) == (model.max_images, model.edits, model.takes_mask)


def test_no_name_means_two_models() -> None:
    """Ids and shorthands are unique."""
    names = list(chain.from_iterable(model.names for model in SNAPSHOT.models))

    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("model", SNAPSHOT.models, ids=IDS)
def test_rows_are_whole(model: Model) -> None:
    """Every listed size is valid and priced in every quality, and the default size is the first."""
    assert model.sizes[0] == SNAPSHOT.default_size(model.id) == "1024x1024"
    for size in model.sizes:
        assert dimensions(size) is not None
        assert all((model.price(size, quality) or 0) > 0 for quality in (None, *model.qualities))
    assert model.good_for
    assert model.takes_mask <= model.edits
    assert model.name in model.shorthands


def test_the_id_without_its_provider_is_a_name() -> None:
    """The part after the slash is a name of the model."""
    assert SNAPSHOT.resolve("flux-1.1-pro") == "black-forest/flux-1.1-pro"


@pytest.mark.parametrize("name", ["openai/dall-e-4", "new-lab/Model_1.5:beta", " new/model "])
def test_foreign_ids_pass(name: str) -> None:
    """An unknown id of the form provider/name is accepted unchanged, because catalogs go out of date."""
    assert name.strip() == SNAPSHOT.resolve(name)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("fluxx", "flux"),
        ("FLUX!", "flux"),
        ("nanobanana", "nano-banana"),
        ("dal-e", "dall-e"),
        ("seed", "seedream"),
        ("gpt image 2", "gpt-image-2"),
    ],
)
def test_unknown_names_get_a_suggestion(name: str, close: str) -> None:
    """A misspelled model is refused with the closest names."""
    with pytest.raises(RequestError) as caught:
        SNAPSHOT.resolve(name)

    assert f"'{name}'" in caught.value.message
    assert close in caught.value.hint


@pytest.mark.parametrize("name", ["", "/", "a/b/c", "openai/", "/dall-e-3", "a b/c", "http://x/y"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """Other unknown names are refused, and the error names the command that lists the models."""
    with pytest.raises(RequestError) as caught:
        SNAPSHOT.resolve(name)

    assert "%blockrun models" in caught.value.hint


def test_defaults() -> None:
    """These are the default models and the default size."""
    assert SNAPSHOT.default_model("generate") == "google/nano-banana"
    assert SNAPSHOT.default_model("edit") == "openai/gpt-image-2"
    assert SNAPSHOT.default_size("new/model") == "1024x1024"


def test_the_default_of_an_edit_is_one_that_is_served() -> None:
    """A gateway without gpt-image-2 edits with gpt-image-1 by default."""
    models = tuple(replace(model, served=model.id != "openai/gpt-image-2") for model in SNAPSHOT.models)

    assert "openai/gpt-image-1" == replace(SNAPSHOT, models=models).default_model("edit")


def test_what_is_served() -> None:
    """The three delisted models are known, but they are not suggested."""
    gone = [model.id for model in SNAPSHOT.models if not model.served]

    assert ["openai/dall-e-3", "openai/dall-e-2", "black-forest/flux-1.1-pro"] == gone
    assert len(SNAPSHOT.models) - len(gone) == len(SNAPSHOT.served_for("generate"))
    assert set(SNAPSHOT.served_for("edit")) < set(SNAPSHOT.served_for("generate"))


@pytest.mark.parametrize(
    "key",
    [
        PriceKey(ENDPOINTS["generate"], "new/model", "1024x1024", None, 1),
        PriceKey(ENDPOINTS["generate"], "google/nano-banana", "1792x1024", None, 1),
        PriceKey(ENDPOINTS["generate"], "google/nano-banana", "1024x1024", "hd", 1),
        PriceKey(ENDPOINTS["generate"], "openai/dall-e-3", "1024x1024", "ultra", 1),
        PriceKey(ENDPOINTS["generate"], "zai/cogview-4", "1000x1000", None, 1),
        PriceKey(ENDPOINTS["generate"], "google/nano-banana", "1024x1024", None, 0),
        PriceKey(ENDPOINTS["edit"], "black-forest/flux-1.1-pro", "1024x1024", None, 1),
    ],
)
def test_what_is_not_listed_has_no_price(key: PriceKey) -> None:
    """An unlisted combination has no price."""
    assert SNAPSHOT.list_price(key) is None


def test_an_edit_costs_what_a_picture_costs() -> None:
    """An edit has the same price as a generated image of the model."""
    key = PriceKey(ENDPOINTS["edit"], "openai/gpt-image-2", "1536x1024", None, 2)

    assert SNAPSHOT.list_price(key) == 252_000


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("FLUX", {"black-forest/flux-1.1-pro"}),
        ("dalle", {"openai/dall-e-3"}),
        ("zhipu", {"zai/cogview-4"}),
        ("photorealism", {"openai/dall-e-3"}),
        ("mask", {"openai/gpt-image-1", "openai/gpt-image-2", "openai/gpt-image-2.5-sunburst"}),
        ("nothing like it", set()),
        ("", set(IDS)),
    ],
)
def test_search(word: str, expected: set[str]) -> None:
    """The search finds words in names, providers and descriptions."""
    assert expected == {model.id for model in SNAPSHOT.search(word)}


@pytest.mark.parametrize(
    ("model", "size", "do"),
    [
        (
            "google/nano-banana",
            "1792x1024",
            "--size 1216x832 (nearest) or one of 1024x1024, 1024x1792;",
        ),
        ("openai/dall-e-3", "1024x1536", "--size 1024x1792 (nearest)"),
        ("openai/dall-e-2", "300x300", "--size 256x256 (nearest)"),
        ("xai/grok-imagine-image", "512x512", "--size 1024x1024, its only size;"),
        (
            "zai/cogview-4",
            "1920x1080",
            "--size 1440x816 (nearest) or any multiple of 16 from 512 to 1440 a side",
        ),
        ("zai/cogview-4", "1000x1000", "--size 992x992 (nearest)"),
        ("zai/cogview-4", "256x384", "--size 512x768 (nearest)"),
        ("zai/cogview-4", "1x99999", "--size 512x1440 (nearest)"),
        ("google/nano-banana-pro", "4096x4069", "--size 4096x4096 (nearest)"),
        ("google/nano-banana-pro", "2048", "--size 2048x2048 (nearest)"),
        ("google/nano-banana-pro", "2048X2048", "--size 2048x2048 (nearest)"),
        ("google/nano-banana-pro", "huge", "--size 1024x1024 (nearest)"),
    ],
)
def test_a_bad_size_names_the_nearest(model: str, size: str, do: str) -> None:
    """A size that the model lacks is refused with the size nearest in shape and area."""
    error = refusal(generate(model, size=size))

    assert model in error.message
    assert size in error.message
    assert do in error.hint


@given(st.sampled_from(SNAPSHOT.models), st.one_of(st.from_regex(r"\d{1,6}x\d{1,6}", fullmatch=True), st.text()))
def test_the_nearest_size_works(model: Model, size: str) -> None:
    """The suggested size is always valid for the model."""
    actual = nearest_size(model, size)

    assert model.allows_size(actual)
    assert model.price(actual) is not None


@pytest.mark.parametrize("size", ["512x512", "1440x512", "1024x1040"])
def test_cogview_makes_free_sizes(size: str) -> None:
    """Cogview accepts any multiple of 16 from 512 to 1440 for each side."""
    SNAPSHOT.check(generate("zai/cogview-4", size=size))


@pytest.mark.parametrize("size", ["496x512", "1456x1024", "520x512", "512x", "0512x512", "5１2x512"])
def test_cogview_has_its_limits(size: str) -> None:
    """Other sides, and text that is not a size, are refused."""
    assert refusal(generate("zai/cogview-4", size=size)).message


@pytest.mark.parametrize("quality", ["auto", "low", "medium", "high"])
def test_the_quality_of_gpt_image_is_for_gateways_that_offer_it(quality: str) -> None:
    """On a gateway that ignores it, the quality is refused with advice to use Solana, which accepts it."""
    request = generate("openai/gpt-image-2", quality=quality)
    solana = replace(SNAPSHOT, models=tuple(map(with_qualities, SNAPSHOT.models)))
    price = solana.list_price(request.price_key)

    assert "%blockrun use solana" in refusal(request).hint
    solana.check(request)
    assert (63_000 if quality == "auto" else None) == price
    assert 63_000 == solana.list_price(replace(request, quality=None).price_key)
    with pytest.raises(RequestError):
        solana.check(replace(request, quality="hd"))
    with pytest.raises(RequestError):
        solana.check(replace(request, model="google/nano-banana"))


def test_a_bad_quality_names_the_nearest() -> None:
    """The refusal lists the model's qualities; for a model without any, it names the flag."""
    choice = refusal(generate("openai/dall-e-3", quality="HDR"))
    none = refusal(generate("black-forest/flux-1.1-pro", quality="hd"))

    assert all(name in choice.message for name in ("openai/dall-e-3", "'HDR'"))
    assert choice.hint.index("--quality hd") < choice.hint.index("standard")
    assert "black-forest/flux-1.1-pro" in none.message
    assert "--quality" in none.hint


@pytest.mark.parametrize(("n", "nearest"), [(0, 1), (-3, 1), (11, 10), (10**6, 10)])
def test_a_bad_count_names_the_nearest(n: int, nearest: int) -> None:
    """A request has 1 to 10 images; another number is refused with the nearest."""
    error = refusal(generate(n=n))

    assert f" {n} " in error.message
    assert f"-n {nearest} (nearest)" in error.hint


@pytest.mark.parametrize("n", [1, 10])
def test_the_bounds_of_the_count_are_good(n: int) -> None:
    """One and ten images are accepted."""
    SNAPSHOT.check(generate(n=n))


@pytest.mark.parametrize(
    ("prompt", "what"),
    [("", ""), (" \n\t\u3000", ""), ("x" * 32_001, "32,001"), ("half an emoji \ud83e", "surrogate")],
)
def test_bad_prompts_are_refused(prompt: str, what: str) -> None:
    """An empty prompt, one that is too long, and half a character are refused."""
    assert what in refusal(generate(prompt=prompt)).message
    assert what in refusal(generate("new/model", prompt=prompt)).message


@pytest.mark.parametrize("prompt", ["x" * 32_000, "ein 🦊 im Schnee", "雪の中の狐", "{a} $b %c 'd' \"e\" \\f"])
def test_prompts_of_all_kinds_are_good(prompt: str) -> None:
    """A prompt of the greatest length and any script are accepted."""
    SNAPSHOT.check(generate(prompt=prompt))


def one_of(names: Iterable[str]) -> str:
    """Return names as an English list: "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}"


def test_a_model_that_cannot_edit_names_those_that_can() -> None:
    """An edit with a model that cannot edit is refused with the models that can."""
    error = refusal(edit("black-forest/flux-1.1-pro"))

    assert "black-forest/flux-1.1-pro" in error.message
    assert f"--model {one_of(model.name for model in SNAPSHOT.models if model.edits)}" in error.hint


def test_a_mask_needs_a_model_that_takes_one() -> None:
    """A mask for a model without masks is refused with the models that take one."""
    error = refusal(edit("google/nano-banana", mask=MASK))

    assert "google/nano-banana" in error.message
    assert f"--model {one_of(model.name for model in SNAPSHOT.models if model.takes_mask)}" in error.hint


@pytest.mark.parametrize(("model", "most"), [("openai/gpt-image-2", 4), ("google/nano-banana-pro", 3)])
def test_too_many_images_are_counted(model: str, most: int) -> None:
    """The refusal names the limit and how many images to leave out; exactly the limit is accepted."""
    error = refusal(edit(model, images=(PHOTO,) * (most + 2)))

    assert all(part in error.message for part in (model, str(most), str(most + 2)))
    assert " 2 " in error.hint
    SNAPSHOT.check(edit(model, images=(PHOTO,) * most))


@pytest.mark.parametrize("model", ["openai/gpt-image-1", "new/model"])
def test_a_mask_belongs_to_one_image(model: str) -> None:
    """A mask with several source images is refused for every model."""
    assert refusal(edit(model, images=(PHOTO, PHOTO), mask=MASK)).message


@pytest.mark.parametrize("model", ["openai/gpt-image-1", "new/model"])
def test_sources_and_operation_agree(model: str) -> None:
    """A generation with a source image or mask is refused, and so is an edit without a source image."""
    assert refusal(generate(model, images=(PHOTO,))).message
    assert refusal(generate(model, mask=MASK)).message
    assert refusal(edit(model, images=())).message


def test_an_edit_with_a_mask_is_good() -> None:
    """A normal edit with a mask is accepted."""
    SNAPSHOT.check(edit(mask=MASK, size="1536x1024"))


def test_of_an_unknown_model_only_the_common_rules_are_checked() -> None:
    """A model outside the catalog may have any valid size, any quality and any number of source images."""
    SNAPSHOT.check(edit("new/model", images=(PHOTO,) * 9, size="3000x17", quality="ultra"))

    assert "'big'" in refusal(generate("new/model", size="big")).message


def test_a_model_is_one_row() -> None:
    """A new model needs only a new row in the catalog."""
    row = Model("lab/One", ("one",), "Lab", ("640x480",), (PriceRule(10),), "tests")
    catalog = Catalog((*SNAPSHOT.models, row), "2030-01-01")

    assert catalog.resolve("ONE") == catalog.resolve("lab/one") == "lab/One"
    assert catalog.default_size("one") == "640x480"
    assert catalog.list_price(PriceKey(ENDPOINTS["generate"], "lab/One", "640x480", None, 2)) == 20


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_any_text_is_answered_or_refused(name: str, size: str) -> None:
    """Names and sizes of any text are accepted, or refused with a printable RequestError."""
    SNAPSHOT.search(name)
    try:
        SNAPSHOT.check(generate(SNAPSHOT.resolve(name), size=size))
        SNAPSHOT.check(generate("openai/dall-e-3", quality=size))
    except RequestError as error:
        texts = [error.message, error.hint]
    else:
        texts = []

    assert all(text.isprintable() for text in texts)
