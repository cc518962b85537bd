"""Payment by a classroom: orders instead of signatures."""
