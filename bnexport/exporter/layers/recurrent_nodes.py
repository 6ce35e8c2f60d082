"""Recurrent layers as one RNN, LSTM or GRU node of ONNX, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from bnexport.exporter.arithmetic import expand, integers, reduce, squeeze, transpose
from bnexport.exporter.graph import Graph, Value, numpy_dtype
from bnexport.exporter.layers.cells import STATES, reset_after, units_of
from bnexport.exporter.layers.series import (
    STEPS_FIRST,
    Kept,
    Pass,
    Wants,
    at_front,
    last_kept,
    put_back,
    steps_first,
    steps_second,
)
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array

OPERATORS = {"SimpleRNNCell": "RNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}

FUNCTIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
"""The activations of nodes that every runtime knows. ONNX has more, HardSigmoid among them, but OpenVINO refuses these nodes."""

DEFAULTS = {"SimpleRNNCell": ["Tanh"], "LSTMCell": ["Sigmoid", "Tanh", "Tanh"], "GRUCell": ["Sigmoid", "Tanh"]}
"""What the operators compute where no activations are given."""


def has_node(cell: StoredLayer, dtype: str) -> bool:
    """Whether ONNX has a node for a cell with these activations; onnxruntime runs none in float64."""
    return cell.kind in OPERATORS and dtype != "float64" and all(name in FUNCTIONS for name in _functions(cell))


def together(first: StoredLayer, second: StoredLayer) -> bool:
    """Whether one node can hold both cells, one in each direction: OpenVINO wants the same activations."""
    same = first.kind == second.kind and units_of(first) == units_of(second) and _functions(first) == _functions(second)
    return same and (first.kind != "GRUCell" or reset_after(first) == reset_after(second))


def _name(activation: object) -> str:
    """The name of a function in a configuration; "" for what is none."""
    if isinstance(activation, dict):
        activation = activation.get("config") if activation.get("class_name") == "function" else ""
    return "linear" if activation is None else str(activation)


def _functions(cell: StoredLayer) -> list[str]:
    """The names of the activations in the order of ONNX: of the gates, of the cell, of the output."""
    own = _name(cell.config.get("activation", "tanh"))
    if cell.kind == "SimpleRNNCell":
        return [own]
    gates = _name(cell.config.get("recurrent_activation", "sigmoid"))
    return [gates, own] if cell.kind == "GRUCell" else [gates, own, own]


@dataclass(frozen=True, slots=True)
class Result:
    """The outputs of a node, one direction after the other.

    Args:
        steps: (T, directions, N, units); without a name where it is not wanted.
        states: (directions, N, units) each: h, and c of an LSTM.
    """

    steps: Value
    states: list[Value]


def add_node(
    g: Graph,
    cells: Sequence[StoredLayer],
    series: Value,
    states: Sequence[Value],
    *,
    steps: bool,
    reverse: bool = False,
) -> Result:
    """Adds the node. It computes in float32, also where Keras rounds each step to half precision.

    Args:
        g: the graph.
        cells: one, or two for both directions.
        series: (T, N, F).
        states: the initial states of the first cell, then those of the second; none for zeros.
        steps: whether the output of each step is wanted.
        reverse: whether a single cell begins with the last step.
    """
    cell, dtype = cells[0], series.dtype
    count, shape = STATES[cell.kind], (len(cells), series.shape[1], units_of(cell))
    given = [_initial(g, states[nth::count]) for nth in range(count)] if states else []
    names = [FUNCTIONS[name] for cell in cells for name in _functions(cell)]
    made = g.node_with_outputs(
        OPERATORS[cell.kind],
        [g.cast(series, "float32"), *_weights(g, cells, dtype), None, *given],
        [((series.shape[0], *shape), "float32") if steps else None, *[(shape, "float32")] * count],
        hidden_size=units_of(cell),
        direction="bidirectional" if len(cells) == 2 else "reverse" if reverse else None,
        linear_before_reset=1 if cell.kind == "GRUCell" and reset_after(cell) else None,
        activations=names if names != DEFAULTS[cell.kind] * len(cells) else None,
    )
    return Result(g.cast(made[0], dtype) if steps else made[0], [g.cast(state, dtype) for state in made[1:]])


def _initial(g: Graph, states: Sequence[Value]) -> Value:
    """A state of each direction as (directions, N, units)."""
    own = [g.cast(g.in_keras_order(state), "float32") for state in states]
    parts = [expand(g, state, 0) for state in own]
    return parts[0] if len(parts) == 1 else g.node("Concat", parts, (len(parts), *own[0].shape), axis=0)


def _weights(g: Graph, cells: Sequence[StoredLayer], dtype: str) -> list[Value | None]:
    """W, R and B of the node: rounded to the layer's dtype, kept in float32."""
    made: dict[str, Callable[[StoredLayer], Array]] = {
        "kernel": lambda cell: _gates_first(cell, cell.array("kernel")),
        "recurrent_kernel": lambda cell: _gates_first(cell, cell.array("recurrent_kernel")),
    }
    if any(_has_bias(cell) for cell in cells):
        made["bias"] = _bias
    weights: list[Value | None] = []
    with g.scope(cells[0].name) if len(cells) == 1 else nullcontext():
        for name, function in made.items():
            array = np.stack([function(cell) for cell in cells])
            if dtype != "float32":
                array = array.astype(numpy_dtype(dtype))
            weights.append(g.weight(name, array.astype(np.float32, copy=False)))
    return weights if len(weights) == 3 else [*weights, None]


