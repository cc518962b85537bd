"""Text from outside takes time in proportion to its length: no pattern or parser is slower on its worst input."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.catalog.remote import read_models
from blockrun_magic.gateway.gateways import gateway_named
from blockrun_magic.gateway.proxies import proxy_for
from blockrun_magic.gateway.responses import error_from_response, read_answer, stated_price
from blockrun_magic.images.formats import describe
from blockrun_magic.images.provenance import embed
from blockrun_magic.images.provenance import read as read_receipt
from blockrun_magic.notebook.cells.parser import parse
from blockrun_magic.notebook.cells.prompts import fill, prompts_from
from blockrun_magic.notebook.commands.arguments import parse_arguments, walk
from blockrun_magic.notebook.commands.registry import COMMANDS
from blockrun_magic.payments.money import parse_usd
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.keystore import read_keystore
from blockrun_magic.payments.wallets.private_key import contains_secret, read_key
from blockrun_magic.payments.x402.protocol import read_challenge, read_settlement
from blockrun_magic.practice.painter.scenes import read_scene
from blockrun_magic.practice.server.triggers import Triggers
from blockrun_magic.safejson import read_json
from blockrun_magic.text import closest, public_url, quoted, sanitize
from harness.growth import FACTOR, THOROUGH, Input, inputs, worst_growth
from harness.patterns import Found, alphabet, patterns

PATTERNS = list(patterns())
pytestmark = pytest.mark.fuzz


def caller(pattern: re.Pattern[Any], method: str) -> Callable[[str], object]:
    """Return a function that applies `pattern` to a text as the package does."""
    use = getattr(pattern, method)
    is_bytes = isinstance(pattern.pattern, bytes)

    def call(text: str) -> object:
        found = use(text.encode("latin-1", "replace") if is_bytes else text)
        return sum(1 for _ in found) if method == "finditer" else found

    return call


def candidates(pattern: re.Pattern[Any]) -> list[Input]:
    """Return the inputs to try on a pattern; `make fuzz` tries every pair of its alphabet."""
    tokens = alphabet(pattern)
    if THOROUGH:
        return list(inputs(tokens, around=tokens))
    return [*inputs(tokens, around=tokens[:3], pairs=False), *inputs(tokens[:7], around=tokens[:1])]


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<svg", "match"),
        (r"(?=[A-Za-z]*[0-9+/=_-])[A-Za-z0-9+/=_-]{100,}", "finditer"),
        (r'"[^"\\]*(?:\\.[^"\\]*)*"', "finditer"),
        (r"^(?P<indent>\s*)(?:[\w, ]+=\s*)?%(?P<magic>imagegen)", "match"),
        (r"[a-z]+(?:[\s,]+[a-z]+){11,23}", "search"),
        (r"""(?:"[^"]*"|'[^']*'|x+)*y""", "match"),
        (r"<open>.*?</close>", "finditer"),
        (r"(a+)+b", "match"),
    ],
)
def test_the_search_finds_what_is_slow(pattern: str | bytes, method: str) -> None:
    """The search finds slow patterns, including some that froze a kernel."""
    compiled: re.Pattern[Any] = re.compile(pattern, re.DOTALL)
    growth, _ = worst_growth(caller(compiled, method), candidates(compiled))

    assert FACTOR < growth


def test_the_walk_finds_the_patterns() -> None:
    """Patterns of modules, of tables and of single lines are found."""
    assert 50 < len(PATTERNS)


@pytest.mark.parametrize("found", PATTERNS, ids=[f"{found.where}-{number}" for number, found in enumerate(PATTERNS)])
def test_a_pattern_is_linear(found: Found) -> None:
    """Twice the text takes at most two and a half times as long."""
    for method in found.methods:
        growth, culprit = worst_growth(caller(found.pattern, method), candidates(found.pattern))

        assert growth <= FACTOR, (method, culprit)


# -- parsers

LINE = ["a", "'", '"', " ", "--model", "-n 2", "--", "-", "=", "$", "{", "\\", "--size 1x1", "\u2014size", "%", "\t"]
BODY = ["a", "\n", "{", "}", "{{", "{a}", "--ar 16:9", "-", " ", '"', "'", "--size 1x1", "="]
JSON = [
    '"',
    "\\",
    '\\"',
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    '"b64_json":"',
    '"data":[',
    "0",
    "a",
    '{"url":"data:;base64,',
    "\\u0041",
]
URLS = ["a", "/", "//", "@", ":", "?", "#", "http://", "[", "]", ".", "%", "\\"]
MARKUP = [
    "<!--",
    "-->",
    "<?xml",
    ">",
    "<",
    " ",
    "<svg",
    "<!DOCTYPE svg",
    "x",
    "{",
    "<blockrun:receipt>",
    "</blockrun:receipt>",
]
WORDS = ["a", "A", "0", "f", " ", ",", "-", "_", "$", ".", "practice:", "practice:slow=1", "brk_", "0x", "="]


