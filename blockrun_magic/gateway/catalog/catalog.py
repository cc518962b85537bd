"""Catalog of image models: lookups by name, list prices, and checks of a request before it is sent.

The table is in `snapshot`. A refusal costs nothing: it comes before any request, and names the nearest valid choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from blockrun_magic.errors import RequestError
from blockrun_magic.gateway.catalog.snapshot import AS_OF, MODELS, QUALITIES, Model, PriceRule, dimensions
from blockrun_magic.gateway.request import ENDPOINTS
from blockrun_magic.text import any_of, closest, did_you_mean, quoted

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import ImageRequest, Operation, PriceKey

__all__ = ["DEFAULT_SIZE", "MAX_N", "SNAPSHOT", "Catalog", "Model", "PriceRule", "dimensions", "nearest_size"]

DEFAULT_SIZE = "1024x1024"
MAX_N = 10
MAX_PROMPT = 32_000
DEFAULT_MODEL = "google/nano-banana"
EDIT_DEFAULTS = ("openai/gpt-image-2", "openai/gpt-image-1")
"""Default models of an edit, in the order in which a gateway's list is searched for them."""

_FOREIGN_ID = re.compile(r"[a-z0-9][\w.-]*/[a-z0-9][\w.:-]*", re.ASCII | re.IGNORECASE)
_GPT_IMAGE = "openai/gpt-image-"
_UNCHECKED_HINT = "--unchecked sends the request anyway."


@dataclass(frozen=True, slots=True)
class Catalog:
    """The image models known on the day `as_of` (an ISO date), `live` if a gateway's own list was read then.

    `default` is the default model, and `edit_defaults` are those of an edit, in the order of preference.
    `only_served`: the catalog of a class, which allows only listed models.
    """

    models: tuple[Model, ...]
    as_of: str
    live: bool = False
    edit_defaults: tuple[str, ...] = EDIT_DEFAULTS
    default: str = DEFAULT_MODEL
    only_served: bool = False

    @property
    def offered(self) -> tuple[Model, ...]:
        """The models to choose from."""
        return tuple(model for model in self.models if model.served or not self.only_served)

    def find(self, name: str) -> Model | None:
        """Return the model with that id or shorthand in any case, or None."""
        folded = name.strip().casefold()
        return next((model for model in self.models if folded in map(str.casefold, model.names)), None)

    def resolve(self, name: str) -> str:
        """Return the full id for an id or a shorthand; raises RequestError for an unknown name.

        An unknown id of the form provider/name passes unchanged, because catalogs age.
        """
        model = self.find(name)
        if model is not None:
            return model.id
        if _FOREIGN_ID.fullmatch(name.strip()):
            return name.strip()
        names = [listed for model in self.models for listed in model.names]
        raise RequestError(
            f"Unknown model: {quoted(name)}.",
            f"{did_you_mean(name, names)}`%blockrun models` lists all of them."
            " An id of the form provider/name is sent unchanged.",
        )

    def search(self, word: str) -> tuple[Model, ...]:
        """Return the models with `word` in a name, the provider or what they are good for."""
        folded = word.strip().casefold()
        return tuple(
            model
            for model in self.offered
            if any(folded in text.casefold() for text in (*model.names, model.provider, model.good_for))
        )

    def list_price(self, key: PriceKey) -> int | None:
        """Return the micro-USDC of the whole request, all `n` images; None if unknown."""
        model = self.find(key.model)
        if model is None or key.n < 1:
            return None
        if key.endpoint == ENDPOINTS["edit"] and not (model.edits or model.unverified):
            return None
        price = model.price(key.size, key.quality)
        return None if price is None else price * key.n

    def served_for(self, operation: Operation) -> list[str]:
        """Return the short names of the models that the gateway serves for `operation`."""
        return [model.name for model in self.models if model.served and (operation == "generate" or model.edits)]

    def default_model(self, operation: Operation) -> str:
        """Return the id of the default model: for an edit, the first default that the gateway serves."""
        if operation == "generate":
            return self.default
        models = (self.find(name) for name in self.edit_defaults)
        return next((model.id for model in models if model is not None and model.served), self.edit_defaults[0])

    def default_size(self, model: str) -> str:
        """Return the default size of a model: its first, or 1024x1024."""
        entry = self.find(model)
        return entry.sizes[0] if entry else DEFAULT_SIZE

    def check(self, request: ImageRequest) -> None:
        """Raise RequestError if no gateway would answer this request; the hint names what works.

        For a model outside the catalog, only the rules for every model are checked.
        """
        _check_prompt(request.prompt)
        _check_count(request.n)
        _check_operation(request)
        model = self.find(request.model)
        if model is None or model.unverified:
            _check_size_form(request.size)
            return
        if request.operation == "edit":
            self._check_abilities(model, request)
        _check_size(model, request.size)
        _check_quality(model, request.quality)

    def _check_abilities(self, model: Model, request: ImageRequest) -> None:
        if not model.edits:
            able = any_of(model.name for model in self.models if model.edits)
            raise RequestError(
                f"{model.id} makes images but does not edit them.",
                f"Edit with --model {able}; {_UNCHECKED_HINT}",
            )
        if request.mask is not None and not model.takes_mask:
            able = any_of(model.name for model in self.models if model.takes_mask)
            raise RequestError(
                f"{model.id} does not take a mask.",
                f"Describe the change in the prompt, or use --model {able}; {_UNCHECKED_HINT}",
            )
        if len(request.images) > model.max_images:
            raise RequestError(
                f"{model.id} takes at most {model.max_images} source images, not {len(request.images)}.",
                f"Leave out {len(request.images) - model.max_images} of them; {_UNCHECKED_HINT}",
            )


