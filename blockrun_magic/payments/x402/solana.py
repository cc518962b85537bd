"""The `exact` payment on Solana: a USDC transfer that we sign; the facilitator pays its fee and sends it.

We build the whole transaction: mint, program, compute budget and blockhash never come from the gateway, which names
payee, amount and fee payer. Before it is signed, it is read back from its bytes and compared with the agreed terms.

It is an authorization like those on EVM chains. The cluster accepts a message once, and none whose blockhash is more
than 150 blocks old. A random nonce in its memo identifies the payment in the list of our token account's transactions
(x402's scheme_exact_svm.md; gateway protocol, sections 3 and 8).
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blockrun_magic.payments.wallets.solana import SolanaWallet, require_solders
from blockrun_magic.payments.x402.networks import SOLANA, Network
from blockrun_magic.payments.x402.requirements import (
    Authorization,
    PaymentPayload,
    PaymentRequirements,
    encode_payload,
    terms_refused,
)

if TYPE_CHECKING:
    from solders.message import MessageV0

__all__ = [
    "RecentBlockhash",
    "Transfer",
    "check_entry",
    "names_transaction",
    "read_transfer",
    "sign_transfer",
    "token_account",
]

_TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"  # noqa: S105  a program, no secret
_MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
_COMPUTE_BUDGET = "ComputeBudget111111111111111111111111111111"
_PROGRAM_IDS = {
    "11111111111111111111111111111111",
    "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL",
    "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
    _TOKEN,
    _MEMO,
    _COMPUTE_BUDGET,
}
"""Addresses of programs, to which no key exists."""

_DECIMALS = 6
_UNIT_LIMIT = 20_000
"""Compute units, as in the official client; the transfer and its memo take at most 19,300."""
_UNIT_PRICE = 1
"""Micro-lamports a unit: facilitators refuse more than five million."""
BLOCKHASH_TTL = 60
"""Approximate seconds for 150 blocks."""
_NONCE_BYTES = 16
_NONCE = re.compile(r"[0-9a-f]{32}")
_SET_LIMIT, _SET_PRICE, _TRANSFER_CHECKED = b"\x02", b"\x03", b"\x0c"
_VERSION_0 = b"\x80"


@dataclass(frozen=True, slots=True)
class RecentBlockhash:
    """A blockhash that dates a transaction; no block above the height `last_height` accepts such a transaction."""

    value: str
    last_height: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """The contents of a transaction of ours: accounts, payee, fee payer, amounts and blockhash.

    Addresses are base58, `source` and `destination` those of token accounts; `amount` is in micro-USDC.
    """

    fee_payer: str
    payer: str
    source: str
    destination: str
    mint: str
    amount: int
    decimals: int
    memo: str
    blockhash: str
    unit_limit: int = _UNIT_LIMIT
    unit_price: int = _UNIT_PRICE


def check_entry(entry: Mapping[str, Any], network: Network, payer: str) -> str:
    """Check the token, payee and fee payer of a requirement, and return the fee payer.

    Raises TermsRefused, and MissingDependency where solders is not installed.
    """
    require_solders()
    if entry.get("asset") != network.asset:
        raise terms_refused(f"The gateway asks for a token that is not USDC on {network.label}.")
    payee, extra = entry.get("payTo"), entry.get("extra")
    if not _names_key(payee):
        raise terms_refused(f"The gateway does not name a valid payee ({payee!r:.60}).")
    if payee in _PROGRAM_IDS or payee == network.asset:
        raise terms_refused("The gateway asks for a payment to a program, or to the token itself.")
    ours = (payer, token_account(payer))
    if payee in ours:
        raise terms_refused("The gateway asks for a payment to your own wallet.")
    if not isinstance(extra, Mapping) or not _can_sign(extra.get("feePayer")):
        raise terms_refused("The gateway names no account that can pay the transaction's fee.")
    if extra["feePayer"] in (*ours, network.asset, *_PROGRAM_IDS):
        raise terms_refused("The gateway must pay the transaction's fee itself, but names another account or none.")
    if extra.get("memo"):
        # Without our nonce, a payment could not be identified later.
        raise terms_refused("The gateway wants a text of its own to be signed with the payment.")
    return str(extra["feePayer"])


def token_account(owner: str) -> str:
    """Return the address of the account where `owner` keeps USDC: the associated token account, base58."""
    from solders.pubkey import Pubkey
    from solders.token.associated import get_associated_token_address

    return str(get_associated_token_address(Pubkey.from_string(owner), Pubkey.from_string(SOLANA.asset)))


def sign_transfer(
    terms: PaymentRequirements, wallet: SolanaWallet, recent: RecentBlockhash, now: int, nonce: bytes | None = None
) -> PaymentPayload:
    """Return `terms` signed by `wallet`: the header to send, and the authorization inside it.

    `now` is in Unix seconds, `recent` a blockhash of these seconds; the nonce is 16 random bytes unless given.
    Raises TermsRefused if the transaction, read back from its bytes, differs from the agreed terms.
    """
    from solders.message import to_bytes_versioned
    from solders.signature import Signature
    from solders.transaction import VersionedTransaction

    wanted = _agreed(terms, wallet.address, recent, (nonce or secrets.token_bytes(_NONCE_BYTES)).hex())
    message = _compiled(wanted)
    raw = to_bytes_versioned(message)
    if _read_back(raw) != wanted:
        raise terms_refused("The transaction for this payment differs from the agreed terms.")
    # The first signature, which names the transaction, is the fee payer's to add.
    signatures = [Signature.default(), Signature.from_bytes(wallet.sign(raw))]
    transaction = bytes(VersionedTransaction.populate(message, signatures))
    authorization = Authorization(
        payer=wanted.payer,
        pay_to=terms.pay_to,
        value=terms.amount,
        valid_after=now,
        valid_before=now + BLOCKHASH_TTL,
        nonce=wanted.memo,
        last_height=recent.last_height,
    )
    return encode_payload(terms, authorization, {"transaction": base64.b64encode(transaction).decode("ascii")})


def _agreed(terms: PaymentRequirements, payer: str, recent: RecentBlockhash, memo: str) -> Transfer:
    return Transfer(
        fee_payer=str(terms.fee_payer),
        payer=payer,
        source=token_account(payer),
        destination=token_account(terms.pay_to),
        mint=SOLANA.asset,
        amount=terms.amount,
        decimals=_DECIMALS,
        memo=memo,
        blockhash=recent.value,
    )


def _compiled(transfer: Transfer) -> MessageV0:
    from solders.hash import Hash
    from solders.instruction import AccountMeta, Instruction
    from solders.message import MessageV0
    from solders.pubkey import Pubkey

    key = Pubkey.from_string
    budget, token, memo = key(_COMPUTE_BUDGET), key(_TOKEN), key(_MEMO)
    accounts = [
        AccountMeta(key(transfer.source), is_signer=False, is_writable=True),
        AccountMeta(key(transfer.mint), is_signer=False, is_writable=False),
        AccountMeta(key(transfer.destination), is_signer=False, is_writable=True),
        AccountMeta(key(transfer.payer), is_signer=True, is_writable=False),
    ]
    instructions = [
        Instruction(budget, _SET_LIMIT + transfer.unit_limit.to_bytes(4, "little"), []),
        Instruction(budget, _SET_PRICE + transfer.unit_price.to_bytes(8, "little"), []),
        Instruction(
            token,
            _TRANSFER_CHECKED + transfer.amount.to_bytes(8, "little") + bytes([transfer.decimals]),
            accounts,
        ),
        Instruction(memo, transfer.memo.encode("ascii"), []),
    ]
    return MessageV0.try_compile(key(transfer.fee_payer), instructions, [], Hash.from_string(transfer.blockhash))


def read_transfer(message: bytes) -> Transfer:
    """Return the transfer in a versioned message of exactly our form; raises ValueError for any other."""
    from solders.message import MessageV0, to_bytes_versioned

    if message[:1] != _VERSION_0:
        raise ValueError("not a message of version 0")
    parsed = MessageV0.from_bytes(message[1:])
    if to_bytes_versioned(parsed) != message or parsed.address_table_lookups:
        raise ValueError("more in it than a plain message")
    keys = [str(key) for key in parsed.account_keys]
    accounts = _transfer_accounts(parsed, keys)
    limit, price, transfer, memo = (bytes(step.data) for step in parsed.instructions)
    if (limit[:1], price[:1], transfer[:1]) != (_SET_LIMIT, _SET_PRICE, _TRANSFER_CHECKED):
        raise ValueError("other instructions than a transfer's")
    if (len(limit), len(price), len(transfer)) != (5, 9, 10) or not _NONCE.fullmatch(memo.decode("ascii")):
        raise ValueError("instructions of another form")
    source, mint, destination, payer = accounts
    return Transfer(
        fee_payer=keys[0],
        payer=payer,
        source=source,
        destination=destination,
        mint=mint,
        amount=int.from_bytes(transfer[1:9], "little"),
        decimals=transfer[9],
        memo=memo.decode("ascii"),
        blockhash=str(parsed.recent_blockhash),
        unit_limit=int.from_bytes(limit[1:], "little"),
        unit_price=int.from_bytes(price[1:], "little"),
    )


def _transfer_accounts(message: MessageV0, keys: list[str]) -> tuple[str, str, str, str]:
    """Return source, mint, destination and owner of the only transfer; raises ValueError if there is more."""
    steps = message.instructions
    if any(index >= len(keys) for step in steps for index in (step.program_id_index, *step.accounts)):
        raise ValueError("accounts that it does not list")
    if [keys[step.program_id_index] for step in steps] != [_COMPUTE_BUDGET, _COMPUTE_BUDGET, _TOKEN, _MEMO]:
        raise ValueError("other instructions than a transfer's")
    if [len(step.accounts) for step in steps] != [0, 0, 4, 0]:
        raise ValueError("other accounts than a transfer's")
    source, mint, destination, owner = (keys[index] for index in steps[2].accounts)
    header = message.header
    counts = (
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    )
    # Fee payer and owner sign; of the others, only the two token accounts can be changed.
    if counts != (2, 1, 4) or keys[1] != owner or set(keys[2:4]) != {source, destination}:
        raise ValueError("other signers, or more that can be changed, than a transfer has")
    if sorted(keys[4:]) != sorted([_COMPUTE_BUDGET, _TOKEN, _MEMO, mint]):
        raise ValueError("accounts that nothing needs")
    return source, mint, destination, owner


def names_transaction(text: str) -> bool:
    """Return whether `text` is the id of a transaction: its first signature, 64 bytes in base58, not all zero."""
    from solders.signature import Signature

    try:
        return Signature.from_string(text) != Signature.default()
    except ValueError:
        return False


def _read_back(message: bytes) -> Transfer | None:
    try:
        return read_transfer(message)
    except ValueError:
        return None


def _names_key(text: Any) -> bool:
    from solders.pubkey import Pubkey

    try:
        return isinstance(text, str) and Pubkey.from_string(text) != Pubkey.default()
    except ValueError:
        return False


def _can_sign(text: Any) -> bool:
    from solders.pubkey import Pubkey

    return _names_key(text) and Pubkey.from_string(text).is_on_curve()
