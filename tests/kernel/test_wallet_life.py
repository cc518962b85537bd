"""The life of a wallet in a notebook: creation, funding, payments, import and export, without visible secrets."""

from __future__ import annotations

import ast
import base64
import json
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from blockrun_magic.payments.x402.networks import BASE, BASE_SEPOLIA, SOLANA
from fakes.gateway import Merchant
from fakes.raw_socket import json_http, raw_server
from fakes.solana_rpc import PAYER
from harness import PATIENCE
from harness.kernel import Cell, Kernel, made, running_kernel
from harness.qrcodes import in_blocks, in_picture, read
from harness.terminal import Terminal

PHRASE = "a throwaway passphrase: correct horse"
KEY = "0x" + "3d" * 32  # a publicly known test key
ADDRESS = str(Account.from_key(KEY).address)
QUICK = "--model cogview --size 512x512"
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\b")


@dataclass(frozen=True)
class Asked:
    """A question of a cell: its prompt, and whether the input is hidden."""

    prompt: str
    unseen: bool


def answering(kernel: Kernel, code: str, *answers: str) -> tuple[Cell, list[Asked]]:
    """Run a cell with these answers; return the cell and its questions."""
    name = kernel.start(code)
    asked = []
    for answer in answers:
        content = kernel._client.get_stdin_msg(timeout=PATIENCE)["content"]
        asked.append(Asked(content["prompt"], content["password"]))
        kernel._client.input(answer)
    return kernel.finish(name), asked


def address_in(cell: Cell) -> str:
    """Return the first address that a cell shows."""
    found = _ADDRESS.search(cell.text)

    assert found is not None, cell.text
    return found[0]


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Kernel]:
    """Return a kernel with the extension and verbose tracebacks, in a home without a wallet."""
    with running_kernel(tmp_path) as kernel:
        made(kernel, "%load_ext blockrun_magic\n%xmode Verbose")
        yield kernel


# -- from no wallet to a funded one


def test_three_lines_from_no_wallet_to_address_code_and_balance(life: Kernel, tmp_path: Path) -> None:
    """`create`, `qr` and `balance` show the wallet's address, a code for USDC on Base, and the chain's balance."""
    answer = json_http({"jsonrpc": "2.0", "id": 1, "result": f"0x{4_320_000:064x}"})
    with raw_server(answer) as one, raw_server(answer) as two:
        made(life, _chain_at(one.url, two.url))
        created = made(life, "%blockrun wallet create")
        code = made(life, "%blockrun wallet qr")
        balance = made(life, "%blockrun wallet balance")
    address = address_in(created)
    key = (tmp_path / ".blockrun" / ".session").read_text()

    assert Account.from_key(key).address == address
    assert 66 == len(key)
    assert 0o600 == stat.S_IMODE((tmp_path / ".blockrun" / ".session").stat().st_mode)
    assert "%blockrun wallet qr" in created.text
    assert address in code.text
    assert "Base" in code.text
    assert all(part in balance.text for part in ("$4.32", "Base"))
    assert address[2:].lower() in one.seen[0].body.decode()


HELD_BACK = """
import sys
before = set(sys.modules)
session = get_ipython().magics_manager.registry["BlockrunMagics"].session
later, submit = [], session.submit
session.submit = later.append
"""
NETWORK = {"httpx", "httpcore", "anyio", "eth_account", "eth_keys", "pydantic", "msgspec", "PIL", "rich"}


def test_the_first_overview_waits_for_no_network_and_the_balance_follows(tmp_path: Path) -> None:
    """The card shows wallet and limits without importing a network library; later it shows the balance."""
    answer = json_http({"jsonrpc": "2.0", "id": 1, "result": f"0x{4_320_000:064x}"})
    key = {"BLOCKRUN_WALLET_KEY": KEY}
    with raw_server(answer) as one, raw_server(answer) as two, running_kernel(tmp_path, key) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        made(kernel, _chain_at(one.url, two.url) + HELD_BACK)
        place = kernel.start("%blockrun")
        first = kernel.finish(place).text
        loaded = kernel.value("sorted({name.partition('.')[0] for name in set(sys.modules) - before})")
        asked = len(one.seen) + len(two.seen)
        made(kernel, "session.submit = submit; future = submit(later.pop())")
        card = kernel.wait_for(place, lambda cell: "asking" not in cell.text)

    assert ADDRESS in first
    assert "asking" in first
    assert 0 == asked
    assert set() == NETWORK & set(ast.literal_eval(loaded))
    assert "$4.32" in card.text
    assert 1 == len(card.outputs)


