"""Misplaced flags: ours in the body of a cell, and those of other image tools.

Flags of Midjourney, AUTOMATIC1111 and OpenAI's API get an answer before anything is bought.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from blockrun_magic.errors import FlagError
from blockrun_magic.notebook.cells.flags import FLAGS, Flag, find_flag
from blockrun_magic.notebook.cells.grammar import INVISIBLE, long_dash
from blockrun_magic.text import did_you_mean, quoted

__all__ = ["check_body", "check_prompts", "is_flag_elsewhere", "unknown_flag"]

_SEED = "No model here takes a seed. Run the cell again to show the same image, or use --fresh for another one."
_STEPS = "Models here choose this themselves. Leave it out."
_NEGATIVE = "No model here takes a negative prompt. Say in the prompt what you want instead."
_SHAPE = "Use --size, as in --size 16:9, --size portrait or --size 1216x832."
_STYLIZE = "Describe the look in the prompt, or use --style; `%blockrun styles` lists the styles."
_REFERENCE = "Use %%img2img with --image: a path, a URL or a variable."
_COUNT = "Use -n: -n 4 makes four images."
_FORMAT = "The original is stored as the model delivers it; --save photo.jpg writes a JPEG."
_VERSION = "Choose a model with --model; `%blockrun models` lists them."
_ADAPTER = "Models here take no adapters. Describe the look in the prompt, or use --style or %%img2img."
_OPENAI = "This is a parameter of OpenAI's API. Leave it out."
_HELP = "Write it on the first line."
_LITERAL = "To send it as words, end the first line with --."
_MIDJOURNEY = "This is a flag of Midjourney. Leave it out."

_ELSEWHERE: dict[str, tuple[str, str]] = {
    name: (hint, kind)
    for names, hint, kind in (
        ("seed subseed", _SEED, "value"),
        ("sameseed", _SEED, "value"),
        ("steps step num-inference-steps cfg cfg-scale guidance guidance-scale sampler scheduler", _STEPS, "value"),
        ("denoising-strength strength clip-skip iw cw sw", _STEPS, "value"),
        ("negative negative-prompt neg no", _NEGATIVE, "words"),
        ("ar aspect aspect-ratio ratio width height w h resolution res dimensions", _SHAPE, "value"),
        ("batch batch-size batch-count num num-images count number samples repeat r", _COUNT, "value"),
        ("stylize s chaos c weird sref exp", _STYLIZE, "value"),
        ("cref oref init-image init source input", _REFERENCE, "value"),
        ("format output-format extension", _FORMAT, "value"),
        ("output out o output-file filename", "Use --save PATH.", "value"),
        ("v version niji engine checkpoint", _VERSION, "value"),
        ("q", "Use --quality standard or --quality hd.", "value"),
        ("prompt p", "Write the prompt without a flag.", "value"),
        ("stop profile personalize quality-level", _MIDJOURNEY, "value"),
        ("lora loras embedding controlnet ip-adapter adapter vae", _ADAPTER, "value"),
        ("upscale upscaler hires hr-scale scale", "Ask for a larger --size; there is no separate upscaler.", "value"),
        ("provider", _VERSION, "value"),
        ("moderation response-format input-fidelity output-compression partial-images", _OPENAI, "value"),
        ("transparent transparency", "Say it in the prompt; no model here takes it as a flag.", ""),
        ("tile raw fast relax turbo draft video test testp hd uplight upbeta upanime public stealth", _MIDJOURNEY, ""),
        ("var variable name", "Use --as NAME.", "value"),
        ("budget max-cost price cost", "Use --max-price, as in --max-price 0.05.", "value"),
        ("preview price-only estimate", "Use --dry-run.", ""),
        ("force refresh new no-cache", "Use --fresh.", ""),
        ("parallel workers threads", "Use --jobs K.", "value"),
    )
    for name in names.split()
}
"""Flags of other tools by name: our advice, and whether a value, several words or nothing follows."""

_JARGON = frozenset(
    {"seed", "steps", "ar", "aspect", "cfg", "cfg-scale", "niji", "v", "stylize", "chaos", "iw", "sref", "help"}
)
_TAIL = re.compile(rf"""(?<!\S)(?P<name>[{INVISIBLE}]*(?:-|[\u2010-\u2015\u2212]){{1,2}}[^\W\d_][\w-]*)""")
_REST = re.compile(r"""[ \t]*=?[ \t]*(?:"[^"]*"|'[^']*'|(?!-)\S+)?""")
_JOINED_COUNT = re.compile(r"--?n(\d{1,3})", re.ASCII)
_SETTINGS = re.compile(r"\s*(?:Negative prompt:|Steps: \d+, )", re.ASCII)
"""The beginnings of the lines in which AUTOMATIC1111 stores the settings of an image."""
_MAX_TAIL = 400
_SHORTEST_GUESS = 3


