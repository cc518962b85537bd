"""Payment methods, prices and settlement."""
