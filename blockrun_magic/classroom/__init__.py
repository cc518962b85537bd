"""The classroom: one wallet for many."""
