"""A student's kernel in a classroom: join, buy, reach the limit, stop, recover, and collect."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockrun_magic.gateway.classroom.protocol import NOTICE
from blockrun_magic.practice.server.server import PracticeServer
from fakes.classroom import CODE, PRICE, TOKEN, FakeClassroom
from harness.classroom import running_class
from harness.kernel import Kernel, made, running_kernel

_LIMIT = {"subject": "you", "period": "day", "limit": 500_000, "spent": 52_500, "at_risk": 0, "left": 447_500}


@pytest.fixture
def room() -> Iterator[FakeClassroom]:
    """Return a classroom that responds immediately."""
    with FakeClassroom() as room:
        room.limits = [_LIMIT | {"resets_at": time.time() + 3600}]
        yield room


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """Return a kernel without a wallet and with the extension loaded."""
    with running_kernel(tmp_path) as running:
        made(running, "%load_ext blockrun_magic\nimport blockrun_magic")
        yield running


def joined(kernel: Kernel, url: str, code: str = CODE) -> None:
    """Join with a hidden code, and use the classroom."""
    cell = kernel.start(f"%blockrun join {url}")
    question = kernel.type(code)

    assert question["password"]
    assert "ok" == kernel.finish(cell).status
    made(kernel, "%blockrun use classroom")


def test_a_lesson_without_a_wallet(kernel: Kernel, gateway: PracticeServer, tmp_path: Path) -> None:
    """The class pays for all kinds of cells until its limit; a raised limit allows more; both ledgers agree."""
    with running_class(tmp_path / "class", gateway) as room:
        later = room.records.database.now() + 3600
        code = room.owner.invite("ada", groups=[], expires_at=later)
        subject = room.member("ada").subject
        room.owner.set_limit(subject, "day", 300_000)
        joined(kernel, room.url, code)
        fox = made(kernel, "%%imagegen --as fox\na fox in snow")
        made(kernel, "%%imagegen\na fox in snow")
        made(kernel, "from PIL import Image\nmask = Image.new('L', fox.size, 255)")
        made(kernel, "%%img2img --image fox --mask mask --model gpt-image\nat night")
        grid = made(kernel, "%%imagegen --model cogview,flux --size 1024x1024\na fox in spring")
        refused = kernel.run("%%imagegen --size 1216x832 -n 4\na fox in summer")
        card = made(kernel, "%blockrun")
        room.owner.set_limit(subject, "day", 1_000_000)
        raised = made(kernel, "%%imagegen --size 1216x832 -n 4\na fox in summer")
        spent = kernel.value("sum(float(row['usd']) for row in blockrun_magic.list_payments().to_records())")
        standing = room.records.ledger.standing("practice", (subject,))
        secrets = [code.encode(), b"brc_"]

    assert (1, 1, 1) == tuple(len(cell.pictures) for cell in (fox, grid, raised))
    assert ("ClassLimitReached", 2) == (refused.error_name, len(refused.error))
    assert "width:" in card.html
    assert [round(float(spent) * 1e6)] == [each.used for each in standing if each.period == "day"]
    assert "[]" == kernel.value("[name for name in __import__('sys').modules if name.startswith('eth_account')]")
    made(kernel, "%history -g -f all.py")
    file = tmp_path / ".blockrun" / "magic" / "classroom.json"
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    mine = [path for path in tmp_path.rglob("*") if path.is_file() and "class" not in path.relative_to(tmp_path).parts]
    assert [(file, b"brc_")] == [(path, secret) for path in mine for secret in secrets if secret in path.read_bytes()]


def test_a_code_on_the_line_is_forgotten(kernel: Kernel, room: FakeClassroom, tmp_path: Path) -> None:
    """A code on the line does not remain in the history, the variables, the output or any file."""
    cell = made(kernel, f"%blockrun join {room.url} {CODE}")
    made(kernel, "%history -g -f all.py")

    assert CODE not in kernel.value("[In, globals().get('_i'), globals().get('_ii'), _ih]")
    assert CODE not in cell.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CODE.encode() in path.read_bytes()]


def test_stored_images_outlive_the_class(kernel: Kernel, room: FakeClassroom) -> None:
    """Stored images are shown without a connection to the classroom."""
    joined(kernel, room.url)
    made(kernel, "%%imagegen\na fox in snow")
    room.network.faults.extend(["lose the request"] * 1000)
    made(kernel, "%blockrun use classroom")

    assert 1 == len(made(kernel, "%%imagegen\na fox in snow").pictures)


def test_the_panel(kernel: Kernel, room: FakeClassroom) -> None:
    """The panel shows the limits of the class as meters with text, and no switch between gateways."""
    joined(kernel, room.url)
    made(kernel, "panel = blockrun_magic.panel()\npanel")
    kernel.wait_until('\'aria-valuemax="500000" aria-valuenow="52500"\' in panel.header._bars.value')

    assert "$0.4475 left" in kernel.value("panel.header._bars.value")
    assert "ada" in kernel.value("panel.header._wallet.value")
    assert "True" == kernel.value("'brm-hidden' in panel.header._switch._dom_classes")


def test_stop(kernel: Kernel, room: FakeClassroom) -> None:
    """Stop cancels an unsigned order, and no money remains at risk."""
    joined(kernel, room.url)
    room.hold = 60.0
    cell = kernel.start("%%imagegen\na fox in snow")
    kernel.wait_for(cell, lambda _: bool(room.orders))
    kernel.interrupt()
    stopped = kernel.finish(cell)

    assert "KeyboardInterrupt" == stopped.error_name
    assert ["cancelled"] == [order.state for order in room.orders.values()]
    at_risk = kernel.value(
        "get_ipython().magics_manager.registry['BlockrunMagics'].session.studio.ledger.open_payments()"
    )
    assert "[]" == at_risk


def test_a_killed_kernel(room: FakeClassroom, tmp_path: Path) -> None:
    """A new kernel collects the image of a killed one at no cost, also in another home folder."""
    room.hold, room.signed = 3.0, True
    with running_kernel(tmp_path) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        joined(kernel, room.url)
        cell = kernel.start("%%imagegen\na fox in snow")
        kernel.wait_for(cell, lambda _: bool(room.orders))
        kernel.kill()
    with running_kernel(tmp_path) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        made(kernel, "%blockrun use classroom")
        assert 1 == len(made(kernel, "%%imagegen\na fox in snow").pictures)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running_kernel(elsewhere) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        joined(kernel, room.url)
        assert 1 == len(made(kernel, "%blockrun resume").pictures)
        assert "ok" == kernel.run("%%imagegen --max-price 0\na fox in snow").status

    assert [PRICE] == [order.charged for order in room.orders.values()]


def test_on_a_hub(room: FakeClassroom, tmp_path: Path) -> None:
    """On JupyterHub, `use classroom` joins with the server's token, which is neither stored nor sent elsewhere."""
    environ = {"BLOCKRUN_CLASSROOM_URL": room.url, "JUPYTERHUB_API_TOKEN": TOKEN}
    with running_kernel(tmp_path, environ) as kernel, FakeClassroom() as other:
        made(kernel, "%load_ext blockrun_magic")
        welcome = made(kernel, "%blockrun use classroom")
        made(kernel, "%%imagegen\na fox in snow")
        result = made(kernel, "import blockrun_magic\nblockrun_magic.generate('a dog', gateway='classroom')")
        typed = kernel.run(f"%blockrun join {other.url}")

        assert NOTICE in welcome.text
        assert 1 == len(result.pictures)
        assert ("UsageError", []) == (typed.error_name, other.joined)
    assert [{"hub_token": TOKEN}] == room.joined
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert not re.search(rb"brc_|" + TOKEN.encode(), path.read_bytes()), path


