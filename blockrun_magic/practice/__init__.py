"""The practice gateway: the whole protocol on this machine, with play money."""
