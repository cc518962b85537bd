"""Every gateway from the same cell: one notebook on three servers, and the books of each agree with ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from blockrun_magic.gateway.gateways import Gateway, gateway_at
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
    assert "$0.00: bought" in cells[2]


def test_the_notebook_on_clawrouter(tmp_path: Path) -> None:
    """ClawRouter's wallet: the same cells, and its books to the micro-dollar."""
    remember(tmp_path, "clawrouter")
    with ClawRouter(tmp_path / LOGS, names_price=True) as server:
        cells = run_notebook(tmp_path, BLOCKRUN_PROXY_PORT=str(server.port))

    assert books(server) == told(tmp_path, "real")
    assert "$0.00: bought" in cells[2]
    assert 5 == len(server.charges)


@pytest.mark.parametrize("slow", [0, 2], ids=["at once", "jobs"])
def test_the_notebook_on_an_account(tmp_path: Path, slow: int) -> None:
    """An account's credit, at once or by jobs: the same cells, and its books to the micro-dollar."""
    remember(tmp_path, "account")
    with Account(slow=slow) as server:
        cells = run_notebook(tmp_path, BLOCKRUN_API_KEY=KEY, BLOCKRUN_API_KEY_URL=server.url)

    assert books(server) == told(tmp_path, "real")
    assert "$0.00: bought" in cells[2]
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
    """Default, use, %config: the card names the place, the reason, who pays, and what cannot be had there."""
    assert "base (https://blockrun.ai/api), the default" in made(kernel, "%blockrun").text

    used = made(kernel, "%blockrun use clawrouter").text
    card = made(kernel, "%blockrun").text

    assert "quotes no price" in used
    assert f"clawrouter (http://127.0.0.1:{proxy.port}), chosen with `%blockrun use clawrouter`" in card
    assert WALLET in card
    assert "holds $5.00" in card
    assert "slow edit" in card

    made(kernel, "%config BlockrunMagics.gateway = 'account'")
    card = made(kernel, "%blockrun").text

    assert "from %config BlockrunMagics.gateway" in card
    assert "the account of the API key in BLOCKRUN_API_KEY" in card
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

    assert "base: no wallet found" in text
    assert "account: an API key, from BLOCKRUN_API_KEY" in text
    assert "clawrouter: a ClawRouter answers at" in text
    assert "Requests go to practice" in text
    assert "%blockrun use account" in text
    assert "use auto" in made(kernel, "%blockrun").text

    assert "Requests go to account" in made(kernel, "%blockrun use auto --yes").text
    assert "Requests go to practice" in made(kernel, "%blockrun use auto").text

    config = kernel_home / ".blockrun" / "magic" / "config.toml"
    config.write_text('gateway = "clawrouter"\n')
    assert "Requests go to clawrouter" in made(kernel, "%blockrun use auto").text
    config.unlink()


def test_use_alone_shows_the_gateway_and_the_choices(kernel: Kernel, proxy: ClawRouter) -> None:
    """The current gateway comes first, and nothing changes."""
    made(kernel, "%blockrun use clawrouter")
    lines = made(kernel, "%blockrun use").text.splitlines()

    assert any("in use" in line and f"127.0.0.1:{proxy.port}" in line for line in lines)
    for name in ("practice", "base", "testnet", "arc", "solana", "account"):
        assert any(name in line and "in use" not in line for line in lines)
    assert "clawrouter" in made(kernel, "%blockrun").text


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


def test_an_unknown_outcome_is_the_users_to_decide(kernel: Kernel, proxy: ClawRouter) -> None:
    """Jobs show it, a re-run refuses, resolve books it, and spend lays both books side by side."""
    made(kernel, "%blockrun use clawrouter")
    made(kernel, "%imagegen --model flux a fox that was found")
    logs, proxy.logs = proxy.logs, proxy.logs / "nowhere"
    proxy.fail("drop")
    lost = kernel.run("%imagegen --model flux a lost fox")
    proxy.logs = logs

    assert "PaymentOutcomeUnknown" == lost.error_name
    assert "PaymentOutcomeUnknown" == kernel.run("%imagegen --model flux a lost fox").error_name
    jobs = made(kernel, "%blockrun jobs").text
    assert "about $0.042" in jobs
    assert "%blockrun resolve" in jobs
    name = next(line for line in jobs.splitlines() if "a lost fox" in line).split()[0]

    books = made(kernel, "%blockrun spend all --reconcile").text
    assert "not in its log" in books
    assert "other amounts" in books

    assert "UsageError" == kernel.run(f"%blockrun resolve {name}").error_name
    assert "$0.043" in made(kernel, f"%blockrun resolve {name} --charged 0.043").text
    assert "no payment that you could decide" in made(kernel, f"%blockrun resolve {name} --not-charged").text
    assert "InvalidResponse" == kernel.run("%imagegen --model flux a lost fox").error_name
    assert "is estimated" in made(kernel, "%blockrun spend all").text


def test_the_models_card_says_where_its_list_comes_from(kernel: Kernel, account: Account) -> None:
    """--refresh asks the gateway: what is new has the quote as its price, what is gone says so."""
    made(kernel, "%blockrun use account")
    account.served = ["google/nano-banana", "acme/brush-9"]
    text = made(kernel, "%blockrun models --refresh").text

    assert "account's own list" in text
    assert "acme/brush-9" in text
    assert "by quote" in text
    assert "no longer served here" in made(kernel, "%blockrun models flux").text
    refused = kernel.run("%imagegen --model flux a fox that nobody paints")
    assert "nano-banana" in refused.error[1]


def test_clawrouter_lists_no_image_models(kernel: Kernel) -> None:
    """Its chat models stay out: the catalog is ours, and the error says so."""
    made(kernel, "%blockrun use clawrouter")

    assert "InvalidResponse" == kernel.run("%blockrun models --refresh").error_name
    assert "openai/gpt-5.2" not in made(kernel, "%blockrun models").text
