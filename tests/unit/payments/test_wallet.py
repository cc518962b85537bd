"""The sources of a key, the error for a bad one, and the ways in which a key could leak."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import WalletError, WalletMissing
from blockrun_magic.payments.wallets.evm import Wallet, find_wallet, practice_wallet
from blockrun_magic.payments.x402.networks import BASE
from harness.wallets import ADDRESS, KEY, MESSAGE, TYPES, shows_key, verbose

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = KEY.hex()
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty ~/.blockrun folder in a temporary home."""
    made = tmp_path / ".blockrun"
    made.mkdir()
    return made


def write(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    """Write a key file with `mode`."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


@pytest.mark.parametrize(
    "key",
    [HEX, "0x" + HEX, "0X" + HEX.upper(), f"  0x{HEX}\r\n", f'"{HEX}"', f"' 0x{HEX} '\n", KEY, HEX.encode()],
)
def test_a_key_is_read_however_it_is_written(key: str | bytes) -> None:
    """Prefix, case, whitespace, quotes and raw bytes do not change the account."""
    wallet = Wallet.from_key(key, "BLOCKRUN_WALLET_KEY")

    assert wallet.address == ADDRESS
    assert wallet.source == "BLOCKRUN_WALLET_KEY"
    assert wallet.warning is None


def test_a_signature_is_made_by_the_address() -> None:
    """A signature has 65 bytes (r, s and v) and recovers to the wallet's address."""
    signature = Wallet.from_key(HEX, "test").sign_typed_data(BASE.domain, TYPES, MESSAGE)
    signer = Account.recover_message(encode_typed_data(BASE.domain, TYPES, MESSAGE), signature=signature)

    assert len("0x") + 2 * 65 == len(signature)
    assert signature[-2:] in {"1b", "1c"}
    assert signer == ADDRESS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEX[:-1], "63"),
        (HEX + "0", "65"),
        ("0x", " 0 "),
        ("0" * 64, ""),
        (f"{CURVE_ORDER:064x}", ""),
        ("g" + HEX[1:], "hex"),
        ("\u0663" * 64, "hex"),
        (("legal winner thank year wave sausage " * 2).strip(), "phrase"),
        (" ".join(["abandon"] * 24), "phrase"),
        (json.dumps(list(KEY + KEY)), "Solana"),
        (
            "4NMwxzmYj2uvHuq8xoqhY8RXg63KSVJM1DXkpbmkUY7YQWuoyQgFnnzn6yo3CMnqZasnNPNuAT2TLwQsCaKkUddp",
            "Solana",
        ),
        (KEY[:31], "31"),
    ],
)
def test_a_bad_key_is_named_by_its_source_only(text: str | bytes, says: str) -> None:
    """The error names the source and the reason, and neither it nor its frames contain the key."""
    with pytest.raises(WalletError) as caught:
        Wallet.from_key(text, "BLOCKRUN_WALLET_KEY")
    error = caught.value
    where = error.__traceback__.tb_next  # skips this test's own frame, which holds the text
    shown = verbose(error.with_traceback(where))
    value = text if isinstance(text, str) else repr(text)[2:-1]

    assert says in error.message
    assert "BLOCKRUN_WALLET_KEY" in error.message
    assert value == "0x" or value not in shown
    assert error.__context__ is None
    assert error.__cause__ is None


@given(st.text(max_size=200) | st.binary(max_size=80))
def test_whatever_is_no_key_ends_in_our_error(key: str | bytes) -> None:
    """Any text or bytes gives a wallet or a WalletError."""
    try:
        wallet: Wallet | None = Wallet.from_key(key, "test")
    except WalletError:
        wallet = None

    assert wallet is None or wallet.source == "test"


def test_the_places_are_asked_in_order(folder: Path) -> None:
    """The order is BLOCKRUN_WALLET_KEY, BASE_CHAIN_WALLET_KEY, .session, wallet.key: the first key wins."""
    write(folder / "wallet.key", HEX)
    sources = [find_wallet({}, folder.parent).source]
    write(folder / ".session", f"0x{HEX}\n")
    sources.append(find_wallet({}, folder.parent).source)
    sources.append(find_wallet({"BASE_CHAIN_WALLET_KEY": HEX}, folder.parent).source)
    both = {"BASE_CHAIN_WALLET_KEY": "x", "BLOCKRUN_WALLET_KEY": HEX}
    sources.append(find_wallet(both, folder.parent).source)

    assert sources == [
        "~/.blockrun/wallet.key",
        "~/.blockrun/.session",
        "BASE_CHAIN_WALLET_KEY",
        "BLOCKRUN_WALLET_KEY",
    ]


