"""Several wallets: the choice of the paying one, encrypted ones, and the sources of a passphrase."""

from __future__ import annotations

import builtins
import getpass
import hashlib
import io
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.errors
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from blockrun_magic.errors import WalletError, WalletLocked, WalletMissing
from blockrun_magic.gateway.gateways import PRESETS
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets import evm as wallet
from blockrun_magic.payments.wallets import passphrase
from blockrun_magic.payments.wallets.api_key import find_api_key
from blockrun_magic.payments.wallets.evm import all_wallets, find_wallet
from blockrun_magic.payments.wallets.registry import WalletRegistry
from blockrun_magic.payments.x402.networks import BASE
from blockrun_magic.wiring import wallet_for
from harness.wallets import MESSAGE, TYPES, shows_key, verbose

PHRASE = "a throwaway passphrase"
VARIABLE = "BLOCKRUN_WALLET_PASSPHRASE"


def key(name: str) -> Secret:
    """Return the throwaway key called `name`."""
    return Secret(hashlib.sha256(f"throwaway {name}".encode()).digest())


def address(name: str) -> str:
    """Return the address of the throwaway key called `name`."""
    return str(Account.from_key(key(name).reveal()).address)


@pytest.fixture
def places(home: Path) -> WalletRegistry:
    """Return the registry of a home with a default wallet and one called main."""
    found = WalletRegistry.of({}, home)
    found.save_key("default", key("default"))
    found.save_key("main", key("main"))
    return found


@pytest.fixture
def locked(home: Path) -> WalletRegistry:
    """Return the registry of a home whose selected wallet is encrypted (with a fast derivation) and locked."""
    found = WalletRegistry.of({}, home)
    found.named.mkdir(parents=True)
    fields = Account.encrypt(key(str(home)).reveal(), PHRASE, kdf="pbkdf2", iterations=100)
    (found.named / "main.json").write_text(json.dumps(fields))
    (found.named / "main.json").chmod(0o600)
    found.select("main")
    return found


class Memory(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        """Return the stored password."""
        if not self.works:
            raise keyring.errors.KeyringLocked("no")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store a password."""
        if not self.works:
            raise keyring.errors.PasswordSetError(password)
        self.kept[service, username] = password


@pytest.fixture(autouse=True)
def ring() -> Iterator[Memory]:
    """Replace the system's keyring with an empty one."""
    before, memory = keyring.get_keyring(), Memory()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


# -- the paying wallet


def test_the_places_are_asked_in_this_order(places: WalletRegistry) -> None:
    """A key in the environment wins, then the wallet named there, the selected one, the default; each has a reason."""
    found = [find_wallet({}, places.home)]
    places.select("main")
    found.append(find_wallet({}, places.home))
    found.append(find_wallet({"BLOCKRUN_WALLET": "default"}, places.home))
    environ = {"BLOCKRUN_WALLET": "main", "BLOCKRUN_WALLET_KEY": bytes(key("environment").reveal()).hex()}
    found.append(find_wallet(environ, places.home))

    assert [address(name) for name in ("default", "main", "default", "environment")] == [one.address for one in found]
    assert 4 == len({one.why for one in found})
    assert "%blockrun wallet use" in found[1].why
    assert "BLOCKRUN_WALLET" in found[2].why
    assert ["default", "main", "default", None] == [one.name for one in found]


def test_a_choice_lasts_and_can_be_taken_back(places: WalletRegistry) -> None:
    """The choice is stored in a file for the next kernel; `default` reverts it."""
    places.select("main")
    again = WalletRegistry.of({}, places.home)
    again.select("default")

    assert ["chosen", "main.key"] == sorted(path.name for path in places.named.iterdir())
    assert address("default") == find_wallet({}, places.home).address


@pytest.mark.parametrize("environ", [{}, {"BLOCKRUN_WALLET": "main"}])
def test_another_wallet_never_pays_in_its_place(places: WalletRegistry, environ: dict[str, str]) -> None:
    """If the selected wallet is gone, no other wallet pays."""
    places.select("main")
    (places.named / "main.key").unlink()
    with pytest.raises(WalletError) as caught:
        find_wallet(environ, places.home)

    assert "%blockrun wallet use" in caught.value.hint


def test_a_choice_that_cannot_be_read_is_none(places: WalletRegistry) -> None:
    """A damaged file of the choice causes an error, and the default wallet does not pay."""
    for content in (b"../../etc/passwd", b"\xff", b""):
        places.named.joinpath("chosen").write_bytes(content)
        with pytest.raises(WalletError, match=r"~/\.blockrun/magic/wallets/chosen"):
            find_wallet({}, places.home)


def test_only_what_is_there_can_be_chosen(places: WalletRegistry) -> None:
    """The error for a misspelled name suggests the closest one."""
    with pytest.raises(WalletError) as caught:
        places.select("mian")

    assert "Did you mean main?" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../evil", "a/b", "a\\b", "/etc/passwd", "Main", "a.b", "-x", "_x", "é", "a" * 33, "main\n", "a b"],
)
def test_a_name_is_no_path(places: WalletRegistry, name: str) -> None:
    """A name has lower-case letters, digits, - and _; any other name is refused before a file is touched."""
    before = sorted(places.home.rglob("*"))
    for refused in (places.check_available, places.select, lambda bad: places.save_key(bad, key("x"))):
        with pytest.raises(WalletError):
            refused(name)

    assert before == sorted(places.home.rglob("*"))


