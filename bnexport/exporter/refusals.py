"""What has no form in ONNX: layer classes of Keras, each with the reason, as a user reads it, and ways of using layers."""

from __future__ import annotations

from bnexport.exporter.graph import NotCovered


class NotExpressible(NotCovered):
    """A way of using a layer that other converters write as something else: none of them is tried."""


TEXT = "which read or write text (export the part of the model behind them, from the token ids on)"
HASH = (
    "whose hash function, FarmHash64, ONNX does not have (export the part behind them, from the numbers of the bins on)"
)
BASE = "which compute nothing of their own"

IMPOSSIBLE: dict[str, str] = {
    "ContrastLimitedAdaptiveHistogramEqualization": "whose histograms of image tiles ONNX does not have (equalise the images before the model)",
    "FlaxLayer": "which call a Flax module that is not in the file",
    "HashedCrossing": HASH,
    "Hashing": HASH,
    "JaxLayer": "which call a JAX function that is not in the file",
    "Lambda": "which call Python code (a layer of keras.layers or an operation of keras.ops in its place can be exported)",
    "Layer": BASE,
    "StringLookup": TEXT,
    "TFSMLayer": "which call a SavedModel outside the file (export that SavedModel)",
    "TextVectorization": TEXT,
    "TorchModuleWrapper": "which call a PyTorch module (export that module with torch.onnx)",
    "Wrapper": BASE,
}
"""By class; the sentence begins with "Lambda layers, "."""
