"""What the words of `%blockrun` do, a module for each part of the house they ask."""
