"""The scan for secrets, which `make lint` and pre-commit run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from release import scan_secrets

KEY = "0x" + "ab" * 32
"""Thirty-two bytes that belong to no account."""


@pytest.mark.parametrize(
    "planted",
    [
        f"key = '{KEY}'",
        f"  {KEY[2:]}",
        "0x" + "ab" * 65,
        "eyJ4NDAy" + "VmVyc2lvbiI6MiwiZXJyb3IiOiJQQVlNRU5ULVNJR05BVFVSRSBoZWFkZXIi",
        "BLOCKRUN_API_KEY=brk_" + "live_0123456789abcdef",
        "-----BEGIN EC " + "PRIVATE KEY-----",
        "ghp_" + "a1" * 18,
        "3" * 87,
    ],
)
def test_a_secret_is_found_wherever_it_stands(tmp_path: Path, planted: str) -> None:
    """The exit status is 1, and the output names the line without the secret."""
    file = tmp_path / "note.txt"
    file.write_text(f"first line\n{planted}\n", "utf-8")
    command = [sys.executable, Path(scan_secrets.__file__), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert "note.txt, line 2: " in done.stdout
    assert planted not in done.stdout


def test_what_is_public_is_no_secret() -> None:
    """Digests, transactions and images are not reported."""
    public = f'sha256:{KEY[2:]}\ntransaction  {KEY}\n<td>transaction</td><td>{KEY}</td>\n"image/png": "{"A1" * 60}"'

    assert [] == list(scan_secrets.secrets_in(public))
