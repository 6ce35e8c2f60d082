"""The layer classes of Keras that have no form in ONNX, each with the reason, as a user reads it."""

from __future__ import annotations

TEXT = "which reads or writes text: export the part of the model behind it, from the token ids on"

IMPOSSIBLE: dict[str, str] = {
    "ContrastLimitedAdaptiveHistogramEqualization": "whose histograms of image tiles have no ONNX operator: equalise the images before the model",
    "FlaxLayer": "which calls a Flax module, whose code is not in the file",
    "HashedCrossing": "whose hash function (FarmHash64) has no ONNX operator: export the part behind it, from the numbers of the bins on",
    "Hashing": "whose hash function (FarmHash64) has no ONNX operator: export the part behind it, from the numbers of the bins on",
    "JaxLayer": "which calls a JAX function, whose code is not in the file",
    "Lambda": "which calls Python code: replace it by a layer or by keras.ops, or convert a subclass of Layer with the traced converter",
    "Layer": "which is the base class of layers and computes nothing of its own",
    "StringLookup": TEXT,
    "TFSMLayer": "which calls a SavedModel outside the file: export that SavedModel",
    "TextVectorization": TEXT,
    "TorchModuleWrapper": "which calls a PyTorch module: export that module with torch.onnx",
    "Wrapper": "which is the base class of wrappers and computes nothing of its own",
}
"""By class; the sentence begins with "Lambda layers, "."""
