"""EX001 where the outputs of a deployed file agree and something in it does not: a layer, or a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bnexport.onnx_graph.other_values import OtherValues
from bnexport.results.actions import advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, LayerError, Severity
from bnexport.rules.actions import EXPORT
from bnexport.rules.export import EX001, look_at
from bnexport.rules.measured import describe_inputs, describe_layer, describe_output

SHOWN = 8
"""So many layers are listed whose weights are others."""


def hidden_error(
    first: LayerError, layers: Sequence[LayerError], title: str = "Keras", noun: Noun = IMAGES, *, node: bool = False
) -> Finding:
    """EX001 where the outputs agree on these images, and a layer does not.

    Args:
        first: the layer where the error begins.
        layers: all layers that were compared.
        title: what sentences call the reference.
        noun: what the model was run on.
        node: whether the layers are nodes of a reference file.
    """
    off = [layer.name for layer in layers if layer.off]
    message = (
        f"the ONNX file differs from {title} in {describe_layer(first, node=node, layers=layers)}: {describe_inputs(first, layers)}, {describe_output(first)}; {'1 layer differs' if len(off) == 1 else f'{len(off)} layers differ'}, "
        f"but the outputs for these {noun.many} do not show it"
    )
    evidence = {
        "first_layer": first.name,
        "first_layer_tensor": first.tensor,
        "first_layer_max_rel": first.max_rel,
        "layers_off": off,
    }
    actions = (look_at(first), advise(f"do not deploy this file: the outputs for other {noun.many} may be wrong"))
    return EX001.finding(Severity.ERROR, message, evidence, actions, (first.name,))


def hidden_weights(others: Sequence[OtherValues], title: str = "Keras", noun: Noun = IMAGES) -> Finding | None:
    """EX001 where outputs and layers agree on these images, and weights do not; None where there are none.

    Args:
        others: the weights that the file has with other values.
        title: what sentences call the reference.
        noun: what the model was run on.
    """
    if not others:
        return None
    first = others[0]
    more = f", and {len(others) - 1} others" if len(others) > 1 else ""
    message = (
        f"the ONNX file has the operators of {title} and other weights: {first.name} differs by {first.apart:.2g}, its largest value is "
        f"{first.size:.2g}{more}; the outputs for these {noun.many} do not show it"
    )
    evidence = {"weights_other": [asdict(other) for other in others]}
    actions = (
        advise("export the file again from this model, or check the model that it was exported from", EXPORT),
        advise(f"do not deploy this file: the outputs for other {noun.many} may be wrong"),
    )
    layers = dict.fromkeys(other.name.rpartition("/")[0] or other.name for other in others)
    return EX001.finding(Severity.ERROR, message, evidence, actions, tuple(layers)[:SHOWN])
