"""Keys of other programs: every known file is offered, and no key pays before it is imported."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.hdaccount import Language, generate_mnemonic
from solders.keypair import Keypair

from blockrun_magic.errors import WalletError, WalletMissing
from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.evm import find_wallet
from blockrun_magic.payments.wallets.external import (
    find_external_keys,
    find_external_solana_keys,
    read_key_or_keystore,
    read_solana_file,
)
from blockrun_magic.payments.wallets.keystore import address_of
from blockrun_magic.payments.wallets.registry import WalletRegistry, new_key
from blockrun_magic.payments.wallets.solana import SolanaWallet, find_solana_wallet, solana_text


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def _hex(key: Secret) -> str:
    return "0x" + bytes(key.reveal()).hex()


def _solana_of(phrase: str) -> str:
    """Return the Solana address of a phrase, derived by SLIP-10 without a library."""
    seed = hashlib.pbkdf2_hmac("sha512", phrase.encode(), b"mnemonic", 2048)
    node = hmac.digest(b"ed25519 seed", seed, "sha512")
    for index in (44, 501, 0, 0):
        data = b"\0" + node[:32] + (index + 0x80000000).to_bytes(4, "big")
        node = hmac.digest(node[32:], data, "sha512")
    return str(Keypair.from_seed(node[:32]).pubkey())


def test_replaced_and_derived_keys_are_offered(tmp_path: Path) -> None:
    """The SDK's backup of a replaced key is offered, and so is the first account of ClawRouter's recovery phrase."""
    replaced, phrase = new_key(), generate_mnemonic(12, Language.ENGLISH)
    _write(tmp_path / ".blockrun" / ".session.backup-1760000000", _hex(replaced))
    _write(tmp_path / ".openclaw" / "blockrun" / "mnemonic", f"{phrase}\n")
    Account.enable_unaudited_hdwallet_features()
    found = {path.name: address_of(key, "") for path, key in find_external_keys(tmp_path)}

    assert {
        ".session.backup-1760000000": address_of(replaced, ""),
        "mnemonic": Account.from_mnemonic(phrase).address,
    } == found
    with pytest.raises(WalletMissing):
        find_wallet({}, tmp_path)


def test_solana_keys_are_offered(tmp_path: Path) -> None:
    """Keys in a solana-wallet.json, an SDK's backup, Solana's command line and ClawRouter's phrase are offered."""
    pairs = [Keypair() for _ in range(3)]
    phrase = generate_mnemonic(24, Language.ENGLISH)
    wallet = {"privateKey": str(pairs[0]), "address": "a claim that does not count"}
    _write(tmp_path / ".someone" / "solana-wallet.json", json.dumps(wallet))
    _write(tmp_path / ".blockrun" / ".solana-session.backup-1", str(pairs[1]))
    _write(tmp_path / ".config" / "solana" / "id.json", json.dumps(list(bytes(pairs[2]))))
    _write(tmp_path / ".openclaw" / "blockrun" / "mnemonic", phrase)
    _write(tmp_path / ".broken" / "solana-wallet.json", "{")
    found = {path.name: SolanaWallet(key, "").address for path, key in find_external_solana_keys(tmp_path)}

    assert {
        "solana-wallet.json": str(pairs[0].pubkey()),
        ".solana-session.backup-1": str(pairs[1].pubkey()),
        "id.json": str(pairs[2].pubkey()),
        "mnemonic": _solana_of(phrase),
    } == found


def test_a_phrase_with_a_wrong_word_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    """A phrase with a wrong checksum gives no key, and the error repeats none of its words."""
    file = _write(tmp_path / "mnemonic", "zebra " * 11 + "zebra")
    for read in (read_key_or_keystore, read_solana_file):
        found = read(file, "the file")

        assert isinstance(found, WalletError)
        assert "zebra" not in str(found)


@pytest.mark.parametrize("form", ["array of 64", "array of 32", "hex", "0x hex", "base58", "base58 seed"])
def test_a_solana_key_has_the_forms_of_the_official_sdks(tmp_path: Path, form: str) -> None:
    """A key is base58, a JSON array of a pair or its seed, or 128 hex digits."""
    pair = Keypair()
    seed = bytes(pair)[:32]
    text = {
        "array of 64": json.dumps(list(bytes(pair))),
        "array of 32": json.dumps(list(seed)),
        "hex": bytes(pair).hex(),
        "0x hex": "0x" + bytes(pair).hex(),
        "base58": str(pair),
        "base58 seed": str(type(pair.pubkey())(seed)),
    }[form]

    assert str(pair.pubkey()) == find_solana_wallet({"SOLANA_WALLET_KEY": text}, tmp_path).address


@pytest.mark.parametrize("text", ["[1, 2, 3]", "[256" + ", 1" * 31 + "]", "17" * 32, "17" * 64, "[" + "1," * 40 + "1]"])
def test_what_is_not_a_solana_key_is_refused(tmp_path: Path, text: str) -> None:
    """Other lengths, numbers above 255, Ethereum keys, and halves that do not match are refused."""
    with pytest.raises(WalletError):
        find_solana_wallet({"SOLANA_WALLET_KEY": text}, tmp_path)


def test_an_imported_solana_key_is_the_sdks_wallet(tmp_path: Path) -> None:
    """The key is written in base58 to the SDKs' file; an existing key is not overwritten."""
    pair = Keypair()
    registry = WalletRegistry.of({}, tmp_path)
    path = registry.save_solana_key(solana_text(Secret(bytes(pair))))

    assert tmp_path / ".blockrun" / ".solana-session" == path
    assert str(pair) == path.read_text()
    assert str(pair.pubkey()) == find_solana_wallet({}, tmp_path).address
    with pytest.raises(WalletError):
        registry.save_solana_key(solana_text(Secret(bytes(Keypair()))))
