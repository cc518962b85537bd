"""Cells: flags, prompts and plans, and running them."""
