"""Search files for keys and payments: `python tests/release/scan_secrets.py FILE ...`, which pre-commit runs.

Without arguments, all tracked files are searched. `KNOWN` lists harmless values that look like secrets.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

KNOWN = {
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141",  # the order of the curve secp256k1
    "3d581455b3c18d4bbcbb9266889741ed3695f0c1b7b40e0bf30a299f6921f4a7",  # a request's digest in a test
    "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",  # the topic of ERC-20's Transfer event
    "98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5",  # the topic of EIP-3009's AuthorizationUsed
    "brk_live_0123456789abcdef0123",
    "brk_test_0123456789abcdefTHROWAWAY",  # the tests' own accounts, which do not exist
    "brk_live_wrongWRONGwrong",
    "4NMwxzmYj2uvHuq8xoqhY8RXg63KSVJM1DXkpbmkUY7YQWuoyQgFnnzn6yo3CMnqZasnNPNuAT2TLwQsCaKkUddp",  # a public example
}

_SECRETS = {
    "a private key, or something as long": re.compile(r"(?<![0-9a-zA-Z])(?:0x)?([0-9a-fA-F]{64})(?![0-9a-zA-Z])"),
    "a signature": re.compile(r"(?<![0-9a-zA-Z])(?:0x)?([0-9a-fA-F]{130})(?![0-9a-zA-Z])"),
    "a Solana key": re.compile(r"(?<![0-9a-zA-Z+/=])([1-9A-HJ-NP-Za-km-z]{86,88})(?![0-9a-zA-Z+/=])"),
    "a payment header": re.compile(r"(eyJ4NDAy[0-9A-Za-z+/=]{40,})"),
    "a BlockRun API key": re.compile(r"(brk_[0-9A-Za-z_]{16,})"),
    "a key in PEM": re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)"),
    "a token of GitHub or PyPI": re.compile(r"((?:gh[pousr]|github_pat)_[0-9A-Za-z_]{30,}|pypi-[0-9A-Za-z_-]{40,})"),
}
_PUBLIC = re.compile(r"(?:sha256:|transaction\b.{0,120})$", re.DOTALL)
"""Text before a digest or a transaction; both are public."""
_PICTURE = re.compile(r'"image/[a-z+]+": "[^"]*"|data:image/[^"\')\s]*')


def secrets_in(text: str) -> Iterator[str]:
    """Yield a description of each possible secret in `text`, without the secret."""
    text = _PICTURE.sub("", text)
    for kind, pattern in _SECRETS.items():
        for match in pattern.finditer(text):
            if match[1] not in KNOWN and not _PUBLIC.search(text, max(0, match.start() - 160), match.start()):
                yield f"line {text.count(chr(10), 0, match.start()) + 1}: {kind}, {match[1][:6]}..."


def tracked() -> list[Path]:
    """Return all files that git tracks here."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, cwd=ROOT).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def main(names: list[str]) -> int:
    """Print each possible secret; return 1 if any exists, otherwise 0."""
    found = 0
    for path in [Path(name) for name in names] or tracked():
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # an image or a deleted file
        for what in secrets_in(text):
            found = 1
            sys.stdout.write(f"{path}, {what}\n")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
