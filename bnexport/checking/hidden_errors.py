"""Errors of a deployed file that its outputs do not show: a layer that differs, or a weight that does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from bnexport.checking.probing import find_undone_on_data
from bnexport.comparison.deployed import Deployed
from bnexport.comparison.subject import Subject
from bnexport.numerics.clamped import Clamped
from bnexport.numerics.depth import hidden, undone
from bnexport.onnx_graph import kernels
from bnexport.onnx_graph.other_values import find_other_values
from bnexport.results.nouns import Noun
from bnexport.results.runs import Precision
from bnexport.results.verdict import Finding, LayerError
from bnexport.rules import hidden_errors
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx


def find_hidden(
    layers: Sequence[LayerError],
    deployed: Deployed | None,
    subject: Subject | None,
    title: str,
    noun: Noun,
    given: Mapping[str, Array],
) -> Finding | None:
    """EX001 for the layer where an error begins that is lost on the way to the outputs, or for weights that are not those of the model.

    What later layers undo is no error, and information where nothing else is wrong.

    Args:
        layers: all layers that were compared.
        deployed: the file; None where its outputs do not agree, or there is none.
        subject: what is checked.
        title: what sentences call the reference.
        noun: what the model was run on.
        given: a batch as the file takes it.
    """
    names, tensors = _undone(layers, deployed, subject)
    if (culprit := hidden([layer for layer in layers if layer.name not in names])) is not None:
        node = subject is not None and subject.reference.graph_itself
        if deployed is not None and subject is not None:
            unlike = kernels.compare_kernels(deployed.graph, subject.weights).unlike
            culprit = first_unlike(layers, unlike, subject.graph) or culprit
        return hidden_errors.hidden_error(culprit, layers, title, noun, node=node)
    if deployed is None or subject is None:
        return None
    if names and (partly := find_undone_on_data(deployed.graph, subject.graph, layers, tensors, given)) is not None:
        return hidden_errors.undone_on_data(names, *partly, title, noun)
    others = find_other_values(deployed.graph, subject.graph, tensors)
    if others or not names:
        return hidden_errors.hidden_weights(others, title, noun)
    return hidden_errors.undone_weights(names, title)


def find_unlike(deployed: Deployed, subject: Subject, title: str, noun: Noun) -> Finding | None:
    """EX001 for kernels of a file of reduced precision that cannot come from the model, where its outputs agree as far as that precision allows.

    An error that is smaller than what the precision costs shows in no output. Where most kernels are others, and the outputs agree, the file holds the
    model in another form, such as rotated weights.
    """
    matched = kernels.compare_kernels(deployed.graph, subject.graph)
    return None if matched.foreign else hidden_errors.unlike_kernels(matched.unlike, title, noun)


def first_unlike(
    layers: Sequence[LayerError], unlike: Collection[str], reference: onnx.ModelProto
) -> LayerError | None:
    """The first layer that is off and reads a kernel that cannot come from the model: what is off before it may be undone later."""
    readers = {name for node in reference.graph.node if not set(unlike).isdisjoint(node.input) for name in node.output}
    readers.update(name.rpartition("/")[0] for name in unlike)
    return next((layer for layer in layers if layer.off and layer.name in readers), None)


def find_clamped(deployed: Deployed | None, subject: Subject | None, precision: Precision) -> tuple[Clamped, ...]:
    """The weights of the model that a file in 16 bits holds cut or raised to a limit."""
    if deployed is None or subject is None or not precision.half:
        return ()
    return kernels.clamped_weights(deployed.graph, subject.weights)


def _undone(
    layers: Sequence[LayerError], deployed: Deployed | None, subject: Subject | None
) -> tuple[tuple[str, ...], set[str]]:
    """The layers that are off and undone later, and the tensors of the file that they and what undoes them make."""
    if deployed is None or subject is None or not any(layer.off for layer in layers):
        return (), set()
    compared = {layer.tensor for layer in layers if layer.known}
    behind = kernels.tensors_behind_others(deployed.graph, subject.weights, compared)
    others = {layer.name for layer in layers if layer.tensor in behind}
    names = undone(layers, others)
    explained = {
        layer.tensor
        for layer in layers
        if layer.name in names or (layer.name in others and any(name in names for name in layer.inputs))
    }
    return names, explained
