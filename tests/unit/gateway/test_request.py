"""A request as a value: its digest, its canonical JSON, and its body."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.gateway.request import ImageRequest, PriceKey, Upload

PHOTO = Upload.from_file_bytes(b"a photo", "image/jpeg")
MASK = Upload.from_file_bytes(b"a mask", "image/png")
EDIT = ImageRequest("edit", "more snow", "openai/gpt-image-1", "1024x1024", "hd", 2, (PHOTO,), MASK)

OTHER = {
    "operation": "generate",
    "prompt": "more snow ",
    "model": "openai/gpt-image-2",
    "size": "1536x1024",
    "quality": None,
    "n": 3,
    "images": (PHOTO, MASK),
    "mask": None,
}


def test_the_canonical_json_is_pinned() -> None:
    """The canonical JSON never changes: another text would mean that every image is bought again."""
    actual = ImageRequest("generate", 'Ünï "q" \n🦊', "black-forest/flux-1.1-pro").canonical_json()

    assert actual == (
        '{"endpoint":"/v1/images/generations","image":[],"mask":null,"model":"black-forest/flux-1.1-pro",'
        '"n":1,"prompt":"Ünï \\"q\\" \\n🦊","quality":null,"size":"1024x1024"}'
    )


def test_the_digest_is_the_hash_of_the_canonical_json() -> None:
    """The digest is prefixed with its algorithm, and anyone can compute it."""
    expected = f"sha256:{hashlib.sha256(EDIT.canonical_json().encode()).hexdigest()}"

    assert expected == EDIT.digest
    assert EDIT.digest == "sha256:3d581455b3c18d4bbcbb9266889741ed3695f0c1b7b40e0bf30a299f6921f4a7"


@pytest.mark.parametrize("field", [field.name for field in fields(ImageRequest)])
def test_the_digest_covers_every_field(field: str) -> None:
    """Two requests that differ in one field are two purchases."""
    other = replace(EDIT, **{field: OTHER[field]})

    assert other.digest != EDIT.digest


@pytest.mark.parametrize("field", ["images", "mask"])
def test_the_digest_covers_the_bytes_of_images_and_mask(field: str) -> None:
    """A source image or mask with other bytes is another purchase."""
    changed = Upload.from_file_bytes(b"another", "image/png")
    other = replace(EDIT, **{field: (changed,) if field == "images" else changed})

    assert other.digest != EDIT.digest


def test_the_order_of_images_matters() -> None:
    """The order of the source images is part of the digest."""
    one = replace(EDIT, images=(PHOTO, MASK), mask=None)
    other = replace(EDIT, images=(MASK, PHOTO), mask=None)

    assert one.digest != other.digest


@given(st.text(st.characters(exclude_categories=())))
def test_every_prompt_has_a_name(prompt: str) -> None:
    """Any prompt has canonical JSON that reads back, and a digest of the usual length."""
    request = ImageRequest("generate", prompt, "xai/grok-imagine-image")

    assert prompt == json.loads(request.canonical_json())["prompt"]
    assert len("sha256:") + 64 == len(request.digest)


def test_the_body_of_a_plain_request() -> None:
    """Unset fields are not sent; size and n always are."""
    actual = ImageRequest("generate", "a fox", "google/nano-banana").body()

    assert actual == {"model": "google/nano-banana", "prompt": "a fox", "size": "1024x1024", "n": 1}


def test_the_body_of_an_edit() -> None:
    """A single source image is sent as one data URI, and the mask as another."""
    photo = f"data:image/jpeg;base64,{base64.b64encode(b'a photo').decode()}"
    mask = f"data:image/png;base64,{base64.b64encode(b'a mask').decode()}"

    actual = EDIT.body()

    assert photo == actual["image"]
    assert mask == actual["mask"]
    assert actual["quality"] == "hd"


def test_several_images_are_sent_as_a_list() -> None:
    """Several source images are sent as an array in their order."""
    actual = replace(EDIT, images=(PHOTO, MASK), mask=None).body()

    assert [PHOTO.data_uri, MASK.data_uri] == actual["image"]
    assert "mask" not in actual


def test_endpoints_and_price_key() -> None:
    """The operation determines the path, and five fields determine the price."""
    expected = PriceKey("/v1/images/image2image", "openai/gpt-image-1", "1024x1024", "hd", 2)

    assert expected == EDIT.price_key
    assert replace(EDIT, operation="generate").endpoint == "/v1/images/generations"


def test_an_upload_shows_no_bytes() -> None:
    """The repr of an upload or a request does not contain the image's bytes."""
    upload = Upload.from_file_bytes(b"x" * 100_000, "image/png")

    assert repr(upload).startswith("Upload(image/png, 100000 bytes, sha256:")
    assert len(repr(replace(EDIT, images=(upload,)))) < 500


def test_a_request_is_frozen() -> None:
    """A request is frozen: the quoted request is the one that is bought."""
    with pytest.raises(FrozenInstanceError):
        EDIT.prompt = "less snow"  # type: ignore[misc]
