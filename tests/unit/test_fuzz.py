"""Random and damaged input causes no traceback: cells, responses and images give results or errors of ours."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.gateways import gateway_named
from blockrun_magic.gateway.responses import (
    CompletedJob,
    PendingJob,
    Response,
    error_from_response,
    is_replay,
    job_failed,
    poll_address,
    read_answer,
    stated_price,
)
from blockrun_magic.images.formats import load, verify
from blockrun_magic.images.media_types import media_type_of
from blockrun_magic.images.provenance import embed
from blockrun_magic.images.provenance import read as read_receipt
from blockrun_magic.notebook.cells.parser import parse, render
from blockrun_magic.notebook.cells.prompts import fill
from blockrun_magic.notebook.commands.arguments import parse_arguments, walk
from blockrun_magic.notebook.commands.registry import COMMANDS
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.payments.x402.protocol import read_challenge, read_settlement, select_requirements
from harness.mutation import EXAMPLES, IMAGES, MUTATIONS, chance, mutated

pytestmark = pytest.mark.fuzz

LINES = 100_000 if EXAMPLES else 3000
GATEWAY = gateway_named("base")
PAYER = "0x" + "12" * 20


# -- lines

WORDS = (
    *[
        "--model",
        "-m",
        "--size",
        "--each",
        "--fill",
        "--as",
        "--save",
        "--image",
        "--mask",
        "-n",
        "--take",
        "--jobs",
        "--fresh",
        "--max-price",
        "--style",
    ],
    *[
        "--quality",
        "--prompts",
        "--vary",
        "--dry-run",
        "--background",
        "--help",
        "-h",
        "--seed",
        "--ar",
        "--page",
        "--since",
        "--day",
        "--csv",
    ],
    *[
        "flux",
        "nano-banana",
        "gpt",
        "a,b",
        "16:9",
        "1024x1024",
        "0x0",
        "99999999999999999999",
        "-1",
        "1e400",
        "$5",
        "0.10",
        "today",
        "2026-13-99",
    ],
    *[
        "use",
        "practice",
        "base",
        "http://127.0.0.1:99999/x",
        "https://[::1",
        "spend",
        "all",
        "wallet",
        "create",
        "lesson",
        "export",
    ],
    *(
        "a cat",
        "{a}",
        "{{",
        "}",
        "'",
        '"',
        '"a b"',
        "=",
        "--",
        "—size",
        "“x”",
        "\u2028",
        "\x00",
        "\x1b[31m",
        "\ud800",
        "море",
        "🌊",
    ),
    *("~nobody/x", "../../etc/passwd", "a" * 300, "%", "!", "#", "\\", "$HOME", "?", "\t", "\n", "", "x.png"),
)


def line(numbers: random.Random) -> str:
    """Return a line of a few words, sometimes without spaces."""
    words = numbers.choices(WORDS, k=numbers.randrange(9))
    return numbers.choice((" ", " ", " ", "", "="))[:1].join(words)


def test_no_line_of_a_cell_leaves_a_traceback() -> None:
    """Any text of a cell gives flags and a prompt, or an error of ours; valid flags can be rendered again."""
    numbers = chance("cells")
    for _ in range(LINES):
        magic, text = numbers.choice(("imagegen", "img2img")), line(numbers)
        body = None if numbers.random() < 0.5 else line(numbers)
        with suppress(BlockrunError):
            flags = parse(magic, text, body)
            render(magic, flags)
            fill(flags.prompt or "", {"a": ["b"]})


def test_no_line_of_a_command_leaves_a_traceback() -> None:
    """Any text after a command gives its arguments or an error of ours."""
    numbers, commands = chance("commands"), list(walk(list(COMMANDS.values())))
    for _ in range(LINES):
        path, command = numbers.choice(commands)
        with suppress(BlockrunError):
            parse_arguments(path, command, line(numbers))


# -- bytes

RECORD = {"prompt": "a cat", "model": "m", "size": "40x30"}
REQUIREMENTS = {
    "x402Version": 2,
    "accepts": [
        {
            "scheme": "exact",
            "network": BASE.id,
            "amount": "42000",
            "asset": BASE.asset,
            "payTo": PAYER,
            "maxTimeoutSeconds": 300,
            "extra": {"name": "USD Coin", "version": "2"},
        }
    ],
    "resource": {"url": "https://blockrun.ai/api/v1/images/generations"},
}
IMAGE = base64.b64encode(IMAGES["PNG"]).decode()
BODIES: list[Any] = [
    {
        "created": 1,
        "data": [{"url": f"data:image/png;base64,{IMAGE}", "revised_prompt": "a cat"}],
        "price": {"amount": 0.04},
    },
    {"data": [{"b64_json": IMAGE}, {"url": "https://cdn.example/x.png"}], "tx_hash": "0x" + "ab" * 32},
    {"id": "j", "status": "queued", "poll_url": "/api/v1/images/jobs/j", "retry_after_seconds": 2},
    {"status": "failed", "error": {"message": "no", "code": "PAYMENT_REPLAY"}, "payment_status": "not_charged"},
    {"error": "Bad", "details": "x", "message": "y"},
    REQUIREMENTS,
]


def exercise(response: Response) -> None:
    """Read a response in each way that the package does."""
    for read in (stated_price, lambda body: read_settlement(response.headers, body, BASE.id)):
        read(response.json())
    assert response.retry_after is None or 0 <= response.retry_after <= 120
    assert response.date is None or isinstance(response.date, float)
    is_replay(response), job_failed(response)
    assert 2 == len(str(error_from_response(response, GATEWAY)).splitlines())
    with suppress(BlockrunError):
        challenge = read_challenge(response.headers, response.body)
        select_requirements(challenge, (BASE,), GATEWAY.base_url, PAYER)
    with suppress(BlockrunError):
        found = read_answer(response)
        if isinstance(found, PendingJob):
            poll_address(GATEWAY, found.poll_url)
        for item in found.items if isinstance(found, CompletedJob) else ():
            with suppress(BlockrunError):
                assert item.data is None or isinstance(item.data, bytes)


def test_no_response_leaves_a_traceback() -> None:
    """A response with a few wrong bytes is read, or causes an error of ours."""
    numbers = chance("responses")
    names = ("retry-after", "date", "payment-required", "payment-response", "x-payment-receipt", "content-type")
    header = base64.b64encode(json.dumps(REQUIREMENTS).encode())
    for _ in range(MUTATIONS * 4):
        body = mutated(json.dumps(numbers.choice(BODIES)).encode(), numbers)
        status = numbers.choice((200, 202, 301, 400, 402, 403, 404, 408, 429, 500, 502, 599))
        values = (b"7", b"Wed, 21 Oct 2015 07:28:00 GMT", header)
        headers = {
            name: mutated(numbers.choice(values), numbers).decode("latin-1") for name in names if numbers.random() < 0.5
        }
        exercise(Response(status, headers, body))


@pytest.mark.parametrize("form", IMAGES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_no_image_leaves_a_traceback(form: str) -> None:
    """An image with a few wrong bytes can be loaded, verified and given a receipt, or causes an error of ours."""
    numbers = chance(form)
    for _ in range(MUTATIONS // 3):
        data = mutated(IMAGES[form], numbers)
        for use in (load, verify, read_receipt, lambda raw: embed(raw, media_type_of(raw) or "image/png", RECORD)):
            _quietly(use, data)


def _quietly(use: Callable[..., object], data: bytes) -> None:
    with suppress(BlockrunError):
        use(data, "The image") if use in (load, verify) else use(data)
