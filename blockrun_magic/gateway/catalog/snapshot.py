"""BlockRun's image models as a table: to add a model, add a row.

Prices are micro-USDC per image, as the gateway charges them (gateway protocol, sections 6 and 9). The gateway's own
quote always wins; these prices are for estimates, and to detect implausible quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

__all__ = ["AS_OF", "MODELS", "QUALITIES", "Model", "PriceRule", "dimensions", "with_qualities"]

AS_OF = "2026-11-26"

QUALITIES = ("auto", "low", "medium", "high")
"""Qualities of `openai/gpt-image-*` at gateways that do not ignore them; the first is the default."""

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)


def dimensions(size: str) -> tuple[int, int] | None:
    """Return "WIDTHxHEIGHT" as two numbers of pixels, or None when it is not written like that."""
    match = _SIZE.fullmatch(size)
    return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class PriceRule:
    """A price in micro-USDC per image, and which sizes (none: all) and quality (None: any) it is for."""

    micros: int
    sizes: tuple[str, ...] = ()
    quality: str | None = None
    above_pixels: int = 0

    def applies(self, size: str, quality: str | None) -> bool:
        """Return whether an image of this size and quality has this price."""
        width, height = dimensions(size) or (0, 0)
        return (
            (not self.sizes or size in self.sizes)
            and (self.quality is None or self.quality == quality)
            and (self.above_pixels == 0 or width * height > self.above_pixels)
        )


@dataclass(frozen=True, slots=True)
class Model:
    """An image model: its names, sizes, prices and abilities.

    The first of `sizes` and of `qualities` is the default. `sides`, if given, are further allowed lengths of each side.
    The first of `prices` that applies is the price. `max_images` counts the source images of one edit, 0 for a model
    that does not edit. `older_sizes` are sizes that only older documents list. `served` is False for a model that the
    gateway no longer lists; `unverified` marks one that is only in a gateway's list: the gateway checks its sizes and
    abilities.
    """

    id: str
    shorthands: tuple[str, ...]
    provider: str
    sizes: tuple[str, ...]
    prices: tuple[PriceRule, ...]
    good_for: str
    qualities: tuple[str, ...] = ()
    sides: range | None = None
    takes_mask: bool = False
    max_images: int = 0
    older_sizes: tuple[str, ...] = ()
    served: bool = True
    unverified: bool = False

    @property
    def edits(self) -> bool:
        """Whether the model edits images as well as making them."""
        return self.max_images > 0

    @property
    def name(self) -> str:
        """The shortest name of the model."""
        return self.shorthands[0] if self.shorthands else self.id

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the model: id, shorthands, and the id without its provider."""
        return tuple(dict.fromkeys((self.id, *self.shorthands, self.id.rpartition("/")[2])))

    def allows_size(self, size: str) -> bool:
        """Return whether the model makes images of `size`, "WIDTHxHEIGHT"."""
        if size in self.sizes or (self.unverified and dimensions(size)):
            return True
        sides = dimensions(size) if self.sides is not None else None
        return sides is not None and self.sides is not None and all(side in self.sides for side in sides)

    def price(self, size: str, quality: str | None = None) -> int | None:
        """Return the micro-USDC of one image; None if the model makes no such image or its price is not known."""
        if not self.allows_size(size) or (quality is not None and quality not in self.qualities):
            return None
        if quality is None and self.qualities:
            quality = self.qualities[0]
        return next((rule.micros for rule in self.prices if rule.applies(size, quality)), None)


def with_qualities(model: Model) -> Model:
    """Return the model as Solana's gateway offers it: there, `openai/gpt-image-*` have four qualities.

    The known prices are for the default quality; the gateway's quote gives the others.
    """
    if not model.id.startswith("openai/gpt-image-"):
        return model
    prices = tuple(replace(rule, quality=QUALITIES[0]) for rule in model.prices)
    return replace(model, qualities=QUALITIES, prices=prices)


_DALLE3_WIDE = ("1792x1024", "1024x1792")
_GPT_SIZES = ("1024x1024", "1536x1024", "1024x1536")

