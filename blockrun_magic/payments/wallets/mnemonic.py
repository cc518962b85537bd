"""Recovery phrases: the first account's key on EVM chains and on Solana, as ClawRouter and most wallets derive it.

Paths are m/44'/60'/0'/0/0 (BIP-44) and m/44'/501'/0'/0' (SLIP-10), without an extra passphrase.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from blockrun_magic.errors import WalletError
from blockrun_magic.payments.secrets import Secret, with_secrets
from blockrun_magic.payments.signing_library import load_module

__all__ = ["evm_key_of", "holds_phrase", "solana_key_of"]

_EVM_PATH, _SOLANA_PATH = "m/44'/60'/0'/0/0", "m/44'/501'/0'/0'"
_PHRASE = re.compile(r"\s*[a-z]+(?:\s+[a-z]+){11,23}\s*")


def holds_phrase(content: Secret) -> bool:
    """Return whether a file's text is a recovery phrase of 12 to 24 words."""
    return _PHRASE.fullmatch(str(content.reveal())) is not None


def evm_key_of(phrase: Secret, source: str) -> Secret | WalletError:
    """Return the 32 bytes of the phrase's first EVM key, or the error to raise."""
    wallets = load_module("eth_account.hdaccount")
    return _derived(
        lambda text: Secret(bytes(wallets.key_from_seed(wallets.seed_from_mnemonic(_plain(text), ""), _EVM_PATH))),
        *(phrase, source),
    )


def solana_key_of(phrase: Secret, source: str) -> Secret | WalletError:
    """Return the 64 bytes of the phrase's first Solana key pair, or the error to raise; needs solders."""
    from solders.keypair import Keypair

    seed_from_mnemonic = load_module("eth_account.hdaccount").seed_from_mnemonic
    return _derived(
        lambda text: Secret(
            bytes(Keypair.from_seed_and_derivation_path(bytes(seed_from_mnemonic(_plain(text), "")), _SOLANA_PATH))
        ),
        phrase,
        source,
    )


def _derived(derive: Callable[[str], Secret], phrase: Secret, source: str) -> Secret | WalletError:
    error = WalletError(
        f"The recovery phrase in {source} cannot be used.", "Check its words and their order, or import a private key."
    )
    try:
        return with_secrets(derive, phrase, on_error=lambda _: error)
    except WalletError as failure:
        return failure


def _plain(text: str) -> str:
    return " ".join(text.split())
