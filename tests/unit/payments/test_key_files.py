"""Key files: private from the first byte, complete or absent, never overwritten; and keystores with a passphrase."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from blockrun_magic.errors import WalletError, WalletLocked
from blockrun_magic.payments.secrets import RedactedEnviron, Secret
from blockrun_magic.payments.wallets import key_files as keyfiles
from blockrun_magic.payments.wallets import keystore
from blockrun_magic.payments.wallets.external import read_key_or_keystore
from blockrun_magic.payments.wallets.key_files import check_absent, create_private_dir, create_private_file
from blockrun_magic.payments.wallets.keystore import Keystore, lock_key, read_keystore
from blockrun_magic.payments.wallets.private_key import contains_secret
from blockrun_magic.payments.wallets.registry import WalletRegistry, new_key
from harness.wallets import shows_key, verbose

KEY = hashlib.sha256(b"a throwaway key of the key file tests").digest()
ADDRESS = Account.from_key(KEY).address
PHRASE = "a throwaway passphrase, ünïcode too"


def light(key: bytes = KEY, phrase: str = PHRASE, **changes: Any) -> dict[str, Any]:
    """Return a keystore's JSON as another program writes it, with a key derivation that takes little time."""
    return Account.encrypt(key, phrase, kdf="pbkdf2", iterations=100) | changes


def stored(fields: dict[str, Any]) -> Keystore:
    """Return the keystore of `fields`, which must be valid."""
    found = read_keystore(Secret(json.dumps(fields)), "a file")

    assert isinstance(found, Keystore)
    return found


@pytest.fixture(autouse=True)
def no_mask() -> Iterator[None]:
    """Set the umask to zero: every file gets exactly the permissions that the code asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder."""
    made = tmp_path / "folder"
    made.mkdir()
    return made


# -- writing


def test_a_key_file_is_private_from_its_first_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any umask, the only file that is created is new, empty and has mode 0600."""
    real = os.open
    made = []

    def opened(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        descriptor = real(path, flags, mode, **more)
        if flags & os.O_CREAT:
            status = os.fstat(descriptor)
            made.append((stat.S_IMODE(status.st_mode), status.st_size, bool(flags & os.O_EXCL)))
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    create_private_file(folder / "key", Secret("0x01"), "the file")

    assert [(0o600, 0, True)] == made
    assert "0x01" == (folder / "key").read_text()
    assert 0o600 == stat.S_IMODE((folder / "key").stat().st_mode)
    assert ["key"] == [path.name for path in folder.iterdir()]


def test_file_and_folder_are_synced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced first, then its folder, so that a power cut loses neither the bytes nor the name."""
    real = os.fsync
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    create_private_file(folder / "key", Secret("0x01"), "the file")

    assert [(folder / "key").stat().st_ino, folder.stat().st_ino] == synced


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("there", ["file", "empty file", "folder", "dangling link"])
def test_nothing_is_written_over(folder: Path, monkeypatch: pytest.MonkeyPatch, there: str, links: bool) -> None:
    """An existing file, folder or link is never replaced, even on a file system without hard links."""
    path = folder / "key"
    if there == "folder":
        path.mkdir()
    elif there == "dangling link":
        path.symlink_to(folder / "nowhere")
    else:
        path.write_text("another's key" if there == "file" else "")
    if not links:
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    with pytest.raises(WalletError):
        create_private_file(path, Secret("0x01"), "the file")
    with pytest.raises(WalletError):
        check_absent(path, "the file")

    assert ["key"] == [left.name for left in folder.iterdir()]
    assert there != "file" or path.read_text() == "another's key"


def test_without_hard_links_it_is_written_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk without hard links, the file is just as private and complete."""
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    create_private_file(folder / "key", Secret(b"\x01\x02"), "the file")

    assert b"\x01\x02" == (folder / "key").read_bytes()
    assert 0o600 == stat.S_IMODE((folder / "key").stat().st_mode)
    assert ["key"] == [path.name for path in folder.iterdir()]


def refusing(code: int) -> Any:
    """Return a system call that fails with `code`."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_a_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written completely is removed, and the error does not show the key."""
    monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
    with pytest.raises(WalletError) as caught:
        create_private_file(folder / "key", Secret("0x" + KEY.hex()), "the file")

    assert [] == list(folder.iterdir())
    assert not shows_key(verbose(caught.value), KEY)


