"""Errors of a deployed file that its outputs do not show: a layer that differs, or a weight that does."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.comparison.deployed import Deployed
from bnexport.comparison.subject import Subject
from bnexport.numerics.depth import hidden
from bnexport.onnx_graph.other_values import find_other_values
from bnexport.results.nouns import Noun
from bnexport.results.verdict import Finding, LayerError
from bnexport.rules import hidden_errors


def find_hidden(
    layers: Sequence[LayerError], deployed: Deployed | None, subject: Subject | None, title: str, noun: Noun
) -> Finding | None:
    """EX001 for the layer where an error begins that is lost on the way to the outputs, or for weights that are not those of the model.

    Args:
        layers: all layers that were compared.
        deployed: the file; None where its outputs do not agree, or there is none.
        subject: what is checked.
        title: what sentences call the reference.
        noun: what the model was run on.
    """
    if (culprit := hidden(layers)) is not None:
        node = subject is not None and subject.reference.graph_itself
        return hidden_errors.hidden_error(culprit, layers, title, noun, node=node)
    if deployed is None or subject is None:
        return None
    return hidden_errors.hidden_weights(find_other_values(deployed.graph, subject.graph), title, noun)
