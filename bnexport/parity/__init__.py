"""Whether sides that must be equal are, and why they are not."""