@pytest.mark.parametrize(("deadly", "whole"), [("fsync", False), ("link", False), ("unlink", True)])
def test_killed_in_the_middle_it_is_whole_or_absent(folder: Path, deadly: str, whole: bool) -> None:
    """`kill -9` at any step leaves no incomplete file under the final name; afterwards a new file can be made."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from blockrun_magic.payments.secrets import Secret\n"
        "from blockrun_magic.payments.wallets.key_files import create_private_file\n"
        f"os.{deadly} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "create_private_file(Path(sys.argv[1]), Secret('0x' + '17' * 32), 'the file')\n"
    )
    path = folder / "key"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    assert -signal.SIGKILL == done.returncode
    assert whole == path.exists()
    if whole:
        assert "0x" + "17" * 32 == path.read_text()
    else:
        create_private_file(path, Secret("0x01"), "the file")


def test_of_two_at_once_one_wins(folder: Path) -> None:
    """One of eight threads saves its key under the name, the others get an error, and the file holds the saved key."""
    places = WalletRegistry(folder / ".blockrun", folder)
    keys = [new_key() for _ in range(8)]
    start = threading.Barrier(len(keys))
    kept: list[Secret] = []

    def keep(key: Secret) -> None:
        start.wait()
        try:
            places.save_key("default", key)
        except WalletError:
            return
        kept.append(key)

    threads = [threading.Thread(target=keep, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = kept

    assert "0x" + bytes(winner.reveal()).hex() == (places.folder / ".session").read_text()


def test_folders_are_private_all_the_way(folder: Path) -> None:
    """Every new folder is private to its owner; an existing folder keeps its mode."""
    (folder / "there").mkdir(mode=0o755)
    create_private_dir(folder / "there" / "a" / "b")

    assert [0o755, 0o700, 0o700] == [
        stat.S_IMODE((folder / name).stat().st_mode) for name in ("there", "there/a", "there/a/b")
    ]


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    """A file in the path of the folder causes an error of ours."""
    (folder / "file").write_text("")
    with pytest.raises(WalletError):
        create_private_dir(folder / "file" / "wallets")


# -- keystores


def test_eth_account_reads_what_we_lock() -> None:
    """The keystore is a standard one: eth-account opens it, and it contains its address."""
    made = lock_key(Secret(KEY), Secret(PHRASE))
    fields = json.loads(made.text)

    assert KEY == bytes(Account.decrypt(made.text, PHRASE))
    assert (3, "scrypt", 262_144) == (fields["version"], fields["crypto"]["kdf"], fields["crypto"]["kdfparams"]["n"])
    assert ADDRESS == made.address
    assert ADDRESS == stored(fields).address
    assert KEY.hex() not in made.text
    assert PHRASE not in made.text


@pytest.mark.parametrize(
    "written",
    [
        light,
        lambda: {name.upper(): value for name, value in light().items()},
        lambda: light(address=ADDRESS.lower()),
        lambda: Account.encrypt(KEY, PHRASE, kdf="scrypt", iterations=1024),
    ],
    ids=["pbkdf2", "capitals", "0x address", "scrypt"],
)
def test_keystores_of_other_programs_are_opened(written: Any) -> None:
    """Both key derivations are supported, in either spelling of the names and the address."""
    found = stored(written())

    assert ADDRESS == found.address
    assert KEY == found.open(Secret(PHRASE), "a file").reveal()


def test_a_keystore_without_an_address_gets_one() -> None:
    """Some programs leave out the address: we add it after the first opening and change nothing else."""
    fields = {name: value for name, value in light().items() if name != "address"}
    found = stored(fields)
    named = found.with_address(found.open(Secret(PHRASE), "a file"), "a file")

    assert None is found.address
    assert ADDRESS == named.address
    assert fields | {"address": ADDRESS[2:]} == json.loads(named.text)
    assert named.opened is not None


def test_a_wrong_passphrase_is_said_and_nothing_shown() -> None:
    """The error and its frames contain neither the key, nor the passphrase, nor the derived key."""
    found = stored(light())
    with pytest.raises(WalletLocked) as caught:
        found.open(Secret(PHRASE[::-1]), "a file")
    shown = verbose(caught.value)

    assert None is found.opened
    assert PHRASE[::-1] not in shown
    assert "derived_key" not in shown
    assert None is caught.value.__context__


def test_it_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight requests at a time derive the key once; a newly typed passphrase is checked again."""
    found = stored(light())
    real, calls = Account.decrypt, []
    monkeypatch.setattr(Account, "decrypt", lambda *given: calls.append(1) or real(*given))
    threads = [
        threading.Thread(target=lambda: found.open(Secret(PHRASE), "a file", reopen=False), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(WalletLocked):
        found.open(Secret("another"), "a file")

    assert 2 == len(calls)


def test_another_address_than_the_keys_is_refused() -> None:
    """A keystore that was changed to name another address is refused."""
    found = stored(light(address="5a" * 20))
    with pytest.raises(WalletError, match=str(found.address)):
        found.open(Secret(PHRASE), "a file")

    assert None is found.opened


@pytest.mark.parametrize(
    "change",
    [
        {"version": 4},
        {"version": "3"},
        {"crypto": None},
        {"crypto": {}},
        {"crypto": {**light()["crypto"], "kdf": "argon2"}},
        {"crypto": {**light()["crypto"], "kdf": ["scrypt"]}},
        {"crypto": {**light()["crypto"], "cipher": "aes-256-cbc"}},
        {"crypto": {**light()["crypto"], "mac": "not hex"}},
        {"crypto": {**light()["crypto"], "ciphertext": "00"}},
        {"crypto": {**light()["crypto"], "kdfparams": {**light()["crypto"]["kdfparams"], "c": 10**12}}},
        {"crypto": {**light()["crypto"], "kdfparams": {**light()["crypto"]["kdfparams"], "dklen": 10**9}}},
        *(
            {
                "crypto": {
                    **light()["crypto"],
                    "kdf": "scrypt",
                    "kdfparams": {"dklen": 32, "salt": "00" * 16, "n": 1024, "r": 8, "p": 1} | bad,
                }
            }
            for bad in ({"n": 1 << 40}, {"n": 1000}, {"n": True}, {"n": 0}, {"r": 1 << 20}, {"p": 1 << 20}, {"r": 8.0})
        ),
        {"address": "not an address"},
        {"address": "5a" * 19},
    ],
)
def test_a_keystore_that_cannot_be_opened_here_is_refused_unopened(change: dict[str, Any]) -> None:
    """Unknown methods, damage, and excessive costs are reported before any key is derived."""
    found = read_keystore(Secret(json.dumps(light() | change)), "a file")

    assert isinstance(found, WalletError)
    assert "a file" in found.message


@given(st.text(max_size=100) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_no_keystore_ends_in_our_error(text: str) -> None:
    """Any other text gives an error of ours."""
    assert isinstance(read_keystore(Secret(text), "a file"), WalletError)


def test_deep_nesting_is_no_keystore() -> None:
    """JSON that is nested too deeply is refused like any other bad JSON."""
    assert isinstance(read_keystore(Secret("[" * 100_000), "a file"), WalletError)


# -- other programs' files


def test_a_file_without_a_key_is_told_apart(tmp_path: Path) -> None:
    """The error names the file and the reason: five different messages for six bad files."""
    messages = []
    texts = "", "{}", json.dumps({"privateKey": "0x17"}), "[1, 2, 3]", "a key", json.dumps({"privateKey": 17})
    for text in texts:
        (tmp_path / "file").write_text(text)
        found = read_key_or_keystore(tmp_path / "file", "the file")
        assert isinstance(found, WalletError)
        messages.append(found.message)

    assert all("the file" in message for message in messages)
    assert 5 == len(set(messages))
    assert messages[1] == messages[-1]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A missing file gives an error of ours that names it."""
    found = read_key_or_keystore(tmp_path / "none", "the file")

    assert isinstance(found, WalletError)
    assert "the file" in found.message


# -- secrets in text and variables


@pytest.mark.parametrize(
    ("words", "secret"),
    [
        ("import 0x" + KEY.hex(), True),
        ("import " + KEY.hex()[:58], True),
        ("import --key=" + KEY.hex().upper(), True),
        ("import " + " ".join(["abandon"] * 12), True),
        ("import " + "5" * 87, True),
        ("import " + "5" * 44, True),
        (f"import {ADDRESS} --as main", False),
        ("import ~/.ethereum/keystore/UTC--2016-01-05T16-32-00.0Z--" + ADDRESS[2:].lower(), False),
        ("qr 5", False),
    ],
)
def test_a_key_on_a_line_is_recognised(words: str, secret: bool) -> None:
    """Keys, most of a key and phrases count as secrets; addresses and paths do not."""
    assert secret == contains_secret(words)


def test_an_environment_is_not_shown() -> None:
    """The environment is a mapping that follows the real one, and its repr shows no value."""
    real = {"BLOCKRUN_WALLET_KEY": KEY.hex()}
    seen = RedactedEnviron(real)
    real["MORE"] = "1"

    assert real == dict(seen)
    assert 2 == len(seen)
    assert not shows_key(repr(seen) + str([seen]), KEY)


def test_modules_keep_no_key_in_sight() -> None:
    """The variables of our modules and the repr of an opened keystore show neither the key nor the passphrase."""
    found = stored(light())
    found.open(Secret(PHRASE), "a file")
    shown = repr(vars(keystore)) + repr(vars(keyfiles)) + repr(found) + repr(found.opened)

    assert not shows_key(shown, KEY)
    assert PHRASE not in shown
