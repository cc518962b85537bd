"""Kernels, servers and browsers that the tests start."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
