"""SavedModel folders of TensorFlow."""
