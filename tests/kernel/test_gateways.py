"""Gateways: one notebook runs on three servers, and the records of each server match the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.gateway.catalog.catalog import SNAPSHOT
from blockrun_magic.gateway.gateways import Gateway, gateway_at, preset
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.ledger.reports import spending_by_model, spending_summary
from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA
from blockrun_magic.practice.server.server import PracticeServer
from fakes.account_api import KEY, Account
from fakes.clawrouter import WALLET, ClawRouter
from fakes.gateway import payer, studio_over
from harness.kernel import Kernel, made, paid_to, running_kernel

LOGS = Path(".openclaw/blockrun/logs")
NOTEBOOK = (
    "%load_ext blockrun_magic",
    "%%imagegen --model nano-banana --as city\na city at sunset",
    "%%imagegen --model nano-banana --as city\na city at sunset",
    "%%img2img --image city --model gpt-image\nadd a moon",
    "%%imagegen --model cogview --size 512x512 -n 2 --as boats\ntwo boats",
    "%%imagegen --model nano-banana,cogview --quiet\na quiet lake",
    "%blockrun spend",
    "%blockrun jobs",
)
"""No cell names a gateway; the configuration file selects it."""


def remember(home: Path, name: str) -> None:
    """Write a configuration file with this gateway."""
    folder = home / ".blockrun" / "magic"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'gateway = "{name}"\n')


def told(home: Path, realm: str) -> tuple[int, int, list[tuple[str, int]]]:
    """Return the number of payments in the ledger, their total, and the total of each model."""
    with closing(Ledger(home / ".blockrun" / "magic" / "ledger.sqlite", "reader")) as ledger:
        total = spending_summary(ledger, realm, "all")
        models = [(model, settled) for model, _, settled, _ in spending_by_model(ledger, realm, "all")]

        assert (0, 0) == (total.at_risk, total.estimated)
        return total.payments, total.settled, sorted(models)


def run_notebook(home: Path, **environ: str) -> list[str]:
    """Run the notebook in a kernel and return the text of every cell."""
    with running_kernel(home, environ) as kernel:
        return [made(kernel, cell).text for cell in NOTEBOOK]


def books(server: ClawRouter | Account) -> tuple[int, int, list[tuple[str, int]]]:
    """Return the same data from the server's charges."""
    models: dict[str, int] = {}
    for charge in server.charges:
        models[charge.model] = models.get(charge.model, 0) + charge.micros
    return len(server.charges), server.total, sorted(models.items())


def test_the_notebook_on_practice(tmp_path: Path) -> None:
    """On practice, the notebook makes five payments, and the totals agree."""
    remember(tmp_path, "practice")
    with PracticeServer() as server:
        cells = run_notebook(tmp_path, BLOCKRUN_PRACTICE_URL=server.url)

        spending_summary, total, _ = told(tmp_path, "practice")
        assert (5, paid_to(server.url)) == (spending_summary, total)
    assert "$0.00" in cells[2]


def test_the_notebook_on_clawrouter(tmp_path: Path) -> None:
    """On ClawRouter, the notebook makes five payments, and the records agree to the micro-dollar."""
    remember(tmp_path, "clawrouter")
    with ClawRouter(tmp_path / LOGS, names_price=True) as server:
        cells = run_notebook(tmp_path, BLOCKRUN_PROXY_PORT=str(server.port))

    assert books(server) == told(tmp_path, "real")
    assert "$0.00" in cells[2]
    assert 5 == len(server.charges)


@pytest.mark.parametrize("slow", [0, 2], ids=["at once", "jobs"])
def test_the_notebook_on_an_account(tmp_path: Path, slow: int) -> None:
    """On an account, with or without jobs, the notebook makes five payments, and the records agree."""
    remember(tmp_path, "account")
    with Account(slow=slow) as server:
        cells = run_notebook(tmp_path, BLOCKRUN_API_KEY=KEY, BLOCKRUN_API_KEY_URL=server.url)

    assert books(server) == told(tmp_path, "real")
    assert "$0.00" in cells[2]
    assert 5 == server.posts
    assert KEY not in "".join(cells)


# -- gateways that take our signature: versions and networks


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("where", ["a custom URL", "testnet"])
@pytest.mark.parametrize("words", ["a heron", "a heron practice:slow"], ids=["at once", "a job"])
def test_a_signed_gateway_of_either_version(tmp_path: Path, where: str, version: int, words: str) -> None:
    """Custom and test-network gateways, x402 v1 and v2, are paid once, and the receipt has the hash."""
    network = BASE_SEPOLIA if where == "testnet" else BASE
    with PracticeServer(x402_version=version, slow_seconds=0.05, network=network) as server:
        testnet = Gateway("testnet", server.url, (network,))
        gateway = testnet if where == "testnet" else gateway_at(server.url, {})

        async def make() -> Any:
            async with studio_over(tmp_path) as studio:
                return await studio.make(ImageRequest("generate", words, "zai/cogview-4", "512x512"), gateway)

        receipt = asyncio.run(make()).receipt

        assert 15_750 == receipt.amount  # no chain confirms it here
        assert paid_to(server.url) == receipt.amount
    assert receipt.transaction is not None
    assert payer().address == receipt.payer
    assert network.realm == receipt.realm