def test_the_overview_is_complete_where_nothing_is_to_come(tmp_path: Path) -> None:
    """Captured output and a second overview include the balance; without a wallet no balance is shown."""
    answer = json_http({"jsonrpc": "2.0", "id": 1, "result": f"0x{4_320_000:064x}"})
    with raw_server(answer) as one, raw_server(answer) as two, running_kernel(tmp_path) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        made(kernel, _chain_at(one.url, two.url))
        without = made(kernel, "%blockrun").text
        made(kernel, f"%env BLOCKRUN_WALLET_KEY={KEY}")
        captured = made(kernel, "%%capture shown\n%blockrun").text
        repeated = made(kernel, "shown.show()").text
        second = made(kernel, "%blockrun").text

    assert "$4.32" not in without
    assert "" == captured
    assert all("$4.32" in text for text in (repeated, second)), (repeated, second)


def test_a_terminal_prints_the_balance_below_the_overview(tmp_path: Path) -> None:
    """In a terminal the balance is printed below the overview, before the next prompt."""
    answer = json_http({"jsonrpc": "2.0", "id": 1, "result": f"0x{4_320_000:064x}"})
    terminal = Terminal(tmp_path)
    with raw_server(answer) as one, raw_server(answer) as two:
        for line in ("%load_ext blockrun_magic", f"%env BLOCKRUN_WALLET_KEY={KEY}"):
            terminal.run(line)
        terminal.run(_chain_at(one.url, two.url).replace("\n", "; "))
        text = terminal.run("%blockrun")
    terminal.close()

    assert text.index(ADDRESS) < text.index("$4.32")
    assert "asking" not in text


def _chain_at(*urls: str) -> str:
    """Return a cell that replaces the servers of Base with these."""
    return (
        "import dataclasses, blockrun_magic.gateway.gateways as presets\n"
        f"there = dataclasses.replace(presets.BASE, rpc_urls={urls!r})\n"
        "presets.PRESETS['base'] = dataclasses.replace(presets.PRESETS['base'], networks=(there,))"
    )


@pytest.mark.parametrize(
    ("gateway", "words", "asks"),
    [
        ("base", "", f"ethereum:{BASE.asset}@8453/transfer?address={{}}"),
        ("base", "2.5", f"ethereum:{BASE.asset}@8453/transfer?address={{}}&uint256=2500000"),
        ("testnet", "$1", f"ethereum:{BASE_SEPOLIA.asset}@84532/transfer?address={{}}&uint256=1000000"),
    ],
)
def test_the_code_asks_for_usdc_on_the_right_chain(life: Kernel, gateway: str, words: str, asks: str) -> None:
    """The code contains the token, the chain, the wallet's address, and the amount in micro-USDC."""
    address = address_in(made(life, "%blockrun wallet create"))
    cell = made(life, f"%blockrun use {gateway}\n%blockrun wallet qr {words}")
    [picture] = cell.pictures

    assert asks.format(address) == read(in_picture(base64.b64decode(picture["data"]["image/png"])))
    assert [address] == list(dict.fromkeys(_ADDRESS.findall(cell.text)))


def test_the_code_of_a_solana_wallet_asks_for_usdc_there(life: Kernel) -> None:
    """On Solana, the commands show the Solana wallet's address and code (Solana Pay), or the missing key's variable."""
    missing = made(life, "%blockrun use solana\n%blockrun wallet")
    made(life, f"%env SOLANA_WALLET_KEY={PAYER}")
    shown = made(life, "%blockrun wallet address").text
    [picture] = made(life, "%blockrun wallet qr 2.5").pictures

    assert "SOLANA_WALLET_KEY" in missing.text
    assert str(PAYER.pubkey()) in shown
    assert "Solana" in shown
    assert f"solana:{PAYER.pubkey()}?amount=2.500000&spl-token={SOLANA.asset}" == read(
        in_picture(base64.b64decode(picture["data"]["image/png"]))
    )


