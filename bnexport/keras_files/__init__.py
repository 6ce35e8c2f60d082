"""The files that Keras models come in, read and repaired without Keras."""
