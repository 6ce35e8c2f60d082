"""`check --sweep`: batch sizes, open axes, zeros and NaN against the reference."""
