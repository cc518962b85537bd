"""Commands of `%blockrun`, one module for each subject."""
