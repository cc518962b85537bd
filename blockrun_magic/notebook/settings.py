"""Settings for `%config BlockrunMagics` and IPython's configuration file."""

from __future__ import annotations

from keyword import iskeyword
from typing import Any

from traitlets import Bool, Enum, HasTraits, Int, TraitError, Unicode, validate

__all__ = ["Settings"]


class Settings(HasTraits):
    """The user's settings; each has a default that suits a beginner."""

    model = Unicode("", help="The model of %%imagegen without --model.").tag(config=True)
    edit_model = Unicode("", help="The model of %%img2img without --model.").tag(config=True)
    size = Unicode("", help="The size without --size, for models that make it.").tag(config=True)
    shrink = Bool(False, help="Scale source images down to the limit, as with --shrink.").tag(config=True)
    gateway = Unicode("", help="The gateway, as with `%blockrun use`.").tag(config=True)
    cap_image = Unicode("", help="The limit per image in dollars, as in `%blockrun budget`.").tag(config=True)
    cap_session = Unicode("", help="The limit per session in dollars.").tag(config=True)
    cap_day = Unicode("", help="The limit per UTC day in dollars.").tag(config=True)
    preview_side = Int(768, min=64, max=2048, help="The longest side of a preview, in pixels.").tag(config=True)
    preview_format = Enum(("jpeg", "png"), "jpeg", help="The format of previews in the notebook.").tag(config=True)
    image_name = Unicode("img", help="The variable for the last image.").tag(config=True)
    images_name = Unicode("imgs", help="The variable for the list of the last images.").tag(config=True)
    jobs = Int(8, min=1, max=32, help="How many requests of one cell run at the same time.").tag(config=True)
    cache_only = Bool(False, help="Show only stored images; anything else is an error.").tag(config=True)
    keep_loop_running = Bool(False, help="Keep your own asyncio tasks running while a cell waits (nest-asyncio2).").tag(
        config=True
    )

    @validate("cap_image", "cap_session", "cap_day")
    def _amount(self, proposal: Any) -> str:
        from blockrun_magic.payments.money import parse_usd

        text = str(proposal["value"])
        try:
            if text:
                parse_usd(text)
        except ValueError as error:
            raise TraitError(str(error)) from None
        return text

    @validate("image_name", "images_name")
    def _variable(self, proposal: Any) -> str:
        name = str(proposal["value"])
        if not name.isidentifier() or iskeyword(name):
            raise TraitError(f"{name!r} is not a valid variable name")
        return name

    def caps(self) -> dict[str, int]:
        """Return the limits that are set here, in micro-USDC by name."""
        from blockrun_magic.payments.money import parse_usd

        texts = {"image": self.cap_image, "session": self.cap_session, "day": self.cap_day}
        return {name: parse_usd(text) for name, text in texts.items() if text}