# -- selection


def chosen(kernel: Kernel) -> str:
    """Return the name of the kernel's gateway."""
    return kernel.value("get_ipython().magics_manager.registry['BlockrunMagics'].session.selection.name").strip("'")


@pytest.fixture(scope="module")
def proxy(kernel_home: Path) -> Iterator[ClawRouter]:
    """Return a ClawRouter without prices and with a short time limit."""
    with ClawRouter(kernel_home / LOGS, drop_after=0.05) as server:
        yield server


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """Return an account."""
    with Account() as server:
        yield server


@pytest.fixture(scope="module")
def kernel(gateway: PracticeServer, proxy: ClawRouter, account: Account, kernel_home: Path) -> Iterator[Kernel]:
    """Return a kernel that can use three other gateways and starts on Base."""
    environ = {
        "BLOCKRUN_PRACTICE_URL": gateway.url,
        "BLOCKRUN_PROXY_PORT": str(proxy.port),
        "BLOCKRUN_API_KEY": KEY,
        "BLOCKRUN_API_KEY_URL": account.url,
    }
    with ExitStack() as stack:
        running = stack.enter_context(running_kernel(kernel_home, environ))
        made(running, "%load_ext blockrun_magic")
        yield running


def test_the_card_says_which_gateway_and_why(kernel: Kernel, proxy: ClawRouter) -> None:
    """The card shows the gateway's address, its payer, its limitations, and the setting that selected it."""
    assert "https://blockrun.ai/api" in made(kernel, "%blockrun").text
    assert "base" == chosen(kernel)

    used = made(kernel, "%blockrun use clawrouter").text
    card = made(kernel, "%blockrun").text

    assert "clawrouter" == chosen(kernel)
    assert all(limitation[:16] in used + card for limitation in preset("clawrouter", {}).limitations)
    assert f"http://127.0.0.1:{proxy.port}" in card
    assert WALLET in card
    assert "$5.00" in card

    made(kernel, "%config BlockrunMagics.gateway = 'account'")
    card = made(kernel, "%blockrun").text

    assert "account" == chosen(kernel)
    assert "BlockrunMagics.gateway" in card
    assert "BLOCKRUN_API_KEY" in card
    assert KEY not in card
    assert "$5.00" in made(kernel, "%blockrun wallet balance").text
    made(kernel, "%config BlockrunMagics.gateway = ''")


def test_one_cell_may_go_elsewhere(kernel: Kernel, proxy: ClawRouter, account: Account) -> None:
    """--gateway applies to its own cell only; an unknown name is refused."""
    made(kernel, "%blockrun use practice")
    before = len(proxy.charges), len(account.charges)
    cell = made(kernel, "%%imagegen --gateway clawrouter --model cogview --size 512x512\na boat elsewhere")

    assert "estimated" in cell.text
    assert "play money" not in cell.text
    assert (before[0] + 1, before[1]) == (len(proxy.charges), len(account.charges))
    assert "play money" in made(kernel, "%%imagegen --model cogview --size 512x512\na boat here").text
    assert "clawroute" in kernel.run("%imagegen --gateway clawroute a boat").error[0]
    assert "estimated" in made(kernel, "%%imagegen --gateway account --dry-run\na boat").text


def test_auto_never_chooses_real_money_by_itself(kernel: Kernel, kernel_home: Path) -> None:
    """`use auto` lists the gateways it found, and selects practice without --yes or a saved choice."""
    text = made(kernel, "%blockrun use auto").text

    assert "practice" == chosen(kernel)
    assert all(name in text for name in ("base", "account", "BLOCKRUN_API_KEY", "clawrouter"))
    assert "%blockrun use account" in text

    made(kernel, "%blockrun use auto --yes")
    assert "account" == chosen(kernel)
    made(kernel, "%blockrun use auto")
    assert "practice" == chosen(kernel)

    config = kernel_home / ".blockrun" / "magic" / "config.toml"
    config.write_text('gateway = "clawrouter"\n')
    made(kernel, "%blockrun use auto")
    assert "clawrouter" == chosen(kernel)
    config.unlink()


def test_use_alone_shows_the_gateway_and_the_choices(kernel: Kernel, proxy: ClawRouter) -> None:
    """`use` alone shows the current gateway and the choices, and changes nothing."""
    made(kernel, "%blockrun use clawrouter")
    lines = made(kernel, "%blockrun use").text.splitlines()

    assert any(f"127.0.0.1:{proxy.port}" in line for line in lines)
    for name in ("practice", "base", "testnet", "arc", "solana", "account"):
        assert any(name in line for line in lines)
    assert "clawrouter" == chosen(kernel)