MODELS = (
    Model(
        id="google/nano-banana",
        shorthands=("nano-banana", "banana"),
        provider="Google",
        sizes=("1024x1024", "1216x832", "1024x1792"),
        older_sizes=("1216x832", "1024x1792"),
        prices=(PriceRule(52_500),),
        max_images=3,
        good_for="everyday images, fast and reliable",
    ),
    Model(
        id="google/nano-banana-2",
        shorthands=("banana-2", "nano-banana-2"),
        provider="Google",
        sizes=("1024x1024",),
        prices=(PriceRule(94_500),),
        max_images=3,
        good_for="everyday images, finer detail",
    ),
    Model(
        id="google/nano-banana-pro",
        shorthands=("banana-pro", "nano-banana-pro"),
        provider="Google",
        sizes=("1024x1024", "2048x2048", "4096x4096", "1024x1792"),
        older_sizes=("1024x1792",),
        prices=(PriceRule(157_500, sizes=("4096x4096",)), PriceRule(105_000)),
        max_images=3,
        good_for="high resolution, large formats",
    ),
    Model(
        id="openai/gpt-image-1",
        shorthands=("gpt-image", "gpt-image-1"),
        provider="OpenAI",
        sizes=_GPT_SIZES,
        prices=(PriceRule(42_000, sizes=_GPT_SIZES[1:]), PriceRule(21_000)),
        takes_mask=True,
        max_images=4,
        good_for="edits with a mask, cheap",
    ),
    Model(
        id="openai/gpt-image-2",
        shorthands=("gpt-image-2",),
        provider="OpenAI",
        sizes=_GPT_SIZES,
        prices=(PriceRule(126_000, sizes=_GPT_SIZES[1:]), PriceRule(63_000)),
        takes_mask=True,
        max_images=4,
        good_for="text in images, consistent characters, edits with a mask",
    ),
    Model(
        id="openai/gpt-image-2.5-flare",
        shorthands=("gpt-image-2.5-flare",),
        provider="OpenAI",
        sizes=_GPT_SIZES,
        prices=(PriceRule(588_000, sizes=_GPT_SIZES[1:]), PriceRule(294_000)),
        good_for="the finest detail, fast",
    ),
    Model(
        id="openai/gpt-image-2.5-sunburst",
        shorthands=("gpt-image-2.5-sunburst",),
        provider="OpenAI",
        sizes=_GPT_SIZES,
        prices=(PriceRule(588_000, sizes=_GPT_SIZES[1:]), PriceRule(294_000)),
        takes_mask=True,
        max_images=4,
        good_for="the finest detail, precise edits with a mask",
    ),
    Model(
        id="openai/dall-e-3",
        shorthands=("dall-e-3", "dall-e", "dalle", "dalle3"),
        provider="OpenAI",
        sizes=("1024x1024", *_DALLE3_WIDE),
        prices=(
            PriceRule(126_000, sizes=("1792x1024",), quality="hd"),
            PriceRule(84_000, quality="hd"),
            PriceRule(84_000, sizes=_DALLE3_WIDE),
            PriceRule(42_000),
        ),
        qualities=("standard", "hd"),
        good_for="complex scenes, photorealism",
        served=False,
    ),
    Model(
        id="openai/dall-e-2",
        shorthands=("dall-e-2",),
        provider="OpenAI",
        sizes=("1024x1024", "512x512", "256x256"),
        prices=(PriceRule(21_000),),
        good_for="small and simple images",
        served=False,
    ),
    Model(
        id="black-forest/flux-1.1-pro",
        shorthands=("flux",),
        provider="Black Forest Labs",
        sizes=("1024x1024", "1216x832", "832x1216"),
        prices=(PriceRule(42_000),),
        good_for="artistic styles",
        served=False,
    ),
    Model(
        id="zai/cogview-4",
        shorthands=("cogview", "cogview-4"),
        provider="Zhipu AI",
        sizes=("1024x1024", "512x512", "768x768", "768x1344", "1344x768", "1440x1440"),
        sides=range(512, 1441, 16),
        prices=(PriceRule(21_000, sizes=("1440x1440",)), PriceRule(15_750)),
        good_for="the cheapest images, Chinese prompts, free sizes",
    ),
    Model(
        id="xai/grok-imagine-image",
        shorthands=("grok-imagine", "grok"),
        provider="xAI",
        sizes=("1024x1024",),
        prices=(PriceRule(21_000),),
        good_for="quick ideas",
    ),
    Model(
        id="xai/grok-imagine-image-pro",
        shorthands=("grok-imagine-pro",),
        provider="xAI",
        sizes=("1024x1024",),
        prices=(PriceRule(73_500),),
        good_for="stylized images",
    ),
    Model(
        id="xai/grok-imagine-image-2.0",
        shorthands=("grok-imagine-image-2.0",),
        provider="xAI",
        sizes=("1024x1024",),
        prices=(PriceRule(42_000),),
        good_for="stylized images, newer",
    ),
    Model(
        id="bytedance/seedream-5-pro",
        shorthands=("seedream",),
        provider="ByteDance",
        sizes=(
            "1024x1024",
            "1280x720",
            "2048x1024",
            "2048x2048",
            "2304x1728",
            "1728x2304",
            "2848x1600",
            "1600x2848",
        ),
        prices=(PriceRule(94_500, above_pixels=2_360_000), PriceRule(47_250)),
        good_for="large, wide and tall formats; takes about two minutes",
    ),
)