def test_what_went_wrong_holds_no_secret(room: FakeClassroom, tmp_path: Path) -> None:
    """Errors, verbose tracebacks and the HTTP client's log contain no token or pass."""
    environ = {"BLOCKRUN_CLASSROOM_URL": room.url, "JUPYTERHUB_API_TOKEN": TOKEN, "BLOCKRUN_TRACEBACKS": "1"}
    with running_kernel(tmp_path, environ) as kernel:
        made(
            kernel, "%load_ext blockrun_magic\nimport logging\nlogging.basicConfig(level=logging.DEBUG)\n%xmode Verbose"
        )
        made(kernel, "%blockrun use classroom")
        room.passes = dict.fromkeys(room.passes, "revoked")
        cells = [kernel.run("%blockrun use classroom"), kernel.run("%%imagegen\na fox")]
        session = "get_ipython().magics_manager.registry['BlockrunMagics'].session"
        made(kernel, f"studio = {session}.studio\nstudio.wallets.account()._client = object()")
        cells += [kernel.run("%blockrun"), kernel.run("%%imagegen\na goat"), kernel.run("%blockrun join")]

        for cell in cells:
            shown = json.dumps([message["content"] for message in cell.messages])
            assert TOKEN not in shown
            assert "brc_" not in shown
    assert TOKEN not in os.environ.values()