def test_a_key_in_the_place_of_a_name_is_not_shown(places: WalletRegistry) -> None:
    """A key put into `BLOCKRUN_WALLET` by mistake is not shown in the error."""
    value = bytes(key("mistaken").reveal()).hex()
    with pytest.raises(WalletError, match="BLOCKRUN_WALLET") as caught:
        find_wallet({"BLOCKRUN_WALLET": "0x" + value}, places.home)
    error = caught.value

    assert value not in verbose(error.with_traceback(error.__traceback__.tb_next))


def test_no_name_is_used_twice(places: WalletRegistry, home: Path) -> None:
    """A name belongs to one wallet, whether it is encrypted or not, from an SDK or ours."""
    for name in ("default", "main"):
        with pytest.raises(WalletError, match="already"):
            places.check_available(name)
    legacy = WalletRegistry(home / "legacy", home)
    legacy.folder.mkdir()
    (legacy.folder / "wallet.key").write_text("an older SDK's")
    with pytest.raises(WalletError):
        legacy.save_key("default", key("x"))


def test_all_of_them_are_listed(places: WalletRegistry) -> None:
    """Wallets are sorted by name after the default; a bad one has its error; other files in the folder are ignored."""
    (places.named / "bad.json").write_text("{}")
    (places.named / "bare.json").write_text(
        json.dumps({k: v for k, v in Account.encrypt(b"\1" * 32, "x", "pbkdf2", 1).items() if k != "address"})
    )
    for other in ("notes.txt", "Upper.key", ".main.key.1234"):
        (places.named / other).write_text("x")
    environ = {"BLOCKRUN_WALLET_KEY": bytes(key("environment").reveal()).hex()}
    found = dict(all_wallets(environ, places.home))

    assert ["BLOCKRUN_WALLET_KEY", "default", "bad", "bare", "main"] == list(found)
    assert isinstance(found["bad"], WalletError)
    assert isinstance(found["bare"], WalletError)
    assert address("main") == getattr(found["main"], "address", "")


def test_an_encrypted_default_wallet_is_not_replaced_by_a_later_plain_one(locked: WalletRegistry) -> None:
    """An encrypted default wallet pays even if one of BlockRun's SDKs later creates a `.session`."""
    (locked.named / "main.json").rename(locked.named / "default.json")
    locked.select("default")
    (locked.folder / ".session").write_text(bytes(key("later").reveal()).hex())

    assert "~/.blockrun/magic/wallets/default.json" == find_wallet({}, locked.home).source


def test_a_named_wallet_is_private(places: WalletRegistry) -> None:
    """The file has mode 0600, the folder 0700."""
    assert 0o600 == stat.S_IMODE((places.named / "main.key").stat().st_mode)
    assert 0o700 == stat.S_IMODE(places.named.stat().st_mode)


# -- locked wallets


def test_a_locked_wallet_says_its_address_and_signs_nothing(locked: WalletRegistry) -> None:
    """The address needs no passphrase; a signature does, and the error names the sources of a passphrase."""
    found = find_wallet({}, locked.home)
    with pytest.raises(WalletLocked) as caught:
        found.sign_typed_data(BASE.domain, TYPES, MESSAGE)

    assert address(str(locked.home)) == found.address
    assert (True, True) == (found.encrypted, found.locked)
    assert "%blockrun wallet unlock" in caught.value.hint
    assert VARIABLE in caught.value.hint


def test_the_variable_opens_it(locked: WalletRegistry) -> None:
    """With the passphrase in the environment the wallet signs without a prompt."""
    found = find_wallet({VARIABLE: PHRASE}, locked.home)
    signature = found.sign_typed_data(BASE.domain, TYPES, MESSAGE)

    assert found.address == Account.recover_message(encode_typed_data(BASE.domain, TYPES, MESSAGE), signature=signature)
    assert not found.locked


def test_once_open_it_is_open_for_the_process(locked: WalletRegistry) -> None:
    """Each call to find_wallet returns a new object, but the passphrase is needed only once."""
    find_wallet({}, locked.home).unlock(Secret(PHRASE))
    again = find_wallet({}, locked.home)
    again.unlock()

    assert not again.locked
    assert again.sign_typed_data(BASE.domain, TYPES, MESSAGE)


