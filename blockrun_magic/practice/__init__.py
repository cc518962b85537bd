"""A gateway to learn on: the whole protocol on this machine, with play money."""
