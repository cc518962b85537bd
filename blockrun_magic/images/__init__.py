"""Images: sources and masks to send, files to store, receipts inside them."""