@pytest.mark.parametrize("environ", [{VARIABLE: "not it"}, {}])
def test_a_wrong_passphrase_leaves_it_locked(locked: WalletRegistry, environ: dict[str, str]) -> None:
    """The error says that the passphrase is wrong and does not show it, whether from the variable or typed."""
    found = find_wallet(environ, locked.home)
    with pytest.raises(WalletLocked, match=r"The passphrase .*does not open ~/\.blockrun") as caught:
        found.unlock(None if environ else Secret("not it"))

    assert found.locked
    assert (VARIABLE in caught.value.message) == (VARIABLE in environ)
    assert "not it" not in str(caught.value)


def test_the_keyring_opens_it(locked: WalletRegistry, ring: Memory) -> None:
    """A passphrase in the system's keyring is found by the wallet's address."""
    found = find_wallet({}, locked.home)
    passphrase.save_to_keyring(found.address, Secret(PHRASE))
    found.unlock()

    assert {("blockrun-magic", found.address): PHRASE} == ring.kept
    assert not found.locked


def test_a_keyring_that_does_not_work_is_none(locked: WalletRegistry, ring: Memory) -> None:
    """Reading from a broken keyring fails silently; saving to it raises an error without the passphrase."""
    ring.works = False
    with pytest.raises(WalletLocked):
        find_wallet({}, locked.home).unlock()
    with pytest.raises(WalletError) as caught:
        passphrase.save_to_keyring("0x5a", Secret(PHRASE))

    assert PHRASE not in verbose(caught.value)