def test_play_money_needs_no_code(life: Kernel) -> None:
    """On practice, no code and no address is shown."""
    cell = made(life, "%blockrun use practice\n%blockrun wallet qr")

    assert [] == cell.pictures
    assert None is _ADDRESS.search(cell.text)


def test_a_wallet_is_never_made_over_another(life: Kernel, tmp_path: Path) -> None:
    """A second `create` is an error, and the file is unchanged."""
    made(life, "%blockrun wallet create")
    before = (tmp_path / ".blockrun" / ".session").read_bytes()
    again = life.run("%blockrun wallet create")

    assert ("WalletError", 2) == (again.error_name, len(again.error))
    assert 2 == len(again.error)
    assert before == (tmp_path / ".blockrun" / ".session").read_bytes()


def test_which_wallet_pays_and_why_is_said(life: Kernel) -> None:
    """The summary, the list and `use` name the same wallet; a key in the environment has priority."""
    nothing = made(life, "%blockrun wallet")
    first = address_in(made(life, "%blockrun wallet create one"))
    second = address_in(made(life, "%blockrun wallet create two"))
    before = made(life, "%blockrun wallet").text
    made(life, "%blockrun wallet use two")
    after = made(life, "%blockrun wallet").text
    listed = made(life, "%blockrun wallet list").text
    made(life, f"import os; os.environ['BASE_CHAIN_WALLET_KEY'] = {KEY!r}")
    overruled = made(life, "%blockrun wallet use one").text
    environment = made(life, "%blockrun wallet").text

    assert None is _ADDRESS.search(nothing.text)
    assert first in before
    assert second in after
    assert first not in after
    assert re.search(rf"two +{second} +~/\.blockrun/magic/wallets/two\.key", listed)
    assert re.search(rf"^ +one +{first}", listed, re.MULTILINE)
    assert ADDRESS in overruled
    assert "BASE_CHAIN_WALLET_KEY" in overruled
    assert ADDRESS in environment


# -- locked wallets


def test_a_locked_wallet_is_opened_once_when_it_first_pays(tmp_path: Path) -> None:
    """Only the first paying cell asks for the passphrase, with hidden input; without a keyboard, it is an error."""
    with Merchant(time.time, network=BASE) as merchant:
        environ = {"BLOCKRUN_API_URL": merchant.gateway.base_url}
        with running_kernel(tmp_path, environ) as kernel:
            made(kernel, "%load_ext blockrun_magic")
            created, asked = answering(kernel, "%blockrun wallet create --encrypt", PHRASE, PHRASE)
        with running_kernel(tmp_path, environ) as kernel:
            made(kernel, "%load_ext blockrun_magic")
            looked = made(kernel, "%blockrun\n%blockrun wallet\n%blockrun wallet address")
            wrong, _ = answering(kernel, f"%imagegen {QUICK} a fox", "not it")
            spent = len(merchant.shown)
            paid, asked_again = answering(kernel, f"%imagegen {QUICK} a fox", PHRASE)
            batch = made(kernel, f"%%imagegen {QUICK} --each\nan owl\na hare")
        shown = len(merchant.shown)
        with running_kernel(tmp_path, environ) as headless:
            headless._client.allow_stdin = False
            made(headless, "%load_ext blockrun_magic")
            kept = made(headless, f"%imagegen {QUICK} a fox")
            refused = headless.run(f"%imagegen {QUICK} a wolf")
            several = headless.run(f"%%imagegen {QUICK} --each\na bear\na lynx")
            asking = headless.run("%blockrun wallet unlock")
        after = len(merchant.shown)
        with running_kernel(tmp_path, environ | {"BLOCKRUN_WALLET_PASSPHRASE": PHRASE}) as told:
            told._client.allow_stdin = False
            made(told, "%load_ext blockrun_magic")
            wolf = made(told, f"%imagegen {QUICK} a wolf")

    assert [True, True] == [question.unseen for question in asked]
    assert not (tmp_path / ".blockrun" / ".session").exists()
    assert address_in(created) in looked.text
    assert ("WalletLocked", 2, 0) == (wrong.error_name, len(wrong.error), spent)
    assert ("ok", 1) == (paid.status, len(paid.pictures)), paid.error
    [question] = asked_again
    assert "~/.blockrun/magic/wallets/default.json" in question.prompt
    assert question.unseen
    assert 1 == len(batch.pictures)
    assert 3 == shown
    assert 1 == len(kept.pictures)
    for cell in (refused, several, asking):
        assert ("WalletLocked", 2) == (cell.error_name, len(cell.error)), cell.error
        assert "BLOCKRUN_WALLET_PASSPHRASE" in cell.error[1]
    assert shown == after
    assert 1 == len(wolf.pictures)


