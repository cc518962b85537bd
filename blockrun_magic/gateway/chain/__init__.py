"""What is asked of chains: balances and authorization states."""
