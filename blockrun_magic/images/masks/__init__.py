"""Masks: what each kind means, and which are refused because they can mean two things."""
