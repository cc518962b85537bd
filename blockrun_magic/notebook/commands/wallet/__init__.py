"""`%blockrun wallet`."""
