"""The functions that write `keras.ops` nodes as ONNX, a file for each family; and those for functions of TensorFlow in models of Keras 2."""
