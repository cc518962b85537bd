"""Connections: opened, read and written below httpx."""
