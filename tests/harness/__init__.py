"""Helpers of the tests: kernels, servers and browsers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root folder of the repository."""

PATIENCE = 120
"""Seconds until a test gives up waiting for an event: much more than a busy machine needs."""