def unknown_flag(magic: str, spelling: str) -> FlagError:
    """Return the error for a flag that `magic` does not have, with what to write instead."""
    name = spelling.lstrip("-")
    entry = _ELSEWHERE.get(_plain(spelling))
    if entry is not None:
        return FlagError(f"%%{magic} has no flag {quoted(spelling)}.", entry[0])
    count = _JOINED_COUNT.fullmatch(spelling)
    if count is not None:
        return FlagError(f"%%{magic} has no flag {quoted(spelling)}.", f"Leave a space: -n {count[1]}.")
    spellings = [other for flag in FLAGS for other in flag.spellings]
    guess = did_you_mean(spelling, spellings) if len(name) >= _SHORTEST_GUESS or name in "nmsi" else ""
    return FlagError(
        f"%%{magic} has no flag {quoted(spelling)}.",
        f"{guess}If it belongs to a one-line prompt, write -- before the prompt.",
    )


def is_flag_elsewhere(spelling: str) -> bool:
    """Return whether other image tools have a flag of this spelling that is not a plain word, as "--ar"."""
    return _plain(spelling) in _JARGON


def check_body(magic: str, body: str) -> None:
    """Raise FlagError for a body with a line that begins with one of our flags, or ends in a flag of any tool."""
    _check_settings(body)
    for line in body.splitlines():
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        flag = _our_flag(first.partition("=")[0])
        if flag is not None:
            raise FlagError(
                f"A line of the prompt begins with the flag {quoted(first)}.",
                f"Move it to the first line: %%{magic} {flag.name}{f' {flag.metavar}' if flag.metavar else ''}.",
            )
        _check_end(magic, line)


def check_prompts(magic: str, prompts: Sequence[str]) -> None:
    """Raise FlagError for a prompt that ends in a flag."""
    for prompt in prompts:
        _check_settings(prompt)
        for line in prompt.splitlines():
            _check_end(magic, line)


def _check_settings(prompt: str) -> None:
    for line in prompt.splitlines():
        match = _SETTINGS.match(line)
        if match is not None:
            raise FlagError(
                f"A line of the prompt begins with {quoted(match[0].strip())}, a setting of AUTOMATIC1111.",
                f"{_NEGATIVE if 'Negative' in match[0] else _STEPS} {_LITERAL}",
            )


def _check_end(magic: str, line: str) -> None:
    names = _flags_at_end(line)
    if not names:
        return
    own_flag = next((flag for name in names if (flag := _our_flag(name)) is not None), None)
    if own_flag is not None:
        advice = (
            f"Move it to the first line: %%{magic} {own_flag.name}{f' {own_flag.metavar}' if own_flag.metavar else ''}."
        )
    else:
        advice = _HELP if _plain(names[0]) == "help" else _ELSEWHERE[_plain(names[0])][0]
    raise FlagError(
        f"The prompt ends in the flag {quoted(names[0])}, which would be sent as words.", f"{advice} {_LITERAL}"
    )


def _flags_at_end(line: str) -> list[str]:
    """Return the names of the flags at the end of a line: only flags and their values follow them."""
    tail = line.rstrip()[-_MAX_TAIL:]
    for match in _TAIL.finditer(tail):
        names = list(_only_flags(tail, match.start()))
        if names:
            return names
    return []


def _only_flags(text: str, start: int) -> Iterator[str]:
    """Yield the flags in `text` from `start` on, if it holds nothing but known flags and their values."""
    names: list[str] = []
    while start < len(text):
        match = _TAIL.match(text, start)
        shape = None if match is None else _shape(match["name"])
        if match is None or shape is None:
            return
        names.append(match["name"])
        start = match.end()
        if shape == "words":
            following = _TAIL.search(text, start)
            value_end = following.start() if following else len(text)
            if not text[start:value_end].strip():
                return
            start = value_end
        elif shape == "value":
            rest = _REST.match(text, start)
            if rest is None or not rest[0].strip(" \t="):
                return
            start = rest.end()
        while start < len(text) and text[start].isspace():
            start += 1
    yield from names


def _shape(name: str) -> str | None:
    """Return what follows a flag ("value", "words" or ""), or None if no tool has the flag."""
    flag = _our_flag(name)
    if flag is not None:
        return "value" if flag.metavar else ""
    short = name.startswith("-") and not name.startswith("--")
    if _plain(name) == "help":
        return ""
    entry = None if short else _ELSEWHERE.get(_plain(name))
    return entry[1] if entry else None


def _our_flag(name: str) -> Flag | None:
    return find_flag(long_dash(name) or name)


def _plain(name: str) -> str:
    return (long_dash(name) or name).lstrip("-").lower().replace("_", "-")
