"""Wallets: keys, key files and their locations."""
