"""Image requests: immutable values with canonical JSON and a hash.

Requests with the same hash are one purchase, so that running a notebook again costs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

__all__ = ["ENDPOINTS", "ImageRequest", "Operation", "PriceKey", "Upload"]

Operation = Literal["generate", "edit"]

ENDPOINTS: dict[Operation, str] = {
    "generate": "/v1/images/generations",
    "edit": "/v1/images/image2image",
}


@dataclass(frozen=True)
class Upload:
    """An image to send: encoded bytes (PNG, JPEG or WebP), their media type and a digest.

    The digest names its algorithm. Files are hashed byte by byte ("sha256:..."). Images
    in memory are hashed by their pixels ("pixels-sha256:..."), so that the same image is the same
    request with every encoder.
    """

    data: bytes
    media_type: str
    digest: str
    note: str = field(default="", compare=False)
    """A sentence for the user about a change that was made for the upload, or an empty string."""

    @classmethod
    def from_file_bytes(cls, data: bytes, media_type: str) -> Upload:
        """Return the upload of a file's bytes, named by their SHA-256."""
        return cls(data, media_type, f"sha256:{hashlib.sha256(data).hexdigest()}")

    @cached_property
    def data_uri(self) -> str:
        """The bytes as `data:<media type>;base64,...`, encoded once."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"

    def __repr__(self) -> str:
        return f"Upload({self.media_type}, {len(self.data)} bytes, {self.digest[:20]}…)"


@dataclass(frozen=True, slots=True)
class PriceKey:
    """The fields that the price of a request depends on (gateway protocol, section 3)."""

    endpoint: str
    model: str
    size: str
    quality: str | None
    n: int

    def __str__(self) -> str:
        return json.dumps([self.endpoint, self.model, self.size, self.quality, self.n])


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One request to make or edit images.

    `model` is a full id ("google/nano-banana"), `size` is "WIDTHxHEIGHT" in pixels, `n` counts
    images. `images` and `mask` belong to edits; white areas of the mask may change.
    """

    operation: Operation
    prompt: str
    model: str
    size: str = "1024x1024"
    quality: str | None = None
    n: int = 1
    images: tuple[Upload, ...] = ()
    mask: Upload | None = None

    @property
    def endpoint(self) -> str:
        """The gateway path that answers this request."""
        return ENDPOINTS[self.operation]

    @property
    def price_key(self) -> PriceKey:
        """The fields that decide the price of this request."""
        return PriceKey(self.endpoint, self.model, self.size, self.quality, self.n)

    def to_record(self) -> dict[str, Any]:
        """Return the request as plain JSON values, images by their digests."""
        return {
            "endpoint": self.endpoint,
            "image": [image.digest for image in self.images],
            "mask": self.mask.digest if self.mask else None,
            "model": self.model,
            "n": self.n,
            "prompt": self.prompt,
            "quality": self.quality,
            "size": self.size,
        }

    def canonical_json(self) -> str:
        """Return the canonical JSON of this request: sorted keys, no spaces, unescaped UTF-8."""
        return json.dumps(self.to_record(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """The request's name: "sha256:" and the hex SHA-256 of its canonical JSON."""
        text = self.canonical_json().encode("utf-8", "surrogatepass")
        return f"sha256:{hashlib.sha256(text).hexdigest()}"

    def fields(self) -> dict[str, Any]:
        """Return all fields but the images, with the gateway's names (gateway protocol, section 2)."""
        fields: dict[str, Any] = {"model": self.model, "prompt": self.prompt, "size": self.size, "n": self.n}
        if self.quality is not None:
            fields["quality"] = self.quality
        return fields

    def files(self) -> list[tuple[str, Upload]]:
        """Return the images with the names of their form fields (gateway protocol, section 8)."""
        files = [("image[]", image) for image in self.images]
        return files if self.mask is None else [*files, ("mask", self.mask)]

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the request (gateway protocol, section 2)."""
        body = self.fields()
        if self.images:
            uris = [image.data_uri for image in self.images]
            body["image"] = uris[0] if len(uris) == 1 else uris
        if self.mask is not None:
            body["mask"] = self.mask.data_uri
        return body
