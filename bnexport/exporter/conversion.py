"""A loaded model as an ONNX graph that is complete: converted, with its weights, its metadata, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import refusing
from bnexport.exporter import keras_trace, tf2onnx_convert
from bnexport.frameworks.keras import model as keras_model
from bnexport.frameworks.keras.model import LoadedModel
from bnexport.frameworks.keras.traced import Trace
from bnexport.frameworks.saved_model.model import SavedModel
from bnexport.onnx_graph import finish, weights
from bnexport.system.files import Format
from bnexport.version import __version__

if TYPE_CHECKING:
    import onnx


def graph_of(loaded: LoadedModel, model_sidecar: Sidecar | None) -> onnx.ModelProto:
    """The inference graph of a loaded model, complete with weights and metadata."""
    with refusing(f"TensorFlow cannot trace the model in {loaded.path}"):
        traced = keras_trace.trace(loaded.keras, loaded.weights, [t.name for t in loaded.inputs], loaded.outputs)
    model = tf2onnx_convert.convert(traced)
    source = {"file": loaded.path.name, "format": str(loaded.format), "sha256": loaded.sha256}
    return add_weights_and_metadata(model, traced, source, model_sidecar, name=loaded.keras.name)


def saved_graph_of(saved: SavedModel, model_sidecar: Sidecar | None) -> onnx.ModelProto:
    """The graph of one signature of a SavedModel, complete with weights and metadata."""
    model = tf2onnx_convert.convert(saved.trace)
    source = {"file": saved.path.name, "format": str(Format.SAVED_MODEL), "sha256": saved.sha256}
    source |= {"signature": saved.signature} if saved.signature else {}
    return add_weights_and_metadata(model, saved.trace, source, model_sidecar)


def add_weights_and_metadata(
    model: onnx.ModelProto,
    traced: Trace,
    source: Mapping[str, str],
    model_sidecar: Sidecar | None,
    *,
    name: str = "model",
) -> onnx.ModelProto:
    """A converted graph with its weights and metadata.

    Args:
        model: the converted graph; changed in place.
        traced: what it was converted from.
        source: the file that was exported: its name, format and hash, and the signature of a SavedModel.
        model_sidecar: its sidecar.
        name: for the graph.
    """
    weights.attach(model, traced.weights)
    versions = {"bnexport": __version__, **keras_model.versions("tensorflow"), **tf2onnx_convert.versions()}
    try:
        finish.finish(
            model,
            name=name,
            producer_version=__version__,
            hidden=traced.logits,
            nodes={
                site.name: {"momentum": site.momentum, "frozen": site.frozen, "axis": site.axis}
                for site in traced.sites
            },
            properties={"source": dict(source), "versions": versions, **sidecar.for_metadata(model_sidecar)},
        )
    except finish.InvalidGraph as error:
        error.layer = tf2onnx_convert.layer_of(error.node, traced.layers)
        raise
    return model
