"""Queries that stay quick after years of receipts."""
