"""Orders in work: from the body of a request to images, whatever becomes of the connection."""
