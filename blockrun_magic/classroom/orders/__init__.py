"""Orders in progress: from the body of a request to images, independent of the connection."""