@pytest.mark.parametrize(
    "line",
    [
        "create safe --encrypt",
        "import key",
        "export out.key",
    ],
)
def test_without_a_keyboard_no_line_waits(life: Kernel, tmp_path: Path, line: str) -> None:
    """Without a keyboard, a command that needs input fails immediately and writes nothing."""
    made(life, f"import os; os.environ['BASE_CHAIN_WALLET_KEY'] = {KEY!r}")
    life._client.allow_stdin = False
    cell = life.run(f"%blockrun wallet {line}")

    assert "error" == cell.status
    assert 2 == len(cell.error), cell.error
    assert cell.error_name in ("WalletError", "WalletLocked")
    assert [] == [*(tmp_path / ".blockrun").rglob("*.json"), *tmp_path.glob("out*")]


def test_stop_at_the_question_is_two_lines(life: Kernel) -> None:
    """Stop during a passphrase prompt gives an error and creates nothing; the kernel continues."""
    name = life.start("%blockrun wallet create safe --encrypt")
    life._client.get_stdin_msg(timeout=PATIENCE)
    life.interrupt()
    stopped = life.finish(name)
    after = made(life, "%blockrun wallet list")

    assert ("WalletError", 2) == (stopped.error_name, len(stopped.error)), stopped.error
    assert 2 == len(stopped.error)
    assert "wallet create" in after.text


# -- import and export


def test_keys_come_in_unseen_by_file_and_by_address(life: Kernel, tmp_path: Path) -> None:
    """Keys are imported with hidden input, from a keystore, and by address from another program's wallet."""
    claw = tmp_path / ".openclaw" / "blockrun" / "wallet.key"
    claw.parent.mkdir(parents=True)
    claw.write_text("0x" + "4e" * 32 + "\n")
    fields = Account.encrypt("0x" + "5f" * 32, PHRASE, "pbkdf2", 100)
    (tmp_path / "stored.json").write_text(json.dumps({k: v for k, v in fields.items() if k != "address"}))
    offers = made(life, "%blockrun wallet import")
    found = address_in(offers)
    typed, asked = answering(life, "%blockrun wallet import key", KEY[2:])
    by_address = made(life, f"%blockrun wallet import {found.lower()} --as claw")
    by_file, unlocked = answering(life, "%blockrun wallet import stored.json --as=stored", PHRASE)
    missing = life.run("%blockrun wallet import 0x" + "ab" * 20 + " --as nobody")
    bad, _ = answering(life, "%blockrun wallet import key --as bad", KEY[:-1])

    assert Account.from_key(claw.read_text().strip()).address == found
    assert "~/.openclaw/blockrun/wallet.key" in offers.text
    assert (ADDRESS, [True]) == (address_in(typed), [question.unseen for question in asked])
    assert found == address_in(by_address)
    assert claw.exists()
    assert Account.from_key("0x" + "5f" * 32).address == address_in(by_file), by_file.error
    assert [True] == [question.unseen and "~/stored.json" in question.prompt for question in unlocked]
    assert ADDRESS[2:] not in (tmp_path / ".blockrun" / "magic" / "wallets" / "stored.json").read_text()
    assert 2 == len(missing.error)
    assert 2 == len(bad.error)


