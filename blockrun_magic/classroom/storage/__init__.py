"""The classroom's own tables: people, orders, rules and the audit, beside the ledger in one database."""
