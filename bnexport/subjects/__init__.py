"""What is checked, what it is checked on, and every way of computing its outputs."""
