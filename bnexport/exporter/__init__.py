"""A Keras model as an ONNX graph."""
