"""Questions that stay quick after years of receipts."""
