"""A check that is stored: packed where Keras is, verified where it is not."""
