"""Payments: amounts, wallets, x402, limits and the ledger."""
