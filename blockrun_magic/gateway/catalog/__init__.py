"""Catalogs of models."""
