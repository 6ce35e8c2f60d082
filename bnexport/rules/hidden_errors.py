"""EX001 where the outputs of a deployed file agree and something in it does not: a layer, or a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bnexport.onnx_graph.other_values import OtherValues
from bnexport.results.actions import advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Comparison, Finding, LayerError, Severity
from bnexport.rules.actions import EXPORT
from bnexport.rules.export import EX001, look_at
from bnexport.rules.measured import describe, describe_inputs, describe_layer, describe_output, evidence_of

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


def unlike_kernels(
    shares: Mapping[str, float],
    title: str = "Keras",
    noun: Noun = IMAGES,
    failed: Sequence[Comparison] = (),
    file: str = "ONNX file",
) -> Finding | None:
    """EX001 where kernels of a file of reduced precision cannot come from the model; None where there are none.

    Args:
        shares: how far the signs of each agree with the nearest kernel of the file (`bnexport.onnx_graph.kernels.Kernels.unlike`).
        title: what sentences call the reference.
        noun: what the model was run on.
        failed: the comparisons that failed; none where the outputs agree as far as the precision allows.
        file: what sentences call the file.
    """
    if not shares:
        return None
    first = next(iter(shares))
    count = len(shares) - 1
    more = f", nor of {count} other{'s' if count > 1 else ''}" if count else ""
    outputs = (
        describe(failed)
        if failed
        else f"in the outputs for these {noun.many} that is not more than the precision costs"
    )
    message = (
        f"the {file} has other weights than {title}: no kernel of it has the values of {first}{more}, in any precision, scale, sign or order "
        f"of the channels; {outputs}"
    )
    actions = (
        advise("convert the file again from this model, or check the model that it was converted from", EXPORT),
        advise(f"do not deploy this file: the outputs for other {noun.many} may be wrong"),
    )
    layers = dict.fromkeys(name.rpartition("/")[0] or name for name in shares)
    evidence = {"kernels_unlike": dict(shares)} | (evidence_of(failed) if failed else {})
    return EX001.finding(Severity.ERROR, message, evidence, actions, tuple(layers)[:SHOWN])


def undone_weights(names: Sequence[str], title: str = "Keras") -> Finding:
    """EX001, as information, where weights are scaled or channels ordered otherwise, and the next layers undo it.

    Args:
        names: the layers that differ for this reason.
        title: what sentences call the reference.
    """
    count = f"in {len(names)} layers" if len(names) > 1 else "in one layer"
    message = (
        f"the ONNX file computes other values than {title} {count} (first {names[0]}), and the layers that read them have the weights "
        "that undo this, as after cross-layer equalisation: all other layers and the outputs agree"
    )
    return EX001.finding(Severity.INFO, message, {"layers_undone": list(names)}, (), tuple(names[:SHOWN]))


def undone_on_data(
    names: Sequence[str], reader: LayerError, apart: float, title: str = "Keras", noun: Noun = IMAGES
) -> Finding:
    """EX001 where weights are scaled or channels ordered otherwise, and the next layers undo it on the data only.

    Args:
        names: the layers that differ and are undone on the data.
        reader: the layer that does not undo it on random values.
        apart: how far its output is off there, relative to its scale.
        title: what sentences call the reference.
        noun: what the model was run on.
    """
    message = (
        f"the ONNX file computes other values than {title} before the layer {reader.name} ({reader.kind}), whose weights undo that for these {noun.many} "
        f"and not in general: on random values its output differs by {apart:.2g} of its scale, so weights before it, or its own, are wrong"
    )
    evidence = {"layers_undone": list(names), "first_layer": reader.name, "apart": apart}
    actions = (look_at(reader), advise(f"do not deploy this file: the outputs for other {noun.many} may be wrong"))
    return EX001.finding(Severity.ERROR, message, evidence, actions, (reader.name,))
