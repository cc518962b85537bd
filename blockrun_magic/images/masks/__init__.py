"""Masks: the meaning of each kind, and the refusal of those with two meanings."""
