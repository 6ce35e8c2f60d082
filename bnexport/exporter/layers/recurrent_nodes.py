"""Recurrent layers as one RNN, LSTM or GRU node of ONNX, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, integers, reduce, squeeze, transpose
from bnexport.exporter.graph import Graph, Value, numpy_dtype
from bnexport.exporter.layers.cells import STATES, reset_after, units_of
from bnexport.exporter.layers.series import (
    STEPS_FIRST,
    Kept,
    Pass,
    Wants,
    at_front,
    put_back,
    steps_first,
    steps_second,
    where,
)
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.repairs import HARD_SIGMOID
from bnexport.types import Array

OPERATORS = {"SimpleRNNCell": "RNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}

FUNCTIONS: dict[str, tuple[str, float | None, float | None]] = {
    "elu": ("Elu", 1.0, None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    HARD_SIGMOID: ("HardSigmoid", 0.2, 0.5),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "softplus": ("Softplus", None, None),
    "softsign": ("Softsign", None, None),
    "tanh": ("Tanh", None, None),
}
"""The activations that the nodes know, with alpha and beta."""

DEFAULTS = {"SimpleRNNCell": ["Tanh"], "LSTMCell": ["Sigmoid", "Tanh", "Tanh"], "GRUCell": ["Sigmoid", "Tanh"]}
"""What the operators compute where no activations are given."""


def has_node(cell: StoredLayer, dtype: str) -> bool:
    """Whether ONNX has a node for a cell with these activations; onnxruntime runs none in float64."""
    return cell.kind in OPERATORS and dtype != "float64" and all(name in FUNCTIONS for name in _functions(cell))


def together(first: StoredLayer, second: StoredLayer) -> bool:
    """Whether one node can hold both cells, one in each direction."""
    same = first.kind == second.kind and units_of(first) == units_of(second)
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
        steps: (T, directions, N, units), None where nobody wants it; with a mask the kept steps at the front.
        states: (directions, N, units) each: h, and c of an LSTM.
        kept: the steps that were computed; None for all.
    """

    steps: Value | None
    states: list[Value]
    kept: Kept | None


def add_node(
    g: Graph,
    cells: Sequence[StoredLayer],
    x: Value,
    kept: Kept | None,
    states: Sequence[Value],
    *,
    steps: bool,
    reverse: bool = False,
) -> Result:
    """Adds the node. It computes in float32, also where Keras rounds each step to half precision.

    Args:
        g: the graph.
        cells: one, or two for both directions.
        x: (N, T, F).
        kept: the steps that the mask keeps; None without a mask.
        states: the initial states of the first cell, then those of the second; none for zeros.
        steps: whether the output of each step is wanted.
        reverse: whether a single cell begins with the last step.
    """
    cell, dtype = cells[0], x.dtype
    series = steps_first(g, x) if kept is None else at_front(g, x, kept)
    count, shape = STATES[cell.kind], (len(cells), x.shape[0], units_of(cell))
    given = [_initial(g, states[nth::count]) for nth in range(count)] if states else []
    names, alphas, betas = _activations(cells)
    made = g.node_with_outputs(
        OPERATORS[cell.kind],
        [g.cast(series, "float32"), *_weights(g, cells, dtype), kept.lengths if kept is not None else None, *given],
        [((x.shape[1], *shape), "float32") if steps else None, *[(shape, "float32")] * count],
        hidden_size=units_of(cell),
        direction="bidirectional" if len(cells) == 2 else "reverse" if reverse else None,
        linear_before_reset=1 if cell.kind == "GRUCell" and reset_after(cell) else None,
        activations=names if names != DEFAULTS[cell.kind] * len(cells) else None,
        activation_alpha=alphas or None,
        activation_beta=betas or None,
    )
    return Result(g.cast(made[0], dtype) if steps else None, [g.cast(state, dtype) for state in made[1:]], kept)


def _activations(cells: Sequence[StoredLayer]) -> tuple[list[str], list[float], list[float]]:
    functions = [FUNCTIONS[name] for cell in cells for name in _functions(cell)]
    alphas = [alpha for _, alpha, _ in functions if alpha is not None]
    betas = [beta for _, _, beta in functions if beta is not None]
    return [name for name, _, _ in functions], alphas, betas


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
    bias = cell.array("bias") if _has_bias(cell) else np.zeros(size, np.float32)
    parts = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    return np.concatenate([_gates_first(cell, part[None])[:, 0] for part in parts])


def one_way(g: Graph, result: Result, initial: Sequence[Value], wants: Wants, *, reverse: bool) -> Pass:
    """What a layer gives, from a node with one direction."""
    states = [squeeze(g, state, 0) for state in result.states]
    kept = result.kept
    series = None if result.steps is None else squeeze(g, result.steps, 1)
    sequence = None if series is None else steps_second(g, series)
    if kept is None:
        return Pass(sequence, states[0], states)
    if sequence is not None and series is not None:
        sequence = put_back(g, sequence, kept, zero=wants.zero, reverse=reverse)
        g.forms[sequence.name, kept.form] = series
    return Pass(sequence, where(g, kept.some, states[0], 0.0), _held(g, kept, states, initial, wants))


def _held(g: Graph, kept: Kept, states: list[Value], initial: Sequence[Value], wants: Wants) -> list[Value]:
    """The last states, which are the initial ones where no step is kept."""
    if not wants.states:
        return states
    before: Sequence[Value | float] = list(initial) or [0.0] * len(states)
    return [where(g, kept.some, new, old) for new, old in zip(states, before, strict=True)]


REDUCTIONS = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}
"""How Bidirectional merges the directions, where it does not put them side by side."""


def both_ways(
    g: Graph, result: Result, mode: str | None, initial: Sequence[Value], wants: Wants
) -> tuple[list[Value], list[Value]]:
    """What Bidirectional gives, from a node with two directions: its output (two where they are not merged), and the last states."""
    kept, h = result.kept, result.states[0]
    states: list[Value] = []
    if wants.states:
        split = [_directions(g, state, 0) for state in result.states]
        states = [state[nth] for nth in (0, 1) for state in split]
        states = states if kept is None else _held(g, kept, states, initial, wants)
    if result.steps is None:
        if kept is not None:
            h = elementwise(g, "Where", kept.some, h, g.value(0.0, h.dtype), dtype=h.dtype)
        return _merged(g, h, 0, mode), states
    outputs = []
    for series in _merged(g, result.steps, 1, mode):
        output = steps_second(g, series)
        if kept is not None:
            output = put_back(g, output, kept, zero=True, reverse=False)
            g.forms[output.name, kept.form] = series
        elif mode == "concat":
            output = _side_by_side(g, transpose(g, result.steps, [2, 0, 1, 3]))
            g.forms[output.name, STEPS_FIRST] = series
        outputs.append(output)
    return outputs, states


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
