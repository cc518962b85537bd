"""Payments on Solana: the cluster and the official package accept the transaction, and it contains nothing else."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import pickle
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from blockrun_magic.errors import (
    BlockrunError,
    Fate,
    GatewayUnreachable,
    JobFailed,
    PaymentOutcomeUnknown,
    TermsRefused,
    UsageError,
    WalletError,
    WalletMissing,
)
from blockrun_magic.gateway.chain.solana import recent_blockhash
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import gateway_named
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.payments.ledger.reports import spending_summary
from blockrun_magic.payments.ledger.states import State
from blockrun_magic.payments.wallets.solana import find_solana_wallet
from blockrun_magic.payments.x402.networks import SOLANA
from blockrun_magic.payments.x402.protocol import select_requirements
from blockrun_magic.payments.x402.requirements import PaymentRequired, PaymentRequirements
from blockrun_magic.payments.x402.solana import RecentBlockhash, Transfer, read_transfer, sign_transfer, token_account
from blockrun_magic.studio import Studio
from fakes.gateway import Clock, studio_over
from fakes.solana_rpc import FEE_PAYER, PAYEE, PAYER, ClusterRpc, LocalCluster, SolanaGate, entry_of, solana_payer

REQUEST = ImageRequest("generate", "a fox", "black-forest/flux-1.1-pro")
FUNDS, PRICE = 1_000_000, 42_000
ME = str(PAYER.pubkey())
SOMEBODY = str(Keypair.from_seed(bytes([9]) * 32).pubkey())
HASH = str(Hash(bytes([7]) * 32))


@pytest.fixture
def cluster() -> LocalCluster:
    """Return a cluster on which the payer has a dollar."""
    return LocalCluster(FUNDS)


@pytest.fixture
def servers(cluster: LocalCluster) -> Iterator[list[ClusterRpc]]:
    """Return three public servers of the cluster."""
    with ExitStack() as stack:
        yield [stack.enter_context(ClusterRpc(cluster)) for _ in range(3)]


@pytest.fixture
def gate(cluster: LocalCluster, servers: list[ClusterRpc]) -> Iterator[SolanaGate]:
    """Return a gateway that is paid on the cluster."""
    with SolanaGate(cluster, tuple(server.url for server in servers), PRICE) as running:
        yield running


def payments(studio: Studio) -> list[Payment]:
    """Return every payment for REQUEST in the ledger."""
    [purchase] = studio.ledger.takes("real", REQUEST.digest)
    return studio.ledger.payments(purchase.id)


def terms_of(**changes: Any) -> PaymentRequirements:
    """Return a gateway's terms with these changes."""
    return select_requirements(
        PaymentRequired(2, ({**entry_of(PRICE), **changes},)), (SOLANA,), "https://sol.blockrun.ai/api", ME
    )


def message_of(header: str) -> bytes:
    """Return the signed message in a payment header."""
    carried = json.loads(base64.b64decode(header))["payload"]["transaction"]
    return to_bytes_versioned(VersionedTransaction.from_bytes(base64.b64decode(carried)).message)


def test_our_signature_moves_the_token_and_the_ledger_has_the_transaction(
    cluster: LocalCluster, gate: SolanaGate, tmp_path: Path
) -> None:
    """The payer's debit, the payee's credit and the ledger's settled amount are equal."""

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            result = await studio.make(REQUEST, gate.gateway)
            again = await studio.make(REQUEST, gate.gateway)
            found = await studio.balance(gate.gateway)

            assert PRICE == cluster.balance(PAYEE) == spending_summary(studio.ledger, "real", "all").settled
            assert FUNDS - PRICE == cluster.balance(PAYER)
            assert found is not None
            assert FUNDS - PRICE == found.micros
            assert [result.receipt.transaction] == [one.signature for one in cluster.landed]
            assert result.receipt.transaction == again.receipt.transaction
            assert 1 == len(gate.shown)

    asyncio.run(buy())


def test_what_was_signed_says_what_was_agreed_on(gate: SolanaGate, tmp_path: Path) -> None:
    """The signed transaction has the agreed payer, token, amount, destination and fee payer."""

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            await studio.make(REQUEST, gate.gateway)
            [payment] = payments(studio)
            said = read_transfer(message_of(gate.shown[0]))

            assert payment.nonce == said.memo
            assert (ME, token_account(ME), token_account(str(PAYEE.pubkey()))) == (
                said.payer,
                said.source,
                said.destination,
            )
            assert (FEE_PAYER, SOLANA.asset, PRICE, 6) == (said.fee_payer, said.mint, said.amount, said.decimals)

    asyncio.run(buy())


