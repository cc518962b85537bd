"""Notebook front end: magics, cards, the panel and the bridge between a cell and the studio."""
