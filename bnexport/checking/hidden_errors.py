"""Errors of a deployed file that its outputs do not show: a layer that differs, or a weight that does."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.comparison.deployed import Deployed
from bnexport.comparison.subject import Subject
from bnexport.numerics.depth import hidden, undone
from bnexport.onnx_graph import kernels
from bnexport.onnx_graph.other_values import find_other_values
from bnexport.results.nouns import Noun
from bnexport.results.verdict import Finding, LayerError
from bnexport.rules import hidden_errors


def find_hidden(
    layers: Sequence[LayerError], deployed: Deployed | None, subject: Subject | None, title: str, noun: Noun
) -> Finding | None:
    """EX001 for the layer where an error begins that is lost on the way to the outputs, or for weights that are not those of the model.

    What later layers undo is no error, and information where nothing else is wrong.

    Args:
        layers: all layers that were compared.
        deployed: the file; None where its outputs do not agree, or there is none.
        subject: what is checked.
        title: what sentences call the reference.
        noun: what the model was run on.
    """
    names, tensors = _undone(layers, deployed, subject)
    if (culprit := hidden([layer for layer in layers if layer.name not in names])) is not None:
        node = subject is not None and subject.reference.graph_itself
        return hidden_errors.hidden_error(culprit, layers, title, noun, node=node)
    if deployed is None or subject is None:
        return None
    others = find_other_values(deployed.graph, subject.graph, tensors)
    if others or not names:
        return hidden_errors.hidden_weights(others, title, noun)
    return hidden_errors.undone_weights(names, title)


def find_unlike(deployed: Deployed, subject: Subject, title: str, noun: Noun) -> Finding | None:
    """EX001 for kernels of a file of reduced precision that cannot come from the model, where its outputs agree as far as that precision allows.

    An error that is smaller than what the precision costs shows in no output.
    """
    return hidden_errors.unlike_kernels(kernels.find_unlike(deployed.graph, subject.graph), title, noun)


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