@pytest.mark.parametrize("line", [f"import {KEY}", f"import {KEY[2:]} --as main", f"create {KEY}", f"use --as={KEY}"])
def test_a_key_on_the_line_is_refused_unseen(life: Kernel, line: str) -> None:
    """The error for a key on the line omits the key and names the safe command."""
    cell = life.run(f"%blockrun wallet {line}")

    assert ("UsageError", 2) == (cell.error_name, len(cell.error))
    assert KEY[2:] not in str(cell.error)
    assert "wallet import key" in cell.error[1]


def test_an_export_is_confirmed_and_goes_into_a_new_private_file(life: Kernel, tmp_path: Path) -> None:
    """An export needs a typed confirmation and a new file, is private, and never shows the key."""
    made(life, "%blockrun wallet create")
    (tmp_path / "there.txt").write_text("mine")
    taken = life.run("%blockrun wallet export there.txt")
    no, asked = answering(life, "%blockrun wallet export no.key", "yes")
    yes, _ = answering(life, "%blockrun wallet export yes.key", "export")
    sealed, _ = answering(life, "%blockrun wallet export ~/sealed.json --encrypt", "export", PHRASE, PHRASE)
    key = (tmp_path / ".blockrun" / ".session").read_text()

    assert 2 == len(taken.error)
    assert "mine" == (tmp_path / "there.txt").read_text()
    [question] = asked
    assert ("export" in question.prompt, question.unseen) == (True, False)
    assert str(address_in(no)) in no.text
    assert not (tmp_path / "no.key").exists()
    assert key == (tmp_path / "yes.key").read_text()
    assert {0o600} == {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("yes.key", "sealed.json")}
    assert key == "0x" + bytes(Account.decrypt((tmp_path / "sealed.json").read_text(), PHRASE)).hex()
    assert key[2:] not in no.text + yes.text + sealed.text


@pytest.mark.parametrize(
    ("line", "what", "advice"),
    [
        ("forget", "", "Transfer"),
        ("delete main", "", "yourself"),
        ("blance", "'blance'", "balance"),
        ("create ../evil", "", "lower-case"),
        ("create a b", "wallet create", "create [NAME]"),
        ("unlock hunter2", "wallet unlock", "unlock"),
        ("use", "wallet use", "use NAME"),
        ("use nobody", "nobody", "wallet list"),
        ("export", "wallet export", "export FILE"),
        ("qr much", "AMOUNT", "0.50"),
        ("qr 1 2", "wallet qr", "qr [AMOUNT]"),
        ("import none.json", "none.json", "path"),
        ("import key --as", "--as", "--as NAME"),
    ],
)
def test_a_mistake_is_told_with_its_way_out(wordy: Kernel, line: str, what: str, advice: str) -> None:
    """The error has two lines and omits a possible passphrase."""
    cell = wordy.run(f"%blockrun wallet {line}")

    assert 2 == len(cell.error), cell.error
    assert what in cell.error[0]
    assert advice in cell.error[1]
    assert "hunter2" not in str(cell.error)


def test_tab_offers_the_words_of_wallet(wordy: Kernel) -> None:
    """TAB offers the subcommands of `wallet`, and the error for an unknown one lists them."""
    code = "%blockrun wallet "
    offered = wordy._client.complete(code, len(code), reply=True, timeout=PATIENCE)["content"]["matches"]

    assert ["create", "import", "export", "list", "use", "unlock", "address", "qr", "balance"] == offered
    assert all(word in wordy.run("%blockrun wallet nonsense").error[1] for word in offered)


@pytest.fixture(scope="module")
def wordy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel for mistakes."""
    with running_kernel(tmp_path_factory.mktemp("wordy"), {"BLOCKRUN_WALLET_KEY": KEY}) as kernel:
        made(kernel, "%load_ext blockrun_magic")
        yield kernel


def test_where_somebody_else_pays_no_wallet_of_ours_is_shown(wordy: Kernel) -> None:
    """With ClawRouter or an account, the commands name that payer and not the wallet's address."""
    before = made(wordy, "%blockrun wallet address")
    for gateway in ("clawrouter", "account"):
        made(wordy, f"%blockrun use {gateway}")
        shown = [made(wordy, f"%blockrun wallet {word}").text for word in ("address", "qr", "balance")]

        assert ADDRESS in before.text
        assert ADDRESS not in "".join(shown)
        assert gateway in shown[0]
        assert shown[0] == shown[1]
    made(wordy, "%blockrun use base")