@pytest.mark.parametrize("takes_proof", [True, False])
def test_a_job_is_charged_when_it_is_ordered_and_its_polls_are_proved(
    cluster: LocalCluster, gate: SolanaGate, tmp_path: Path, takes_proof: bool
) -> None:
    """A job is paid for once; polls carry a signature of its id, or the payment if the signature is refused."""
    gate.slow, gate.takes_proof = 2, takes_proof

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            result = await studio.make(REQUEST, gate.gateway)

            assert (PRICE, True) == (result.receipt.amount, result.receipt.settled)

    asyncio.run(buy())

    assert (PRICE, 1) == (cluster.balance(PAYEE), len(gate.shown))
    assert ([True, True] if takes_proof else [True, False, True, False]) == gate.proved


def test_a_job_that_fails_on_solana_was_charged_all_the_same(
    cluster: LocalCluster, gate: SolanaGate, tmp_path: Path
) -> None:
    """The ledger and the error report the failed job as paid."""
    gate.slow, gate.job_fails = 1, True

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            with pytest.raises(JobFailed) as caught:
                await studio.make(REQUEST, gate.gateway)

            assert caught.value.money is not None
            assert (Fate.PAID, PRICE) == (caught.value.money.fate, caught.value.money.amount)
            assert [State.SETTLED] == [payment.state for payment in payments(studio)]

    asyncio.run(buy())

    assert PRICE == cluster.balance(PAYEE)


def test_a_transaction_is_taken_once(cluster: LocalCluster, gate: SolanaGate, tmp_path: Path) -> None:
    """A second use of the same payment is refused and moves no money."""

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            await studio.make(REQUEST, gate.gateway)
            async with Client() as client:
                answer = await client.post(
                    gate.gateway, "/v1/images/generations", {}, {"PAYMENT-SIGNATURE": gate.shown[0]}
                )

            assert 402 == answer.status
            assert PRICE == cluster.balance(PAYEE)

    asyncio.run(buy())


def test_a_lost_answer_is_settled_when_two_servers_list_the_payment(
    cluster: LocalCluster, gate: SolanaGate, servers: list[ClusterRpc], tmp_path: Path
) -> None:
    """A payment with a lost response is settled only if two servers list it."""
    gate.loses = "settled"

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            for server in servers[1:]:
                server.twist = lambda method, result: None if method == "getSignaturesForAddress" else result
            with pytest.raises(PaymentOutcomeUnknown):
                await studio.make(REQUEST, gate.gateway)

            assert [State.UNKNOWN] == [payment.state for payment in payments(studio)]
            servers[1].twist = lambda _method, result: result

            assert 1 == await studio.reconcile(gate.gateway)
            [payment] = payments(studio)
            assert (State.SETTLED, cluster.landed[0].signature) == (payment.state, payment.transaction)
            assert PRICE == cluster.balance(PAYEE) == spending_summary(studio.ledger, "real", "all").settled

    asyncio.run(buy())


def test_what_was_not_cashed_is_given_back_when_its_blockhash_is_over(
    cluster: LocalCluster, gate: SolanaGate, servers: list[ClusterRpc], tmp_path: Path
) -> None:
    """A payment is released only after its last block height and only if no server lists it."""
    gate.loses = "unsettled"
    clock = Clock()

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer(), clock=clock) as studio:
            with pytest.raises(BlockrunError):
                await studio.make(REQUEST, gate.gateway)
            clock.ahead = 3600.0
            await studio.reconcile(gate.gateway)

            assert [State.UNKNOWN] == [payment.state for payment in payments(studio)]
            cluster.travel(1000)
            servers[0].twist = lambda method, result: (
                [_listed(payments_nonce)] if method == "getSignaturesForAddress" else result
            )
            payments_nonce = payments(studio)[0].nonce
            await studio.reconcile(gate.gateway)

            assert [State.UNKNOWN] == [payment.state for payment in payments(studio)]
            servers[0].twist = lambda _method, result: result
            await studio.reconcile(gate.gateway)

            assert [State.RELEASED] == [payment.state for payment in payments(studio)]
            gate.loses, clock.ahead = None, 0.0
            await studio.make(REQUEST, gate.gateway)

            assert PRICE == cluster.balance(PAYEE) == spending_summary(studio.ledger, "real", "all").settled

    asyncio.run(buy())


