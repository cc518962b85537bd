"""Wallets of BlockRun's own SDK and of ours: each program finds the other's wallet with the same address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from blockrun_magic.payments.wallets.external import find_external_keys
from blockrun_magic.payments.wallets.keystore import address_of
from blockrun_magic.payments.wallets.registry import WalletRegistry, new_key


def official(home: Path, code: str) -> str:
    """Return the output of BlockRun's own SDK in a process with the home `home`."""
    command = [sys.executable, "-c", f"from blockrun_llm import wallet\n{code}"]
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    done = subprocess.run(command, env=kept | {"HOME": str(home)}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_official_sdk_loads_the_wallet_that_we_keep(tmp_path: Path) -> None:
    """The default wallet has the same path and format: the SDK sees the same address and creates no other wallet."""
    key = new_key()
    places = WalletRegistry.of({}, tmp_path)
    path = places.save_key("default", key)

    assert places.folder / ".session" == path
    assert address_of(key, "") == official(tmp_path, "print(wallet.get_wallet_address())")
    assert f"{address_of(key, '')} False" == official(
        tmp_path, "address, _, new = wallet.get_or_create_wallet(); print(address, new)"
    )


def test_what_the_official_sdk_discovers_is_found(tmp_path: Path) -> None:
    """`~/.*/wallet.json` and ClawRouter's file give a key; the address in the JSON is ignored."""
    other, claw = new_key(), new_key()
    for folder in (".someone", ".openclaw/blockrun", ".broken", ".solana"):
        (tmp_path / folder).mkdir(parents=True)
    claim = {"privateKey": "0x" + bytes(other.reveal()).hex(), "address": "0x" + "5a" * 20}
    (tmp_path / ".someone" / "wallet.json").write_text(json.dumps(claim))
    (tmp_path / ".openclaw" / "blockrun" / "wallet.key").write_text(f"0x{bytes(claw.reveal()).hex()}\n")
    (tmp_path / ".broken" / "wallet.json").write_text("{")
    (tmp_path / ".solana" / "wallet.json").write_text(json.dumps({"privateKey": "4Z" * 22, "address": "x"}))
    found = {path.relative_to(tmp_path).as_posix(): address_of(key, "") for path, key in find_external_keys(tmp_path)}
    listed = json.loads(official(tmp_path, "import json; print(json.dumps(wallet.list_discovered_wallets()))"))

    assert {
        ".openclaw/blockrun/wallet.key": address_of(claw, ""),
        ".someone/wallet.json": address_of(other, ""),
    } == found
    assert [found[".someone/wallet.json"]] == [entry["address"] for entry in listed]
