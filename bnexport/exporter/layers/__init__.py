"""The operators of Keras' layers, one file per family."""
