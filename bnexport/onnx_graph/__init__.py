"""Edits on an ONNX graph (onnx and NumPy). Nothing here needs TensorFlow, and nothing runs a graph."""
