"""The grammar of the image magics, as one table: parsing, rendering, help and completion read it.

A cell's first line holds flags and its body is the prompt, byte for byte. In a one-line magic
flags may stand anywhere, and all the rest is the prompt: its apostrophes, quotes, `$`, `{` and
dashes mean themselves. Quotes group words only where a flag's value begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from blockrun_magic.errors import FlagError
from blockrun_magic.gateway.catalog.catalog import MAX_N
from blockrun_magic.notebook.cells.flag_values import CONVERTERS, MAX_JOBS, Kind
from blockrun_magic.payments.money import format_usd
from blockrun_magic.text import did_you_mean, quoted

__all__ = [
    "FLAGS",
    "MAGICS",
    "Flag",
    "Flags",
    "Kind",
    "find_flag",
    "help_text",
    "parse",
    "parse_flags",
    "render",
]

MAGICS = ("imagegen", "img2img")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: how it is typed, what kind of value it takes, and what it does, for people.

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
    """What a person said in one cell or line; None and () leave the choice to us.

    `max_price` is micro-USDC; `sizes` are "WIDTHxHEIGHT"; `images` and `mask` are as typed.
    """

    prompt: str
    models: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    n: int | None = None
    quality: str | None = None
    name: str | None = None
    save: str | None = None
    max_price: int | None = None
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


_WORD = re.compile(r"\S+")
_QUOTED = re.compile(r"""(?:"[^"]*+"|'[^']*+')++(?!\S)""")
_SEGMENT = re.compile(r""""([^"]*)"|'([^']*)'""")
_LINE_BREAK = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

_FIELDS = {"--image": "images", "--model": "models", "--size": "sizes", "--as": "name"}
_EDIT = ("img2img",)
_SOURCE, _PICTURE, _MANY, _PRICE, _RESULT = "The source", "The picture", "Many at once", "The price", "The result"

FLAGS = (
    Flag("--image", "-i", "X", "image", _SOURCE, "A path, URL or variable; again to fuse.", _EDIT, True),
    Flag("--mask", None, "X", "mask", _SOURCE, "What may change is white in it.", _EDIT),
    Flag("--model", "-m", "NAME", "model", _PICTURE, "The model; several, as a,b,c, are compared."),
    Flag("--size", "-s", "WxH", "size", _PICTURE, "Width x height in pixels; several, as a,b, are compared."),
    Flag("-n", None, "K", "count", _PICTURE, f"How many pictures, 1 to {MAX_N}; each is paid for."),
    Flag("--quality", None, "WORD", "quality", _PICTURE, "standard or hd, where the model has the choice."),
    Flag("--style", None, "NAME", "style", _PICTURE, "Add the words of a named style; see `%blockrun styles`."),
    Flag(
        "--vary", None, None, "switch", _PICTURE, "Ask for variations of the picture; the prompt may be empty.", _EDIT
    ),
    Flag("--unchecked", None, None, "switch", _PICTURE, "Send what our catalog would refuse."),
    Flag("--fill", None, None, "switch", _MANY, "Fill {name} in from the notebook; lists make every combination."),
    Flag("--each", None, None, "switch", _MANY, "Every line of the cell is a prompt of its own."),
    Flag("--prompts", None, "VAR", "prompts", _MANY, "Prompts from a list, a Series or a column, as df.prompt."),
    Flag("--jobs", None, "K", "jobs", _MANY, f"How many at the same time, 1 to {MAX_JOBS}; 8 otherwise."),
    Flag("--background", None, None, "switch", _MANY, "Go on at once; the picture shows when it comes."),
    Flag("--max-price", None, "USD", "usd", _PRICE, "Pay no more than this for the whole cell."),
    Flag("--dry-run", None, None, "switch", _PRICE, "Say what it would cost, and stop there."),
    Flag("--fresh", None, None, "switch", _PRICE, "Buy another take, not the picture bought before."),
    Flag("--take", None, "K", "take", _PRICE, "Take number K of this request; bought if it is new."),
    Flag("--gateway", None, "NAME", "gateway", _PRICE, "Ask this gateway, for this cell only; see `%blockrun use`."),
    Flag("--as", None, "NAME", "name", _RESULT, "The variable for the picture, besides img."),
    Flag("--save", None, "PATH", "path", _RESULT, "Write the original to this file or folder too."),
    Flag("--full", None, None, "switch", _RESULT, "Embed the original in the notebook, not a preview."),
    Flag("--quiet", None, None, "switch", _RESULT, "Show nothing; the variables are bound all the same."),
    Flag("--private", None, None, "switch", _RESULT, "Leave the prompt out of the receipt in the picture."),
)


