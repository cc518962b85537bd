"""Kernels, servers and browsers that the tests start."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

PATIENCE = 120
"""Seconds after which a test gives up waiting for an event: far more than a busy machine needs."""