def test_without_the_extra_there_is_no_keyring(locked: WalletRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keyring library is optional: reading finds nothing, and saving names the extra to install."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(WalletLocked):
        find_wallet({}, locked.home).unlock()
    with pytest.raises(WalletError) as caught:
        passphrase.save_to_keyring("0x5a", Secret(PHRASE))

    assert "blockrun-magic[keyring]" in caught.value.hint


def test_a_bug_on_the_way_to_the_key_shows_neither_key_nor_passphrase(
    locked: WalletRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback with every frame's variables shows neither key nor passphrase."""
    secret = bytes(key("environment").reveal()).hex()
    for name, value in (("BASE_CHAIN_WALLET_KEY", secret), (VARIABLE, PHRASE)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wallet, "read_key", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        wallet_for(PRESETS["base"])
    error = caught.value
    shown = verbose(error.with_traceback(error.__traceback__.tb_next))

    assert "wallet_for" in shown
    assert secret not in shown
    assert PHRASE not in shown


def test_a_bug_while_opening_shows_neither(locked: WalletRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception inside eth-account becomes a WalletError without its frames."""
    real = Account.decrypt

    def fail(fields: Any, phrase: str) -> None:
        raise RuntimeError(f"{real(fields, phrase)!r} {phrase}")

    monkeypatch.setattr(Account, "decrypt", fail)
    found = find_wallet({}, locked.home)
    with pytest.raises(WalletError) as caught:
        found.unlock(Secret(PHRASE))

    assert not shows_key(verbose(caught.value), bytes(key(str(locked.home)).reveal()))
    assert None is caught.value.__context__


def test_stop_while_opening_shows_neither(locked: WalletRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt reaches the cell without the frames that held the passphrase."""

    def interrupt(fields: Any, phrase: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Account, "decrypt", interrupt)
    found = find_wallet({}, locked.home)
    given = Secret(PHRASE)
    with pytest.raises(KeyboardInterrupt) as caught:
        found.unlock(given)
    frames = [line for line in verbose(caught.value).splitlines() if "phrase =" in line or "phrase=" in line]

    assert not any(PHRASE in line for line in frames)


# -- prompts


def test_nobody_is_waited_for_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, Python's own readers are not called, because they would wait forever."""
    for stdin in (io.StringIO("from a pipe\n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)

        assert None is passphrase.prompt_hidden("? ")
        assert None is passphrase.prompt_visible("? ")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)

    assert None is passphrase.prompt_hidden("? ")


def test_a_kernel_that_has_no_stdin_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front end without input raises an error of its own, which counts as no answer."""

    def refuse(prompt: str) -> str:
        raise NotImplementedError("this frontend does not support input requests")

    monkeypatch.setattr(getpass, "getpass", refuse)

    assert None is passphrase.prompt_hidden("? ")
    assert None is passphrase.ask_new_passphrase("the wallet")


@pytest.mark.parametrize("ending", [KeyboardInterrupt, EOFError, None])
def test_giving_up_is_two_lines(monkeypatch: pytest.MonkeyPatch, ending: type[BaseException] | None) -> None:
    """Stop, Ctrl-D and an empty line cause a WalletError."""

    def give_up(prompt: str) -> str:
        if ending is not None:
            raise ending
        return ""

    monkeypatch.setattr(builtins, "input", give_up)
    with pytest.raises(WalletError) as caught:
        passphrase.prompt_visible("? ")

    assert None is caught.value.__context__


def test_a_new_passphrase_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new passphrase is accepted only if both entries agree."""
    answers = iter([PHRASE, PHRASE, PHRASE, "another"])
    prompts: list[str] = []
    monkeypatch.setattr(getpass, "getpass", lambda prompt: prompts.append(prompt) or next(answers))
    taken = passphrase.ask_new_passphrase("the wallet main")
    with pytest.raises(WalletError) as caught:
        passphrase.ask_new_passphrase("the wallet main")

    assert taken is not None
    assert PHRASE == taken.reveal()
    assert prompts[:2] == prompts[2:]
    assert "the wallet main" in prompts[0]
    assert prompts[0] != prompts[1]
    assert PHRASE not in verbose(caught.value)


def test_the_variable_is_taken_as_it_is() -> None:
    """Spaces belong to a passphrase; an empty variable counts as unset."""
    found = passphrase.from_environment({VARIABLE: " two blanks "})

    assert found is not None
    assert " two blanks " == found.reveal()
    assert None is passphrase.from_environment({VARIABLE: ""})
    assert VARIABLE == passphrase.VARIABLE
    assert wallet.VARIABLE == passphrase.VARIABLE


# -- BLOCKRUN_HOME, which BlockRun's SDKs read in two ways


def _moved(home: Path) -> WalletRegistry:
    return WalletRegistry.of({"BLOCKRUN_HOME": str(home / "moved")}, home)


def _session(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".session"
    file.write_text("0x" + bytes(key(name).reveal()).hex())
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("place", [".", ".blockrun"])
def test_both_places_of_a_moved_home_are_read(home: Path, place: str) -> None:
    """We use BLOCKRUN_HOME itself; the TypeScript SDK uses the folder .blockrun in it."""
    file = _session(home / "moved" / place, "moved")
    wallet = find_wallet({"BLOCKRUN_HOME": str(home / "moved")}, home)

    assert (address("moved"), None) == (wallet.address, wallet.warning)
    assert _moved(home).display_path(file) == wallet.source


def test_two_wallets_in_a_moved_home_are_named(home: Path) -> None:
    """The earlier wallet still pays, and the warning names the other."""
    _session(home / "moved", "ours")
    theirs = _session(home / "moved" / ".blockrun", "theirs")
    wallet = find_wallet({"BLOCKRUN_HOME": str(home / "moved")}, home)

    assert address("ours") == wallet.address
    assert _moved(home).display_path(theirs) in (wallet.warning or "")

    _session(home / "moved" / ".blockrun", "ours")
    assert find_wallet({"BLOCKRUN_HOME": str(home / "moved")}, home).warning is None


def test_a_new_wallet_in_a_moved_home_is_where_the_sdk_finds_it(home: Path) -> None:
    """The key is written to $BLOCKRUN_HOME/.blockrun/.session; an existing one is not overwritten."""
    registry = _moved(home)
    path = registry.save_key("default", key("new"))

    assert home / "moved" / ".blockrun" / ".session" == path
    assert address("new") == find_wallet({"BLOCKRUN_HOME": str(home / "moved")}, home).address
    with pytest.raises(WalletError):
        registry.save_key("default", key("another"))


# -- API keys in files


@pytest.mark.parametrize("file", [".blockrun/.api-key", ".openclaw/blockrun/api-key"])
def test_an_api_key_is_found_in_the_files_of_blockruns_tools(home: Path, file: str) -> None:
    """The variable comes first; one with only spaces counts as unset, as in the SDKs."""
    path = home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("brk_filefilefile\n")
    path.chmod(0o600)

    assert f"~/{file}" == find_api_key({"BLOCKRUN_API_KEY": " "}, home).source
    assert {"Authorization": "Bearer brk_filefilefile"} == dict(find_api_key({}, home).headers())
    assert "BLOCKRUN_API_KEY" == find_api_key({"BLOCKRUN_API_KEY": "brk_variable"}, home).source


def test_a_file_without_an_api_key_is_an_error_that_does_not_show_it(home: Path) -> None:
    """An invalid first file is an error: the key in the second file belongs to another account, which must not pay."""
    for file in (".blockrun/.api-key", ".openclaw/blockrun/api-key"):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text("0x" + "17" * 32 if file.startswith(".blockrun") else "brk_clawrouter")
    with pytest.raises(WalletError, match=r"~/\.blockrun/\.api-key") as caught:
        find_api_key({}, home)

    assert "1717" not in str(caught.value)
    with pytest.raises(WalletMissing):
        find_api_key({}, home / "nobody")