def nearest_size(model: Model, size: str) -> str:
    """Return the model's size that is closest to `size` in shape and area."""
    target = dimensions(size) or dimensions(f"{size}x{size}")
    if target is None:
        return next(iter(closest(size, model.sizes)), model.sizes[0])
    if model.sides is not None:
        return _fit(target, model.sides)
    return min(model.sizes, key=lambda candidate: _distance(target, dimensions(candidate) or (1, 1)))


def _fit(target: tuple[int, int], sides: range) -> str:
    """Scale a size into the allowed sides, keeping its shape as far as possible."""
    scale = min(sides[-1] / max(target), max(1.0, sides[0] / min(target)))
    width, height = (min(sides, key=lambda side: abs(side - length * scale)) for length in target)
    return f"{width}x{height}"


def _distance(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return how different two sizes are; the shape weighs twice as much as the area."""
    shape = abs(log(first[0] / first[1]) - log(second[0] / second[1]))
    area = abs(log(first[0] * first[1]) - log(second[0] * second[1]))
    return shape + area / 2


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise RequestError("The prompt is empty.", "Describe the image.")
    if len(prompt) > MAX_PROMPT:
        raise RequestError(
            f"The prompt has {len(prompt):,} characters; no model reads more than {MAX_PROMPT:,}.",
            "Shorten it.",
        )
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise RequestError(
            "The prompt contains half a character (a lone surrogate), which cannot be sent.",
            "Type or paste the text again; an emoji was probably cut in two.",
        )


def _check_count(n: int) -> None:
    if not 1 <= n <= MAX_N:
        nearest = min(max(n, 1), MAX_N)
        raise RequestError(
            f"One request cannot ask for {n} images.",
            f"Use -n {nearest} (nearest), or any number from 1 to {MAX_N}.",
        )


def _check_operation(request: ImageRequest) -> None:
    """Refuse source images without an edit, an edit without source images, a mask for several."""
    if request.operation == "generate":
        if request.images or request.mask is not None:
            raise RequestError(
                "Generating an image takes no source image and no mask.",
                "Use %%img2img to edit an image, or leave out --image and --mask.",
            )
    elif not request.images:
        raise RequestError(
            "There is no image to edit.",
            "Add --image with a path, a URL or a variable; `--image img` takes the last image.",
        )
    elif request.mask is not None and len(request.images) > 1:
        raise RequestError(
            f"A mask works with one source image, not {len(request.images)}.",
            "Give a single --image, or leave out --mask.",
        )


def _check_size_form(size: str) -> None:
    if dimensions(size) is None:
        raise RequestError(f"{quoted(size)} is not a size.", f"Write width x height in pixels: --size {DEFAULT_SIZE}.")


def _check_size(model: Model, size: str) -> None:
    if model.allows_size(size):
        return
    shown = size if dimensions(size) else quoted(size)
    raise RequestError(
        f"{model.id} does not make {shown} images.",
        f"Use --size {_offer(nearest_size(model, size), model)}; {_UNCHECKED_HINT}",
    )


def _offer(nearest: str, model: Model) -> str:
    if model.sides is not None:
        low, step, high = model.sides[0], model.sides.step, model.sides[-1]
        return f"{nearest} (nearest) or any multiple of {step} from {low} to {high} a side"
    others = [size for size in model.sizes if size != nearest]
    return f"{nearest} (nearest) or one of {', '.join(others)}" if others else f"{nearest}, its only size"


def _check_quality(model: Model, quality: str | None) -> None:
    if quality is None or quality in model.qualities:
        return
    if not model.qualities and model.id.startswith(_GPT_IMAGE) and quality in QUALITIES:
        raise RequestError(
            f"This gateway ignores the quality of {model.id}.",
            f"Leave out --quality, or use a gateway that offers it (`%blockrun use solana`); {_UNCHECKED_HINT}",
        )
    if not model.qualities:
        raise RequestError(f"{model.id} does not offer a choice of quality.", f"Leave out --quality; {_UNCHECKED_HINT}")
    nearest = next(iter(closest(quality, model.qualities)), model.qualities[0])
    others = any_of(offered for offered in model.qualities if offered != nearest)
    raise RequestError(
        f"{model.id} has no quality {quoted(quality)}.",
        f"Use --quality {nearest} (nearest) or {others}; {_UNCHECKED_HINT}",
    )


SNAPSHOT = Catalog(MODELS, AS_OF)
