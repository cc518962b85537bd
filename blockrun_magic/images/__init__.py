"""What an image is here: a source to send, a file to keep, a receipt inside it."""
