"""Output of cells and commands."""
