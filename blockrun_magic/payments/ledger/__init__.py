"""The ledger: purchases, payments and limits, in SQLite."""