def _listed(nonce: str | None) -> dict[str, Any]:
    name = str(Keypair().sign_message(b"some transaction"))
    return {"signature": name, "slot": 1, "err": None, "memo": f"[32] {nonce}", "blockTime": 1}


def test_nothing_is_signed_without_two_servers_that_agree_on_the_height(
    gate: SolanaGate, servers: list[ClusterRpc], tmp_path: Path
) -> None:
    """If one server understates the height and another is silent, nothing is signed and nothing is reserved."""

    def understated(method: str, result: Any) -> Any:
        if method != "getLatestBlockhash":
            return result
        return {"value": {**result["value"], "lastValidBlockHeight": 5}}

    servers[0].twist = understated
    servers[1].twist = lambda _method, _result: None

    async def buy() -> None:
        async with studio_over(tmp_path, wallet=solana_payer()) as studio:
            with pytest.raises(GatewayUnreachable):
                await studio.make(REQUEST, gate.gateway)

            assert not gate.shown
            assert 0 == spending_summary(studio.ledger, "real", "all").at_risk
            servers[1].twist = lambda _method, result: result
            await studio.make(REQUEST, gate.gateway)

            assert 1 == len(gate.shown)

    asyncio.run(buy())


def test_a_height_is_the_higher_of_two(servers: list[ClusterRpc], cluster: LocalCluster) -> None:
    """If two servers differ slightly, the greater height counts, plus 150 blocks."""
    servers[0].twist = lambda _method, result: {
        "value": {**result["value"], "lastValidBlockHeight": result["value"]["lastValidBlockHeight"] - 100}
    }
    network = replace(SOLANA, rpc_urls=tuple(server.url for server in servers[:2]))

    async def ask() -> RecentBlockhash:
        async with Client() as client:
            return await recent_blockhash(client, network)

    assert cluster.blockhash[1] + 150 == asyncio.run(ask()).last_height


