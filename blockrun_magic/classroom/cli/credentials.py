"""Secrets in files, which systemd's LoadCredential, Docker and Kubernetes provide instead of variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blockrun_magic.errors import UsageError
from blockrun_magic.payments.secrets import RedactedEnviron
from blockrun_magic.text import sanitize

__all__ = ["FOLDER", "NAMES", "with_credentials"]

FOLDER = "CREDENTIALS_DIRECTORY"
"""The variable that names the folder; systemd sets it."""
NAMES = (
    "BLOCKRUN_WALLET_KEY",
    "BLOCKRUN_WALLET_PASSPHRASE",
    "BLOCKRUN_API_KEY",
    "SOLANA_WALLET_KEY",
    "JUPYTERHUB_API_TOKEN",
)
"""The files to read; a file takes precedence over a variable of the same name."""
_MAX_BYTES = 64 * 1024


def with_credentials(environ: Mapping[str, str]) -> RedactedEnviron:
    """Return the environment with the secrets from files; raises UsageError for an unreadable one."""
    folder = environ.get(FOLDER)
    secrets = {}
    for name in NAMES if folder else ():
        path = Path(str(folder)) / name
        try:
            if path.is_file():
                secrets[name] = path.read_bytes()[:_MAX_BYTES].decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = sanitize(getattr(error, "strerror", None) or "it is not text", 80)
            raise UsageError(f"{path} could not be read: {reason}.", "Correct the file or its permissions.") from None
    return RedactedEnviron({**environ, **secrets})
