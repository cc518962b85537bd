"""What moves money: amounts, wallets, x402, caps and the ledger."""