@pytest.mark.parametrize(
    "change",
    [
        {"asset": SOMEBODY},
        {"asset": SOLANA.asset.lower()},
        {"scheme": "upto"},
        {"amount": "0"},
        {"payTo": "0x" + "5a" * 20},
        {"payTo": None},
        {"payTo": str(Pubkey.default())},
        {"payTo": ME},
        {"payTo": token_account(ME)},
        {"payTo": SOLANA.asset},
        {"payTo": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"},
        {"extra": None},
        {"extra": {"feePayer": "nobody"}},
        {"extra": {"feePayer": ME}},
        {"extra": {"feePayer": token_account(SOMEBODY)}},
        {"extra": {"feePayer": FEE_PAYER, "memo": "a text"}},
    ],
)
def test_terms_that_we_do_not_sign(change: dict[str, Any]) -> None:
    """Terms with a wrong token, payee or fee payer are refused."""
    with pytest.raises(TermsRefused):
        terms_of(**change)


def test_a_gateway_on_base_is_not_paid_on_solana() -> None:
    """Gateways on Base are paid on their own networks only."""
    with pytest.raises(TermsRefused):
        select_requirements(
            PaymentRequired(2, (entry_of(PRICE),)),
            gateway_named("base", {}).networks,
            "https://blockrun.ai/api",
            "0x" + "11" * 20,
        )


def signed_message() -> bytes:
    """Return a message signed by this package."""
    recent = RecentBlockhash(HASH, 1)
    return message_of(sign_transfer(terms_of(), solana_payer(), recent, 0).header_value)


def test_a_message_with_anything_more_in_it_is_not_ours() -> None:
    """Additional or changed instructions, accounts, signers and versions are refused."""
    raw = signed_message()
    ours = MessageV0.from_bytes(raw[1:])
    program = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
    more = Instruction(program, b"hello", [])

    def compiled(instructions: list[Any], payer: str = FEE_PAYER) -> bytes:
        return to_bytes_versioned(
            MessageV0.try_compile(Pubkey.from_string(payer), instructions, [], Hash.from_string(HASH))
        )

    def plain(message: MessageV0) -> list[Instruction]:
        from solders.instruction import AccountMeta

        header, keys = message.header, message.account_keys
        signers = header.num_required_signatures
        writable = set(keys[2 : len(keys) - header.num_readonly_unsigned_accounts])
        return [
            Instruction(
                keys[step.program_id_index],
                bytes(step.data),
                [AccountMeta(keys[i], i < signers, keys[i] in writable) for i in step.accounts],
            )
            for step in message.instructions
        ]

    steps = plain(ours)

    assert raw == compiled(steps)
    twisted = [
        raw + b"\x00",
        raw[1:],
        b"\x81" + raw[1:],
        compiled([*steps, more]),
        compiled(steps[:3]),
        compiled([steps[2], *steps[:2], steps[3]]),
        compiled([*steps[:2], Instruction(steps[2].program_id, b"\x04" + bytes(9), steps[2].accounts), steps[3]]),
        compiled([*steps[:2], Instruction(steps[2].program_id, steps[2].data + b"\x00", steps[2].accounts), steps[3]]),
        compiled([*steps[:3], Instruction(program, b"no nonce", [])]),
        compiled(steps, payer=ME),
    ]
    for message in twisted:
        with pytest.raises(ValueError, match=r"."):
            read_transfer(message)


def test_a_message_with_one_byte_changed_says_something_else_or_nothing() -> None:
    """A changed byte gives another transfer or an error."""
    raw = signed_message()
    said = read_transfer(raw)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 + secrets.randbelow(255)
        try:
            other: Transfer | None = read_transfer(bytes(changed))
        except ValueError:
            other = None

        assert said != other, f"byte {place}"


def test_a_key_is_read_in_every_form_that_is_usual(tmp_path: Path) -> None:
    """Base58 keys, Base58 seeds and lists of solana-keygen are read from the environment; the SDKs' file works, too."""
    pair = bytes(PAYER)
    for text in (str(PAYER), f" '{PAYER}'\n", json.dumps(list(pair)), str(Pubkey(pair[:32]))):
        found = find_solana_wallet({"SOLANA_WALLET_KEY": text}, tmp_path)

        assert (ME, "SOLANA_WALLET_KEY") == (found.address, found.source)
    (tmp_path / ".blockrun").mkdir()
    path = tmp_path / ".blockrun" / ".solana-session"
    path.write_text(str(PAYER))
    path.chmod(0o644)
    found = find_solana_wallet({}, tmp_path)

    assert (ME, "~/.blockrun/.solana-session") == (found.address, found.source)
    assert "chmod 600" in str(found.warning)


@pytest.mark.parametrize("text", ["0x" + "ab" * 32, "not a key", json.dumps([300] * 64), json.dumps([1] * 64)])
def test_a_key_that_cannot_be_used_is_named_by_its_place(tmp_path: Path, text: str) -> None:
    """The error names the key's variable and omits the key."""
    with pytest.raises(WalletError) as caught:
        find_solana_wallet({"SOLANA_WALLET_KEY": text}, tmp_path)

    assert "SOLANA_WALLET_KEY" in str(caught.value)
    assert text not in str(caught.value)


def test_without_a_key_it_says_where_to_put_one(tmp_path: Path) -> None:
    """The error names the variable."""
    with pytest.raises(WalletMissing, match="SOLANA_WALLET_KEY"):
        find_solana_wallet({}, tmp_path)


def test_a_wallet_shows_nothing_and_is_not_pickled() -> None:
    """Neither repr nor copies nor pickles reveal the key."""
    wallet = solana_payer()

    assert "<SolanaWallet from a test>" == repr(wallet)
    assert wallet is copy.deepcopy(wallet)
    with pytest.raises(TypeError):
        pickle.dumps(wallet)


def test_the_servers_are_of_your_choice() -> None:
    """BLOCKRUN_SOLANA_RPC replaces the list; a single server or an unencrypted one is refused."""
    chosen = gateway_named("solana", {"BLOCKRUN_SOLANA_RPC": "https://a.example, https://b.example/key"})

    assert ("https://a.example", "https://b.example/key") == chosen.networks[0].rpc_urls
    for wrong in ("https://a.example", "https://a.example,https://a.example", "https://a.example,http://b.example"):
        with pytest.raises(UsageError):
            gateway_named("solana", {"BLOCKRUN_SOLANA_RPC": wrong})