def test_any_endpoint_is_used_by_its_url_and_path(kernel: Kernel, kernel_home: Path) -> None:
    """`--path` needs a URL; --remember saves both."""
    text = made(kernel, "%blockrun use https://images.example.com --path /v2/draw --remember").text
    config = kernel_home / ".blockrun" / "magic" / "config.toml"

    assert "https://images.example.com#/v2/draw" in text
    assert 'gateway = "https://images.example.com#/v2/draw"\n' == config.read_text()
    for wrong in ("base --path /x", "https://images.example.com --path draw"):
        assert "UsageError" == kernel.run(f"%blockrun use {wrong}").error_name
    config.unlink()
    made(kernel, "%blockrun use practice")


def test_a_choice_is_remembered_when_that_is_said(kernel: Kernel, kernel_home: Path) -> None:
    """--remember changes one line of the configuration file and keeps the others."""
    config = kernel_home / ".blockrun" / "magic" / "config.toml"
    config.write_text("# mine\nother = 1\n")
    made(kernel, "%blockrun use clawrouter --remember")
    made(kernel, "%blockrun use practice --remember")

    assert 'gateway = "practice"\n# mine\nother = 1\n' == config.read_text()
    config.write_text("gateway = [")
    made(kernel, "%blockrun use practice")  # a choice on the line does not need the file
    config.unlink()


COMPARED = "get_ipython().magics_manager.registry['BlockrunMagics'].session.studio.reconciler.compare(0)"


def settled(home: Path) -> int:
    """Return the settled real money in the ledger, in micro-USDC."""
    with closing(Ledger(home / ".blockrun" / "magic" / "ledger.sqlite", "reader")) as ledger:
        return spending_summary(ledger, "real", "all").settled


def test_an_unknown_outcome_is_the_users_to_decide(kernel: Kernel, proxy: ClawRouter, kernel_home: Path) -> None:
    """`jobs` lists the payment, a second run refuses it, `resolve` decides once, and `spend` compares the records."""
    made(kernel, "%blockrun use clawrouter")
    made(kernel, "%imagegen --model flux a fox that was found")
    logs, proxy.logs = proxy.logs, proxy.logs / "nowhere"
    proxy.fail("drop")
    lost = kernel.run("%imagegen --model flux a lost fox")
    proxy.logs = logs

    assert "PaymentOutcomeUnknown" == lost.error_name
    assert "PaymentOutcomeUnknown" == kernel.run("%imagegen --model flux a lost fox").error_name
    jobs = made(kernel, "%blockrun jobs").text
    assert "$0.042" in jobs
    assert "%blockrun resolve" in jobs
    name = next(line for line in jobs.splitlines() if "a lost fox" in line).split()[0]

    assert "[42000]" == kernel.value(f"[spent.payment.amount for spent in ({COMPARED}).only_ours]")
    assert "True" == kernel.value(f"bool(({COMPARED}).differing)")
    assert "$0.042" in made(kernel, "%blockrun spend all --reconcile").text

    assert "UsageError" == kernel.run(f"%blockrun resolve {name}").error_name
    before = settled(kernel_home)
    assert "$0.043" in made(kernel, f"%blockrun resolve {name} --charged 0.043").text
    assert before + 43_000 == settled(kernel_home)
    made(kernel, f"%blockrun resolve {name} --not-charged")
    assert before + 43_000 == settled(kernel_home)
    assert "InvalidResponse" == kernel.run("%imagegen --model flux a lost fox").error_name


def test_the_models_card_says_where_its_list_comes_from(kernel: Kernel, account: Account) -> None:
    """--refresh asks the gateway: new models have no list price, and missing models are marked."""
    made(kernel, "%blockrun use account")
    account.served = ["google/nano-banana", "acme/brush-9"]
    text = made(kernel, "%blockrun models --refresh").text

    new = next(line for line in text.splitlines() if "acme/brush-9" in line)
    gone = next(line for line in made(kernel, "%blockrun models flux").text.splitlines() if "flux" in line)
    known = SNAPSHOT.find("flux")
    assert "$" not in new
    assert known is not None
    assert known.good_for not in gone
    refused = kernel.run("%imagegen --model flux a fox that nobody paints")
    assert "nano-banana" in refused.error[1]


def test_clawrouter_lists_no_image_models(kernel: Kernel) -> None:
    """--refresh fails on ClawRouter, and its chat models are not listed."""
    made(kernel, "%blockrun use clawrouter")

    assert "InvalidResponse" == kernel.run("%blockrun models --refresh").error_name
    assert "openai/gpt-5.2" not in made(kernel, "%blockrun models").text
