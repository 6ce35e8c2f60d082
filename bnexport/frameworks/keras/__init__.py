"""Keras models: reading, passes, layers, backends."""
