"""Arithmetic on NumPy arrays, and the plain records it speaks in. No framework, no input or output."""