def test_what_is_empty_is_not_there(folder: Path) -> None:
    """An empty variable or file is ignored, as in the official SDKs."""
    write(folder / ".session", "\n")
    write(folder / "wallet.key", HEX)

    assert find_wallet({"BLOCKRUN_WALLET_KEY": " "}, folder.parent).source == "~/.blockrun/wallet.key"


def test_blockrun_home_stands_for_the_folder(folder: Path, tmp_path: Path) -> None:
    """BLOCKRUN_HOME replaces ~/.blockrun, which is not read."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(folder / ".session", "not this one")
    write(elsewhere / ".session", HEX)
    wallet = find_wallet({"BLOCKRUN_HOME": str(elsewhere)}, folder.parent)

    assert wallet.address == ADDRESS
    assert wallet.source == "~/elsewhere/.session"


@pytest.mark.parametrize("made", ["nothing", "no folder", "folder is a file"])
def test_without_a_key_the_four_ways_to_one_are_said(tmp_path: Path, made: str) -> None:
    """The error says that there is no wallet and lists the ways to get one, in two lines."""
    home = tmp_path / "home"
    if made != "no folder":
        home.mkdir()
    if made == "folder is a file":
        (home / ".blockrun").write_text("")
    with pytest.raises(WalletMissing) as caught:
        find_wallet({}, home)

    assert all(
        way in caught.value.hint
        for way in ("use practice", "%blockrun wallet create", "BLOCKRUN_WALLET_KEY", "~/.blockrun/.session", "0600")
    )
    assert len(str(caught.value).splitlines()) == 2


def test_an_unreadable_file_is_named(folder: Path) -> None:
    """A directory, a pipe and a binary file each cause an error that names the path."""
    path = folder / ".session"
    whats = []
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: write(path, b"\xff\xfe" + KEY)):
        make()
        with pytest.raises(WalletError) as caught:
            find_wallet({}, folder.parent)
        whats.append(caught.value.message)
        assert not shows_key(verbose(caught.value))
        path.rmdir() if path.is_dir() else path.unlink()

    assert all("~/.blockrun/.session" in what for what in whats)
    assert whats[0] == whats[1] != whats[2]


def test_a_file_that_may_not_be_opened_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a file without read permission names the path."""
    write(folder / ".session", HEX)
    real = Path.open

    def refuse(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == ".session":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **more)

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(WalletError, match=r"~/\.blockrun/\.session.*Permission denied"):
        find_wallet({}, folder.parent)


def test_a_windows_text_file_is_read(folder: Path) -> None:
    """A byte order mark and a carriage return are ignored."""
    write(folder / ".session", b"\xef\xbb\xbf0x" + HEX.encode() + b"\r\n")

    assert find_wallet({}, folder.parent).address == ADDRESS


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_others_can_read_is_warned_of(folder: Path, mode: int, warned: bool) -> None:
    """The key is used anyway, and the wallet's warning says what to do."""
    write(folder / ".session", HEX, mode)
    warning = find_wallet({}, folder.parent).warning

    assert warned is (warning is not None)
    assert warning is None or "chmod 600 ~/.blockrun/.session" in warning


def test_the_practice_key_is_the_well_known_one() -> None:
    """The practice key is derived from a public text, so that nobody takes it for their own."""
    key = hashlib.sha256(b"blockrun-magic practice wallet").digest()
    wallet = practice_wallet()

    assert Account.from_key(key).address == wallet.address
    assert wallet.source == "practice"


def every_member(thing: object, depth: int = 3) -> str:
    """Return the repr of all attributes of `thing`, `depth` levels deep."""
    if depth == 0:
        return repr(thing)
    members = (getattr(thing, name, None) for name in dir(thing) if not name.startswith("__"))
    return repr(thing) + "".join(every_member(member, depth - 1) for member in members if member is not thing)


