"""Results: images with their receipts."""
