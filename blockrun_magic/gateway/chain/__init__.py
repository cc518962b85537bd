"""Chains: balances and authorization states."""
