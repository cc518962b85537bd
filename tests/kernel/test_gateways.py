"""Every gateway from the same cell: one notebook on three servers, and the books of each agree with ours."""

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
"""Nothing here names a gateway: what is remembered chooses it."""


def remember(home: Path, name: str) -> None:
    """Write the configuration file that chooses a gateway."""
    folder = home / ".blockrun" / "magic"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'gateway = "{name}"\n')


def told(home: Path, realm: str) -> tuple[int, int, list[tuple[str, int]]]:
    """Return the ledger's story: how many payments, their sum, and the sum of each model."""
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
    """Return the server's story, in the ledger's words."""
    models: dict[str, int] = {}
    for charge in server.charges:
        models[charge.model] = models.get(charge.model, 0) + charge.micros
    return len(server.charges), server.total, sorted(models.items())


def test_the_notebook_on_practice(tmp_path: Path) -> None:
    """Play money: five payments, and the practice gateway's own sum."""
    remember(tmp_path, "practice")
    with PracticeServer() as server:
        cells = run_notebook(tmp_path, BLOCKRUN_PRACTICE_URL=server.url)

        spending_summary, total, _ = told(tmp_path, "practice")
        assert (5, paid_to(server.url)) == (spending_summary, total)
    assert "$0.00" in cells[2]


def test_the_notebook_on_clawrouter(tmp_path: Path) -> None:
    """ClawRouter's wallet: the same cells, and its books to the micro-dollar."""
    remember(tmp_path, "clawrouter")
    with ClawRouter(tmp_path / LOGS, names_price=True) as server:
        cells = run_notebook(tmp_path, BLOCKRUN_PROXY_PORT=str(server.port))

    assert books(server) == told(tmp_path, "real")
    assert "$0.00" in cells[2]
    assert 5 == len(server.charges)


@pytest.mark.parametrize("slow", [0, 2], ids=["at once", "jobs"])
def test_the_notebook_on_an_account(tmp_path: Path, slow: int) -> None:
    """An account's credit, at once or by jobs: the same cells, and its books to the micro-dollar."""
    remember(tmp_path, "account")
    with Account(slow=slow) as server:
        cells = run_notebook(tmp_path, BLOCKRUN_API_KEY=KEY, BLOCKRUN_API_KEY_URL=server.url)

    assert books(server) == told(tmp_path, "real")
    assert "$0.00" in cells[2]
    assert 5 == server.posts
    assert KEY not in "".join(cells)


# -- where we sign: versions and networks, through the whole studio


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("where", ["a custom URL", "testnet"])
@pytest.mark.parametrize("words", ["a heron", "a heron practice:slow"], ids=["at once", "a job"])
def test_a_signed_gateway_of_either_version(tmp_path: Path, where: str, version: int, words: str) -> None:
    """A custom gateway on Base and a testnet-shaped one, x402 v1 and v2: paid once, with the hash in the receipt."""
    network = BASE_SEPOLIA if where == "testnet" else BASE
    with PracticeServer(x402_version=version, slow_seconds=0.05, network=network) as server:
        testnet = Gateway("testnet", server.url, (network,))
        gateway = testnet if where == "testnet" else gateway_at(server.url, {})

        async def make() -> Any:
            async with studio_over(tmp_path) as studio:
                return await studio.make(ImageRequest("generate", words, "zai/cogview-4", "512x512"), gateway)

        receipt = asyncio.run(make()).receipt

        assert 15_750 == receipt.amount  # no chain here confirms it
        assert paid_to(server.url) == receipt.amount
    assert receipt.transaction is not None
    assert payer().address == receipt.payer
    assert network.realm == receipt.realm


# -- choosing


def chosen(kernel: Kernel) -> str:
    """Return the name of the gateway that the kernel's requests go to."""
    return kernel.value("get_ipython().magics_manager.registry['BlockrunMagics'].session.selection.name").strip("'")


@pytest.fixture(scope="module")
def proxy(kernel_home: Path) -> Iterator[ClawRouter]:
    """Return a ClawRouter that names no prices and drops soon."""
    with ClawRouter(kernel_home / LOGS, drop_after=0.05) as server:
        yield server


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """Return an account."""
    with Account() as server:
        yield server


@pytest.fixture(scope="module")
def kernel(gateway: PracticeServer, proxy: ClawRouter, account: Account, kernel_home: Path) -> Iterator[Kernel]:
    """Return a kernel that could use any of three gateways, and starts on Base."""
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
    """Default, use, %config: the card names the gateway's address, who pays, and what it cannot do."""
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
    """--gateway is for its own cell: the next one goes where all the others go, and a misspelt name is refused."""
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
    """It says what it found, and chooses practice unless the user confirms or has saved a choice."""
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
    """The current gateway comes first, and nothing changes."""
    made(kernel, "%blockrun use clawrouter")
    lines = made(kernel, "%blockrun use").text.splitlines()

    assert any(f"127.0.0.1:{proxy.port}" in line for line in lines)
    for name in ("practice", "base", "testnet", "arc", "solana", "account"):
        assert any(name in line for line in lines)
    assert "clawrouter" == chosen(kernel)


def test_any_endpoint_is_used_by_its_url_and_path(kernel: Kernel, kernel_home: Path) -> None:
    """`--path` names an endpoint of its own and is saved with the URL; it belongs to a URL."""
    text = made(kernel, "%blockrun use https://images.example.com --path /v2/draw --remember").text
    config = kernel_home / ".blockrun" / "magic" / "config.toml"

    assert "https://images.example.com#/v2/draw" in text
    assert 'gateway = "https://images.example.com#/v2/draw"\n' == config.read_text()
    for wrong in ("base --path /x", "https://images.example.com --path draw"):
        assert "UsageError" == kernel.run(f"%blockrun use {wrong}").error_name
    config.unlink()
    made(kernel, "%blockrun use practice")


def test_a_choice_is_remembered_when_that_is_said(kernel: Kernel, kernel_home: Path) -> None:
    """--remember writes one line into the configuration file, and leaves the others."""
    config = kernel_home / ".blockrun" / "magic" / "config.toml"
    config.write_text("# mine\nother = 1\n")
    made(kernel, "%blockrun use clawrouter --remember")
    made(kernel, "%blockrun use practice --remember")

    assert 'gateway = "practice"\n# mine\nother = 1\n' == config.read_text()
    config.write_text("gateway = [")
    made(kernel, "%blockrun use practice")  # what was said here needs no file
    config.unlink()


COMPARED = "get_ipython().magics_manager.registry['BlockrunMagics'].session.studio.reconciler.compare(0)"


def settled(home: Path) -> int:
    """Return what the ledger has as settled real money, in micro-USDC."""
    with closing(Ledger(home / ".blockrun" / "magic" / "ledger.sqlite", "reader")) as ledger:
        return spending_summary(ledger, "real", "all").settled


def test_an_unknown_outcome_is_the_users_to_decide(kernel: Kernel, proxy: ClawRouter, kernel_home: Path) -> None:
    """Jobs show it, a re-run refuses, resolve books it once, and spend compares both records."""
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
    """--refresh asks the gateway: what is new has the quote as its price, what is gone says so."""
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
    """Its chat models stay out: the catalog is ours, and the error says so."""
    made(kernel, "%blockrun use clawrouter")

    assert "InvalidResponse" == kernel.run("%blockrun models --refresh").error_name
    assert "openai/gpt-5.2" not in made(kernel, "%blockrun models").text