def find_flag(spelling: str) -> Flag | None:
    """Return the flag typed like that ("--model", "-m"), or None."""
    return next((flag for flag in FLAGS if spelling in flag.spellings), None)


def parse(magic: str, line: str, cell: str | None) -> Flags:
    """Return what the user said to `magic`; raises FlagError, and nothing else.

    `cell` is the body of a cell magic, or None for a line magic.
    """
    flags = parse_flags(magic, line)
    if cell is not None:
        if flags.prompt:
            raise FlagError(
                f"The first line of %%{magic} is for flags, and {quoted(flags.prompt)} is none.",
                f"Write the prompt below that line, or use %{magic} for flags and prompt on one line.",
            )
        flags = replace(flags, prompt=cell.strip())
    if magic == "img2img" and not flags.images:
        raise FlagError(
            "There is no picture to change.",
            "Add --image with a path, a URL or a variable; `--image img` takes the last picture.",
        )
    if flags.prompts and (flags.prompt or flags.each):
        raise FlagError(
            "--prompts brings the prompts, and there are others here.", "Leave out --each and the prompt, or --prompts."
        )
    if not flags.prompt and not flags.prompts and not flags.vary:
        where = "below the first line" if cell is not None else f"after %{magic}"
        raise FlagError("There is no prompt.", f"Say {where} what the picture shall show.")
    return flags


def parse_flags(magic: str, line: str) -> Flags:
    """Return the flags on `line` with all other words as the prompt, empty or not; raises FlagError."""
    values: dict[str, Any] = {}
    pieces: list[str] = []
    start = position = 0
    while word := _WORD.search(line, position):
        position = word.end()
        if word[0] == "--":
            pieces.append(line[start : word.start()])
            start = position
            break
        if not _looks_like_flag(word[0]):
            continue
        pieces.append(line[start : word.start()])
        flag, equals = _recognize(magic, word[0])
        at = word.start() + equals if equals else position
        value, position = _read_value(flag, line, at, joined=equals > 0)
        _enter(values, flag, value)
        start = position
    pieces.append(line[start:])
    return Flags(" ".join(filter(None, map(str.strip, pieces))), **values)


def render(magic: str, flags: Flags) -> str:
    """Return the cell that says `flags`: `parse` of its parts gives them back."""
    words = [f"%%{magic}"]
    for flag in FLAGS:
        value = getattr(flags, flag.field)
        if magic not in flag.magics or value is None or value is False or value == ():
            continue
        if flag.kind == "switch":
            words.append(flag.name)
            continue
        for text in value if flag.repeats else [_as_text(flag, value)]:
            words += [flag.name, _quote(text)]
    return f"{' '.join(words)}\n{flags.prompt}"


def help_text(magic: str) -> str:
    """Return a page for people: what the magic does, examples, and its flags by group."""
    lines = [*_PAGES[magic].splitlines(), "", "Flags are written --flag value or --flag=value."]
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


def _looks_like_flag(word: str) -> bool:
    """Return whether a word is a dash or two and then a letter: "-5", "--5" and "-" are prompt."""
    return word.startswith("-") and word.removeprefix("-").removeprefix("-")[:1].isalpha()


