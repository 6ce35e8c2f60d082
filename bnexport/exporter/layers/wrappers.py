"""Bidirectional and TimeDistributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnexport.exporter.arithmetic import elementwise
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.keras_graph import write_part
from bnexport.exporter.layers import recurrent_nodes
from bnexport.exporter.layers.recurrent import (
    CONVOLUTIONAL,
    arguments,
    cell_of,
    first_value,
    in_order,
    one_way,
    refuse_stateful,
    wants_of,
)
from bnexport.exporter.layers.series import backwards, fold, unfold
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype
from bnexport.types import Nested

OPERATIONS = {"sum": "Add", "ave": "Add", "mul": "Mul"}
"""What merges the outputs of two layers; "ave" halves the sum."""


@emits("Bidirectional", mask="own")
def bidirectional(
    g: Graph, layer: StoredLayer, sequences: Nested, initial_state: Nested = None, mask: Value | None = None
) -> Value | tuple[Value, ...]:
    """A recurrent layer and another one that reads the steps backwards: one node where ONNX has one for both."""
    forward, backward = layer.parts["forward_layer"], layer.parts["backward_layer"]
    for part in (forward, backward):
        refuse_stateful(part)
    x, states, mask = arguments(g, sequences, initial_state, mask)
    wants = wants_of(forward, zero=bool(forward.config.get("return_sequences", False)))
    mode = layer.config.get("merge_mode", "concat")
    reverse = [bool(forward.config.get("go_backwards", False)), _reads_backwards(layer, backward)]
    if mask is None and reverse == [False, True] and _is_one_node(forward, backward, x.dtype):
        cells = [cell_of(forward), cell_of(backward)]
        outputs, ends = recurrent_nodes.both_ways(g, cells, x, states, mode, wants)
    else:
        outputs, ends, half = [], [], len(states) // 2
        for part, own, back in zip((forward, backward), (states[:half], states[half:]), reverse, strict=True):
            with g.scope(part.name):
                made = one_way(g, part, x, mask, own, wants, reverse=back)
                outputs.append(in_order(g, made, reverse=back))
                ends += made.states
        if wants.sequence:
            outputs[1] = backwards(g, outputs[1])
        outputs = _merged(g, outputs, mode)
    dtype = compute_dtype(layer.config.get("dtype"))
    shown = mask if mask is not None else first_value(sequences).mask
    outputs = [replace(g.cast(y, dtype), mask=shown if wants.sequence else None) for y in outputs]
    results = (*outputs, *(ends if wants.states else ()))
    return results[0] if len(results) == 1 else results


def _reads_backwards(layer: StoredLayer, backward: StoredLayer) -> bool:
    """Whether the second layer begins with the last step; one that Keras makes of the first does."""
    return bool(backward.config.get("go_backwards", False)) or layer.config.get("backward_layer") is None


def _is_one_node(forward: StoredLayer, backward: StoredLayer, dtype: str) -> bool:
    if forward.kind in CONVOLUTIONAL or backward.kind in CONVOLUTIONAL:
        return False
    cells = [cell_of(forward), cell_of(backward)]
    return all(recurrent_nodes.has_node(cell, dtype) for cell in cells) and recurrent_nodes.together(*cells)


def _merged(g: Graph, outputs: Sequence[Value], mode: str | None) -> list[Value]:
    first, second = outputs
    if mode is None:
        return [first, second]
    if mode == "concat":
        first, second = g.in_keras_order(first), g.in_keras_order(second)
        shape = (*first.shape[:-1], (first.shape[-1] or 0) + (second.shape[-1] or 0))
        return [g.node("Concat", [first, second], shape, axis=first.rank - 1)]
    total = elementwise(g, OPERATIONS[mode], first, second)
    return [elementwise(g, "Div", total, 2.0) if mode == "ave" else total]


LAST_AXIS = ("Activation", "Dense", "Dropout", "Embedding", "Identity")
"""Layers that do to a series what they do to each of its steps."""

MASKED = {
    *("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional", *CONVOLUTIONAL),
    *("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention"),
    *("Softmax", "GlobalAveragePooling1D"),
}
"""Layers whose output depends on a mask."""


@emits("TimeDistributed", mask="own")
def time_distributed(g: Graph, layer: StoredLayer, inputs: Value, mask: Value | None = None) -> Value:
    """A layer or a model on every step: the steps become examples, and are put together again."""
    part, mask = layer.parts["layer"], mask or inputs.mask
    if mask is not None and _reads_masks(part):
        raise NotCovered(f"the layer {layer.path}, which gives masks to the layer {part.name}")
    x = replace(inputs, mask=None)
    made: Value = write_part(g, part, x if part.kind in LAST_AXIS else fold(g, x))
    return replace(made if part.kind in LAST_AXIS else unfold(g, made, inputs), mask=mask)


def _reads_masks(layer: StoredLayer) -> bool:
    return layer.kind in MASKED or any(_reads_masks(part) for part in layer.parts.values())