def quietly(call: Callable[[str], object]) -> Callable[[str], object]:
    """Return `call`, but ignore its refusals."""

    def use(text: str) -> None:
        with suppress(BlockrunError, ValueError):
            call(text)

    return use


def as_webp(xmp: bytes) -> bytes:
    """Return an unchecked WebP of one pixel with this XMP."""
    pixel = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
    chunk = b"XMP " + len(xmp).to_bytes(4, "little") + xmp + b"\0" * (len(xmp) % 2)
    body = b"WEBP" + pixel[12:] + chunk
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def answer_of(text: str, status: int = 200) -> Response:
    """Return a response with this body."""
    return Response(status, {"retry-after": text, "payment-required": text, "payment-response": text}, text.encode())


RECORD = {"prompt": "a cat", "model": "m", "size": "1x1"}
PARSERS: dict[str, tuple[Callable[[str], object], Sequence[str]]] = {
    "a line": (lambda text: parse("imagegen", text, None), LINE),
    "a first line": (lambda text: parse("img2img", text, "a cat"), LINE),
    "a body": (lambda text: parse("imagegen", "", text), BODY),
    "a body of prompts": (lambda text: parse("imagegen", "--each", text), BODY),
    "fields": (lambda text: fill(text, {"a": ["b", "c"]}), BODY),
    "prompts": (lambda text: prompts_from(text, {}), [*WORDS, "[", "]", "'"]),
    "sanitize": (lambda text: sanitize(text, len(text)), [*WORDS, "\0", "\n"]),
    "sanitize short": (lambda text: sanitize(text, 300), [*WORDS, "\0", "\n"]),
    "a URL": (public_url, URLS),
    "quoted": (quoted, LINE),
    "closest": (lambda text: closest(text, ["flux", "nano-banana"]), WORDS),
    "JSON": (lambda text: read_json(text.encode()), JSON),
    "a response": (lambda text: read_answer(answer_of(text)), JSON),
    "a price": (lambda text: stated_price(answer_of(text).json()), JSON),
    "an error": (lambda text: error_from_response(answer_of(text, 500), gateway_named("base")), JSON),
    "a wait": (lambda text: answer_of(text).retry_after, WORDS),
    "models": (lambda text: read_models(answer_of(text).json()), JSON),
    "a challenge": (lambda text: read_challenge({}, text.encode()), JSON),
    "a challenge's header": (lambda text: read_challenge({"payment-required": text}, b""), WORDS),
    "a settlement": (lambda text: read_settlement({"payment-response": text, "x-payment-receipt": text}, {}), WORDS),
    "no image": (lambda text: describe(text.encode()), MARKUP),
    "a receipt": (lambda text: read_receipt(as_webp(text.encode())), [*MARKUP, *JSON]),
    "a receipt in PNG": (lambda text: read_receipt(SimpleNamespace(info={"blockrun:receipt": text})), JSON),  # type: ignore[arg-type]
    "an older receipt": (lambda text: embed(as_webp(text.encode()), "image/webp", RECORD), MARKUP),
    "chunks": (lambda text: embed(as_webp(b"")[:-8] + text.encode("latin-1"), "image/webp", RECORD), ["ABCD\0\0\0\0"]),
    "money": (parse_usd, WORDS),
    "a secret": (contains_secret, WORDS),
    "a key": (lambda text: read_key(Secret(text), "here"), WORDS),
    "a keystore": (lambda text: read_keystore(Secret(text), "here"), JSON),
    "a scene": (lambda text: read_scene(text, 1), WORDS),
    "triggers": (Triggers.read, WORDS),
    **{
        f"%blockrun {path}": (lambda text, path=path, command=command: parse_arguments(path, command, text), LINE)
        for path, command in walk(list(COMMANDS.values()))
        if command.arguments
    },
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_is_linear(name: str) -> None:
    """Twice the text takes at most two and a half times as long."""
    call, tokens = PARSERS[name]
    tried = inputs(tokens, around=tokens if THOROUGH else tokens[:2], pairs=THOROUGH)
    growth, culprit = worst_growth(quietly(call), tried)

    assert growth <= FACTOR, culprit


def test_a_list_of_hosts_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NO_PROXY of any length is read in linear time."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")

    def ask(text: str) -> object:
        monkeypatch.setenv("NO_PROXY", text.replace("\0", ","))
        return proxy_for("https://blockrun.ai/x")

    growth, culprit = worst_growth(ask, inputs([*URLS, ",", "10.0.0.0/8,", "[::1],"], pairs=THOROUGH))

    assert growth <= FACTOR, culprit