@pytest.mark.parametrize(
    "look",
    [
        repr,
        str,
        lambda wallet: f"{wallet} {wallet!r} {wallet!s}",
        lambda wallet: repr([wallet, {"w": wallet}]),
        lambda wallet: json.dumps(wallet, default=repr),
        lambda wallet: str(wallet.__slots__) + str([getattr(wallet, name) for name in wallet.__slots__]),
        every_member,
        lambda wallet: repr(copy.copy(wallet)) + repr(copy.deepcopy(wallet)) + repr(copy.deepcopy([wallet])),
        lambda wallet: logging.LogRecord("n", 10, "", 1, "%s %r", (wallet, wallet), None).getMessage(),
    ],
)
def test_no_way_of_looking_shows_the_key(look: Callable[[Wallet], str]) -> None:
    """Printing, dumping, copying and logging a wallet never show the key."""
    wallet = Wallet.from_key(HEX, "test")
    wallet.sign_typed_data(BASE.domain, TYPES, MESSAGE)
    shown = look(wallet)

    assert wallet.address == ADDRESS
    assert not shows_key(shown)


@pytest.mark.parametrize(
    "take",
    [
        pickle.dumps,
        lambda wallet: pickle.dumps(wallet, protocol=0),
        lambda wallet: pickle.dumps(wallet._secret),
        lambda wallet: copy.deepcopy(wallet._secret),
        lambda wallet: wallet.__getstate__(),
        lambda wallet: wallet.__reduce__(),
        vars,
        lambda wallet: wallet.__dict__,
        json.dumps,
        lambda wallet: json.dumps(wallet, default=vars),
        bytes,
    ],
)
def test_no_way_of_taking_gets_the_key(take: Callable[[Any], object]) -> None:
    """Pickling and similar operations fail, and the error does not contain the key."""
    wallet = Wallet.from_key(KEY, "test")
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as caught:
        take(wallet)

    assert not shows_key(verbose(caught.value))


def test_a_failed_signature_keeps_the_key_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """eth-account fails with the key in its frames and message; our error contains neither."""

    def fail(message: object, private_key: bytes) -> None:
        raise ValueError(private_key.hex())

    wallet = Wallet.from_key(KEY, "test")
    monkeypatch.setattr(Account, "sign_message", fail)
    with pytest.raises(WalletError) as caught:
        wallet.sign_typed_data(BASE.domain, TYPES, MESSAGE)

    assert not shows_key(verbose(caught.value))


def test_stop_in_the_middle_of_signing_keeps_the_key_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt is raised without the frames that held the key."""

    def interrupt(message: object, private_key: object) -> None:
        try:
            int(str(private_key) + "?")
        except ValueError:
            raise KeyboardInterrupt from None

    wallet = Wallet.from_key(KEY, "test")
    monkeypatch.setattr(Account, "sign_message", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        wallet.sign_typed_data(BASE.domain, TYPES, MESSAGE)

    assert not shows_key(verbose(caught.value))


def test_an_unsignable_message_keeps_the_key_to_itself() -> None:
    """A message that does not match its types fails without showing the key."""
    wallet = Wallet.from_key(KEY, "test")
    with pytest.raises(Exception, match=r".") as caught:
        wallet.sign_typed_data(BASE.domain, TYPES, {**MESSAGE, "value": "much"})

    assert not shows_key(verbose(caught.value))


def test_a_bad_key_in_the_environment_stays_out_of_the_frames(tmp_path: Path) -> None:
    """The frames of the error do not hold the environment with the key."""
    with pytest.raises(WalletError) as caught:
        find_wallet({"BLOCKRUN_WALLET_KEY": HEX + "f"}, tmp_path)
    error = caught.value

    assert not shows_key(verbose(error.with_traceback(error.__traceback__.tb_next)))


def test_eth_account_waits_for_the_first_signature() -> None:
    """Finding and printing a wallet does not import eth-account, which takes half a second."""
    code = (
        "import sys\n"
        "from blockrun_magic.payments.wallets.evm import practice_wallet\n"
        "print(practice_wallet(), 'eth_account' in sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out == "<Wallet from practice> False\n"


@pytest.mark.parametrize("library", ["coincurve", "eth_keys"])
def test_an_address_needs_no_eth_account(library: str) -> None:
    """The address is the same with and without coincurve, and eth-account, which is slow to import, is not imported."""
    program = f"""
import sys
if {library == "eth_keys"}:
    sys.modules["coincurve"] = None
from blockrun_magic.payments.signing_library import address_of
print(address_of({KEY!r}), address_of({KEY.hex()!r}), "eth_account" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert [ADDRESS, ADDRESS, "False"] == done.stdout.split()
