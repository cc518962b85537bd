"""Wallets: keys, key files and where they are found."""