# -- secrets


_LIFE = """import logging
logging.basicConfig(level=logging.DEBUG, filename="debug.log", force=True)
%load_ext blockrun_magic
%xmode Verbose"""


def test_no_screen_no_log_and_no_history_holds_a_secret(tmp_path: Path) -> None:
    """After successful and failed `wallet` commands, keys are only in key files, and passphrases nowhere."""
    with running_kernel(tmp_path) as kernel:
        made(kernel, _LIFE)
        made(kernel, "%blockrun wallet create")
        answering(kernel, "%blockrun wallet create safe --encrypt", PHRASE, PHRASE)
        answering(kernel, "%blockrun wallet import key --as typed", KEY)
        answering(kernel, "%blockrun wallet import key --as wrong", KEY[:-2] + "zz")
        answering(kernel, "%blockrun wallet create twice --encrypt", PHRASE, PHRASE + "!")
        answering(kernel, "%blockrun wallet export out.key", "export")
        made(kernel, "%blockrun wallet use safe")
        answering(kernel, "%blockrun wallet export sealed.json --encrypt", "export", PHRASE, PHRASE)
        answering(kernel, "%blockrun wallet unlock --keyring", "not it")
        for line in ("", "list", "address", "qr", "qr 5", "balance", "unlock", "import", "create", "use typed"):
            kernel.run(f"%blockrun wallet {line}")
        kernel.run("import blockrun_magic.payments.wallets.evm as w\nw.read_key = lambda *_: 1 / 0\n%blockrun wallet")
        kernel.run("%blockrun wallet list")
        kernel.run("%tb")
        kernel.run(
            "import gc\n[repr(thing) for thing in gc.get_objects() if type(thing).__module__.startswith('blockrun')]"
        )
        shown = json.dumps([cell.messages for cell in kernel._cells.values()], default=str)
        kernel.run("%history -g")
    folder = tmp_path / ".blockrun"
    plain = [folder / ".session", folder / "magic" / "wallets" / "typed.key"]
    keys = [path.read_text()[2:] for path in plain]
    sealed = (folder / "magic" / "wallets" / "safe.json").read_text()
    secrets = [*keys, bytes(Account.decrypt(sealed, PHRASE)).hex(), PHRASE, KEY[2:-2], "not it"]
    holders = {*plain, tmp_path / "out.key"}
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path not in holders]

    assert KEY[2:] == keys[1]
    assert "ZeroDivisionError" in shown
    assert any(path.name == "history.sqlite" for path in files)
    assert "wallet create safe --encrypt" in _history(tmp_path)
    assert [] == [secret for secret in secrets if secret in shown]
    assert [] == [(path.name, s) for path in files for s in secrets if s.encode() in path.read_bytes()]


def _history(home: Path) -> str:
    [path] = home.rglob("history.sqlite")
    with closing(sqlite3.connect(path)) as history:
        return "\n".join(line for (line,) in history.execute("SELECT source FROM history"))


# -- in a terminal


def test_the_terminal_shows_the_code_as_blocks_and_asks_unseen(tmp_path: Path) -> None:
    """A terminal prints a readable code as block characters and hides the passphrase."""
    terminal = Terminal(tmp_path)
    terminal.run("%load_ext blockrun_magic")
    terminal.start("%blockrun wallet create --encrypt", "New passphrase for the wallet default: ")
    terminal.start(PHRASE, "Repeat it: ")
    created = terminal.run(PHRASE)
    shown = terminal.run("%blockrun wallet qr 5")
    status = terminal.close()
    found: Any = _ADDRESS.search(created)
    blocks = "\n".join(line for line in shown.splitlines() if set(line) <= set(" ▀▄█") and line)

    assert PHRASE not in created + shown
    assert "\x1b" not in shown
    assert read(in_blocks(blocks)) == f"ethereum:{BASE.asset}@8453/transfer?address={found[0]}&uint256=5000000"
    assert 0 == status
