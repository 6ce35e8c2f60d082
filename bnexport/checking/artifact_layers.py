"""Where a .tflite file leaves its model: the tensors that its operators make, by the names of the layers that TensorFlow's converter keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from bnexport.checking.localise import error_of_layer, with_floors
from bnexport.comparison.reference import Reference
from bnexport.comparison.sides import Feeds, Runner
from bnexport.errors import BnexportError
from bnexport.progress import Progress
from bnexport.results.runs import Precision
from bnexport.results.verdict import LayerError


def artifact_layers(runner: Runner, reference: Reference, feeds: Feeds, progress: Progress) -> tuple[LayerError, ...]:
    """The error of every layer whose output a file in float32 has a tensor of; none where the names in it do not say which that is.

    Args:
        runner: the run of the file.
        reference: the model.
        feeds: a batch.
        progress: notified of the stage.
    """
    file = runner.file
    exact = runner.spec.precision == Precision.FLOAT32
    if file is None or not file.inner or reference.graph_itself or not exact:
        return ()
    progress.stage("comparing layer by layer")
    try:
        layers = list(with_floors(reference, "inference", feeds))
        every = [layer.name for layer, _, _ in layers]
        names = tensors_by_layer(every, file.inner)
        names |= {name: [tensor, *names.get(name, ())] for name, tensor in runner.names.items() if name in every}
        values = file.compute(feeds, sorted({tensor for each in names.values() for tensor in each}))
    except BnexportError as error:
        progress.note(f"the layers of {runner.id} cannot be compared: {error}")
        return ()
    if not names:
        progress.note(f"the layers of {runner.id} cannot be compared: its tensors have no names of layers")
        return ()
    return tuple(
        _with_fused(
            error_of_layer(layer, x, [[(name, values[name]) for name in names.get(layer.name, ())]], floor), every
        )
        for layer, x, floor in layers
    )


def _with_fused(error: LayerError, layers: Sequence[str]) -> LayerError:
    """The same with the layers that the converter fused into the operator that makes the tensor."""
    parts = error.tensor.split(";")[1:]
    fused = {name: None for part in parts for name in layers if _layer_of(part, layers) == name and name != error.name}
    return replace(error, matched=f"fused with {' and '.join(fused)}") if fused else error


def _layer_of(part: str, layers: Sequence[str]) -> str:
    """The layer in whose scope an operator is; "" where there is none."""
    scopes = part.split("/")[:-1]
    return max((layer for layer in layers if "#" not in layer and _is_scope(layer, scopes)), key=len, default="")


def tensors_by_layer(layers: Sequence[str], tensors: Sequence[str]) -> dict[str, list[str]]:
    """The tensors that may be the output of each layer, the last one first.

    The converter joins the names of operators that it fuses by ";", the one that computes the output first. Keras' scopes end in "_1" where
    TensorFlow has numbered them, so that the longest name of a layer that fits is the one that is meant.

    >>> tensors_by_layer(["conv", "conv_1", "act"], ["f_1/act_1/Relu;f_1/conv_2/convolution", "f_1/conv_1_1/convolution", "f_1/conv_3/add"])
    {'act': ['f_1/act_1/Relu;f_1/conv_2/convolution'], 'conv_1': ['f_1/conv_1_1/convolution'], 'conv': ['f_1/conv_3/add']}
    """
    by_layer: dict[str, list[str]] = {}
    for tensor in reversed(tensors):
        if layer := _layer_of(tensor.partition(";")[0], layers):
            by_layer.setdefault(layer, []).append(tensor)
    return dict(reversed(by_layer.items()))


def _is_scope(layer: str, scopes: Sequence[str]) -> bool:
    parts = layer.split("/")
    starts = range(len(scopes) - len(parts) + 1)
    return any(all(map(_is_numbered, parts, scopes[start : start + len(parts)])) for start in starts)


def _is_numbered(name: str, scope: str) -> bool:
    return scope == name or re.fullmatch(rf"{re.escape(name)}_\d+", scope) is not None
