"""Polls on Solana: proved by a signature of the job's id, as in BlockRun's own client."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from solders.keypair import Keypair

from blockrun_magic.payments.secrets import Secret
from blockrun_magic.payments.wallets.solana import SolanaWallet
from blockrun_magic.payments.x402.solana_polls import poll_proof

NOW = 1_800_000_000


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/images/generations/img_1",
        "/v1/images/generations/img_1",
        "https://sol.blockrun.ai/api/v1/images/generations/img%2F1/",
    ],
)
def test_a_poll_is_signed_as_the_official_client_signs_it(address: str, recwarn: pytest.WarningsRecorder) -> None:
    """The headers are identical, because Ed25519 signatures are deterministic."""
    poll_auth: Any = importlib.import_module("blockrun_llm.poll_auth")
    pair = Keypair()
    theirs = poll_auth.poll_auth_headers(pair, "image", poll_auth.poll_job_id(address), now_s=NOW)

    assert theirs == dict(poll_proof(SolanaWallet(Secret(bytes(pair)), "a test"), address, NOW))


@pytest.mark.parametrize("address", ["/api/v1/videos/generations/v", "/v1/images/v", "/", "", "/v1/images/generations"])
def test_another_path_gets_no_proof(address: str) -> None:
    """Only the job of an image gets a signature."""
    wallet = SolanaWallet(Secret(bytes(Keypair())), "a test")

    assert {} == dict(poll_proof(wallet, address, NOW))
