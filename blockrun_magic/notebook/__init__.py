"""Notebook front end: magics, cards, the panel and the event loop between a cell and the studio."""