def _recognize(magic: str, word: str) -> tuple[Flag, int]:
    """Return the flag that `word` is, and how far in its value begins; 0 when there is no "="."""
    spelling, equals, _ = word.partition("=")
    flag = find_flag(spelling)
    if flag is None:
        known = [name for other in FLAGS for name in other.spellings]
        raise FlagError(
            f"%%{magic} has no flag {quoted(spelling)}.",
            f"{did_you_mean(spelling, known)}If it belongs to a one-line prompt, write -- before the prompt.",
        )
    if magic not in flag.magics:
        home = flag.magics[0]
        raise FlagError(
            f"{flag.name} is a flag of %%{home}, not of %%{magic}.",
            f"Use %%{home} with the same prompt, or leave {flag.name} out.",
        )
    return flag, len(spelling) + 1 if equals else 0


def _read_value(flag: Flag, line: str, start: int, *, joined: bool) -> tuple[str, int]:
    """Return the value that begins at `start` (`joined`: right after "="), and where it ends."""
    if flag.metavar is None:
        if joined:
            raise FlagError(f"{flag.name} takes no value.", f"Write {flag.name} by itself.")
        return "", start
    word = _WORD.match(line, start) if joined else _WORD.search(line, start)
    if word is None or (not joined and (word[0] == "--" or _looks_like_flag(word[0]))):
        value, end = "", start
    elif word[0].startswith(('"', "'")):
        value, end = _read_quoted(flag, line, word.start())
    else:
        value, end = word[0], word.end()
    if not value.strip():
        raise FlagError(f"{flag.name} needs a value.", f"Write {flag.name} {flag.metavar}, or leave it out.")
    if _LINE_BREAK.search(value):
        raise FlagError(f"The value of {flag.name} runs over several lines.", "Write it on one line.")
    return value, end


def _read_quoted(flag: Flag, line: str, start: int) -> tuple[str, int]:
    """Return what stands in the quotes at `start`, and where they end; 'a'"b" is one value, ab."""
    match = _QUOTED.match(line, start)
    if match is None:
        raise FlagError(
            f"The quotes after {flag.name} do not pair up.",
            f'Close the quote and leave a space behind it: {flag.name} "...".',
        )
    return "".join(double or single for double, single in _SEGMENT.findall(match[0])), match.end()


def _enter(values: dict[str, Any], flag: Flag, text: str) -> None:
    """Add one flag's value to `values`, converted."""
    if flag.field in values and not flag.repeats:
        several = f"; several go with commas: {flag.name} a,b" if flag.kind in {"model", "size"} else ""
        raise FlagError(f"{flag.name} is given twice.", f"Give it once{several}.")
    value = CONVERTERS.get(flag.kind, str)(text)
    values[flag.field] = (*values.get(flag.field, ()), value) if flag.repeats else value


def _as_text(flag: Flag, value: Any) -> str:
    """Return a field's value as one would type it, unquoted."""
    if flag.kind == "usd":
        return format_usd(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _quote(value: str) -> str:
    """Return a value as it stands after its flag: in quotes only where it needs them."""
    needed = _WORD.fullmatch(value) is None or value[0] in "\"'" or value == "--" or _looks_like_flag(value)
    if not needed:
        return value
    if '"' not in value:
        return f'"{value}"'
    return "".join(f"'{part}'" if '"' in part else f'"{part}"' for part in re.findall(r'"+|[^"]+', value))


_PAGES = {
    "imagegen": """%%imagegen: make a picture from words

The body of the cell is the prompt, just as it is written; flags are on the first line.

    %%imagegen --model flux --as city
    a futuristic city at sunset, seen from the harbour

On one line, flags may stand anywhere and the rest is the prompt; after -- everything is.

    %imagegen a red fox in fresh snow --size 1216x832
    %imagegen -- a sign that says --model""",
    "img2img": """%%img2img: change a picture

The body of the cell says what to change, just as it is written; flags are on the first line.

    %%img2img --image city --mask sky
    replace the sky with an aurora

On one line, flags may stand anywhere and the rest is the prompt; after -- everything is.

    %img2img --image photo.png make it winter
    %img2img -i img a little warmer""",
}
