"""Flags of the image magics, as one table: parsing, rendering, help, completion and the reference read it."""

from __future__ import annotations

from dataclasses import dataclass

from blockrun_magic.gateway.catalog.catalog import MAX_N
from blockrun_magic.notebook.cells.flag_values import MAX_JOBS, Kind

__all__ = ["FLAGS", "MAGICS", "Flag", "Flags", "Kind", "find_flag", "help_text"]

MAGICS = ("imagegen", "img2img")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its spelling, the kind of its value, and a sentence of help.

    A `metavar` of None is a switch. `magics` take the flag; `repeats` lets it be given again.
    """

    name: str
    short: str | None
    metavar: str | None
    kind: Kind
    group: str
    help: str
    magics: tuple[str, ...] = MAGICS
    repeats: bool = False

    @property
    def field(self) -> str:
        """The field of `Flags` that holds the value."""
        return _FIELDS.get(self.name) or self.name.lstrip("-").replace("-", "_")

    @property
    def spellings(self) -> tuple[str, ...]:
        """The ways to type it, the short one first."""
        return (self.short, self.name) if self.short else (self.name,)


@dataclass(frozen=True, slots=True)
class Flags:
    """The prompt and the flags of one cell or line; None and () stand for our defaults.

    `max_price` is micro-USDC; `sizes` are "WIDTHxHEIGHT", ratios or words; `images` and `mask` are as typed.
    """

    prompt: str
    models: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    n: int | None = None
    quality: str | None = None
    name: str | None = None
    save: str | None = None
    max_price: int | None = None
    yes: bool = False
    dry_run: bool = False
    fresh: bool = False
    take: int | None = None
    full: bool = False
    quiet: bool = False
    style: str | None = None
    vary: bool = False
    fill: bool = False
    each: bool = False
    prompts: str | None = None
    jobs: int | None = None
    background: bool = False
    unchecked: bool = False
    private: bool = False
    gateway: str | None = None
    images: tuple[str, ...] = ()
    mask: str | None = None
    shrink: bool = False


_FIELDS = {"--image": "images", "--model": "models", "--size": "sizes", "--as": "name"}
_EDIT = ("img2img",)
_SOURCE, _IMAGE, _MANY, _PRICE, _RESULT = "The source", "The image", "Many at once", "The price", "The result"

FLAGS = (
    Flag("--image", "-i", "X", "image", _SOURCE, "Image to edit: path, URL or variable; repeat to fuse.", _EDIT, True),
    Flag("--mask", None, "X", "mask", _SOURCE, "Mask: white pixels may change, black pixels stay.", _EDIT),
    Flag("--shrink", None, None, "switch", _SOURCE, "Scale a source down to the limit of 16.8 megapixels.", _EDIT),
    Flag("--model", "-m", "NAME", "model", _IMAGE, "Model to use; give several (a,b,c) to compare them."),
    Flag("--size", "-s", "WxH", "size", _IMAGE, "1216x832, 16:9, portrait, square or hd; a,b compares."),
    Flag("-n", None, "K", "count", _IMAGE, f"Number of images, 1 to {MAX_N}; each is paid for."),
    Flag("--quality", None, "WORD", "quality", _IMAGE, "standard or hd, for models that offer both."),
    Flag("--style", None, "NAME", "style", _IMAGE, "Add the words of a named style; see `%blockrun styles`."),
    Flag("--vary", None, None, "switch", _IMAGE, "Make variations of the image; the prompt may be empty.", _EDIT),
    Flag("--unchecked", None, None, "switch", _IMAGE, "Skip our model and size checks, which may be out of date."),
    Flag("--as", None, "NAME", "name", _RESULT, "Another variable for the image, in addition to img."),
    Flag("--save", None, "PATH", "path", _RESULT, "Also write the original to this file or folder."),
    Flag("--full", None, None, "switch", _RESULT, "Embed the original in the notebook instead of a preview."),
    Flag("--quiet", None, None, "switch", _RESULT, "Show nothing; the variables are still set."),
    Flag("--private", None, None, "switch", _RESULT, "Leave the prompt out of the receipt in the image."),
    Flag("--max-price", None, "USD", "usd", _PRICE, "Pay at most this much for the whole cell."),
    Flag("--yes", None, None, "switch", _PRICE, "Run an expensive cell without asking; limits still apply."),
    Flag("--dry-run", None, None, "switch", _PRICE, "Show the price and stop."),
    Flag("--fresh", None, None, "switch", _PRICE, "Buy a new take instead of showing the stored image."),
    Flag("--take", None, "K", "take", _PRICE, "Use take number K of this request; buy it if it is new."),
    Flag("--gateway", None, "NAME", "gateway", _PRICE, "Gateway for this cell only; see `%blockrun use`."),
    Flag("--fill", None, None, "switch", _MANY, "Replace {name} by variables; lists give every combination."),
    Flag("--each", None, None, "switch", _MANY, "Use every line of the cell as a separate prompt."),
    Flag("--prompts", None, "VAR", "prompts", _MANY, "Prompts from a list, a Series or a column (df.prompt)."),
    Flag("--jobs", None, "K", "jobs", _MANY, f"Requests at the same time, 1 to {MAX_JOBS}; the default is 8."),
    Flag("--background", None, None, "switch", _MANY, "Return at once; the image appears when it is ready."),
)


def find_flag(spelling: str) -> Flag | None:
    """Return the flag typed like that ("--model", "-m"), or None."""
    return next((flag for flag in FLAGS if spelling in flag.spellings), None)


_PAGES = {
    "imagegen": """%%imagegen: make an image from a prompt

The body of the cell is the prompt. Flags go on the first line.

    %%imagegen --model flux --as city
    a futuristic city at sunset, seen from the harbor

On one line, flags can go anywhere; the other words are the prompt. Everything after -- is prompt;
a first line that ends in -- sends the body as it is.

    %imagegen a red fox in fresh snow --size 1216x832
    %imagegen -- a sign that says --model""",
    "img2img": """%%img2img: edit an image

The body of the cell says what to change. Flags go on the first line.

    %%img2img --image city --mask sky
    replace the sky with an aurora

On one line, flags can go anywhere; the other words are the prompt. Everything after -- is prompt;
a first line that ends in -- sends the body as it is.

    %img2img --image photo.png make it winter
    %img2img -i img a little warmer""",
}


def help_text(magic: str) -> str:
    """Return the help page of a magic: its purpose, examples, and its flags by group."""
    lines = [*_PAGES[magic].splitlines(), "", "Write flags as --flag value or --flag=value."]
    group = ""
    for flag in FLAGS:
        if magic not in flag.magics:
            continue
        if flag.group != group:
            group = flag.group
            lines += ["", group]
        usage = f"{', '.join(flag.spellings)} {flag.metavar or ''}".rstrip()
        lines.append(f"  {usage:<20} {flag.help}")
    return "\n".join(lines)