def _gates_first(cell: StoredLayer, kernel: Array) -> Array:
    """(F, gates * units) in Keras' order as (gates * units, F) in the one of ONNX: LSTM has i o f c for i f c o."""
    if cell.kind == "LSTMCell":
        enter, forget, new, leave = np.split(kernel, 4, axis=-1)
        kernel = np.concatenate([enter, leave, forget, new], axis=-1)
    return np.ascontiguousarray(kernel.T)


def _has_bias(cell: StoredLayer) -> bool:
    return bool(cell.config.get("use_bias", True))


def _bias(cell: StoredLayer) -> Array:
    """The bias of the inputs, then the one of the states, which of Keras' cells only a GRU has."""
    size = cell.weights["recurrent_kernel"].shape[-1]
    bias: Array = cell.array("bias") if _has_bias(cell) else np.zeros(size, np.float32)
    parts = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    return np.concatenate([_gates_first(cell, part[None])[:, 0] for part in parts])


def one_way(g: Graph, cell: StoredLayer, x: Value, states: Sequence[Value], wants: Wants, *, reverse: bool) -> Pass:
    """What a layer computes of (N, T, F) in one direction."""
    result = add_node(g, [cell], steps_first(g, x), states, steps=wants.sequence, reverse=reverse)
    sequence = steps_second(g, squeeze(g, result.steps, 1)) if wants.sequence else None
    ends = [squeeze(g, state, 0) for state in result.states]
    return Pass(sequence, ends[0], ends)


def masked(g: Graph, cell: StoredLayer, x: Value, kept: Kept, states: Sequence[Value], wants: Wants) -> Pass:
    """The same of the kept steps, for a cell whose state is its output."""
    series = squeeze(g, add_node(g, [cell], at_front(g, x, kept), states, steps=True).steps, 1)
    computed = steps_second(g, series)
    last = last_kept(g, computed, kept)
    sequence = None
    if wants.sequence:
        sequence = put_back(g, computed, kept, zero=wants.zero)
        g.forms[sequence.name, kept.form] = series
    return Pass(sequence, last, [last_kept(g, computed, kept, states[0]) if states else last])


REDUCTIONS = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}
"""How Bidirectional merges the directions, where it does not put them side by side."""


def both_ways(
    g: Graph, cells: Sequence[StoredLayer], x: Value, states: Sequence[Value], mode: str | None, wants: Wants
) -> tuple[list[Value], list[Value]]:
    """What Bidirectional gives, from one node: its output (two where they are not merged), and the last states."""
    result = add_node(g, cells, steps_first(g, x), states, steps=wants.sequence)
    ends: list[Value] = []
    if wants.states:
        split = [_directions(g, state, 0) for state in result.states]
        ends = [state[nth] for nth in (0, 1) for state in split]
    if not wants.sequence:
        return _merged(g, result.states[0], 0, mode), ends
    outputs = []
    for series in _merged(g, result.steps, 1, mode):
        output = steps_second(g, series)
        if mode == "concat":
            output = _side_by_side(g, transpose(g, result.steps, [2, 0, 1, 3]))
            g.forms[output.name, STEPS_FIRST] = series
        outputs.append(output)
    return outputs, ends


def _merged(g: Graph, x: Value, axis: int, mode: str | None) -> list[Value]:
    """Both directions, which are the axis of `x` before (N, units), as one value, or as two without a mode."""
    if mode is None:
        return _directions(g, x, axis)
    if mode == "concat":
        return [_side_by_side(g, transpose(g, x, [*range(axis), axis + 1, axis, axis + 2]))]
    return [reduce(g, REDUCTIONS[mode], x, [axis])]


def _side_by_side(g: Graph, x: Value) -> Value:
    """(..., directions, units) as (..., directions * units)."""
    width = 2 * (x.shape[-1] or 0)
    return g.node("Reshape", [x, integers(*[0] * (x.rank - 2), width)], (*x.shape[:-2], width))


def _directions(g: Graph, x: Value, axis: int) -> list[Value]:
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    parts = g.node_with_outputs("Split", [x], [(shape, x.dtype)] * 2, axis=axis, num_outputs=2)
    return [squeeze(g, part, axis) for part in parts]
