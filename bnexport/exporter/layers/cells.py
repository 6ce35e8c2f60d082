"""Recurrent cells: what one step computes, operator by operator, for every activation and dtype."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.exporter.arithmetic import elementwise, matmul
from bnexport.exporter.graph import Graph, NotCovered, Value, numpy_dtype
from bnexport.exporter.keras_graph import flat
from bnexport.exporter.layers.activations import activate
from bnexport.exporter.layers.core import stored
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Array

STATES = {"SimpleRNNCell": 1, "GRUCell": 1, "LSTMCell": 2}
"""How many states a cell has."""


def cells_of(cell: StoredLayer) -> list[StoredLayer]:
    """The cells of a stack, the first one first; a cell by itself.

    Raises:
        NotCovered: a cell is none of Keras' own.
    """
    if cell.kind == "StackedRNNCells":
        parts = [cell.parts[f"cells/{nth}"] for nth in range(len(cell.config["cells"]))]
        return [inner for part in parts for inner in cells_of(part)]
    if cell.kind not in STATES:
        raise NotCovered(f"recurrent cells of the class {cell.kind}")
    return [cell]


def units_of(cell: StoredLayer) -> int:
    """The width of a cell's output and states."""
    return int(cell.config["units"])


def step(g: Graph, cell: StoredLayer, x: Value, states: Sequence[Value]) -> list[Value]:
    """The new states after one step of a cell or a stack of cells; the first one of the last cell is the output.

    Args:
        g: the graph.
        cell: the cell.
        x: (N, F).
        states: (N, units) each, those of the first cell of a stack first.
    """
    made: list[Value] = []
    for inner in cells_of(cell):
        old = states[len(made) : len(made) + STATES[inner.kind]]
        new = advance(g, inner, inputs_of(g, inner, x), old)
        x = new[0]
        made += new
    return made


def inputs_of(g: Graph, cell: StoredLayer, x: Value) -> Value:
    """The product of the inputs (..., F) with the kernel, plus the bias: what of a step does not depend on the state."""
    with g.scope(cell.name):
        product = matmul(g, x, stored(g, cell, "kernel", x.dtype))
        if not cell.config.get("use_bias", True):
            return product
        bias = cell.array("bias")
        return elementwise(g, "Add", product, _part(g, "bias", bias[0] if bias.ndim == 2 else bias, x.dtype))


def advance(g: Graph, cell: StoredLayer, inputs: Value, states: Sequence[Value]) -> list[Value]:
    """The new states of a cell, from `inputs_of` one step and the former states."""
    with g.scope(cell.name):
        return STEPS[cell.kind](g, cell, inputs, states)


def _function(g: Graph, cell: StoredLayer, name: str, default: str, x: Value) -> Value:
    return activate(g, cell.config.get(name, default), x)


def split(g: Graph, x: Value, count: int, axis: int = -1) -> list[Value]:
    """`x` in equal parts along an axis."""
    axis %= x.rank
    shape = (*x.shape[:axis], (x.shape[axis] or 0) // count, *x.shape[axis + 1 :])
    return g.node_with_outputs("Split", [x], [(shape, x.dtype)] * count, axis=axis, num_outputs=count)


def _with_state(g: Graph, cell: StoredLayer, inputs: Value, h: Value) -> Value:
    """The inputs plus the product of the state with the recurrent kernel."""
    return elementwise(g, "Add", inputs, matmul(g, h, stored(g, cell, "recurrent_kernel", inputs.dtype)))


def _simple(g: Graph, cell: StoredLayer, inputs: Value, states: Sequence[Value]) -> list[Value]:
    """The new state f(x W + b + h R)."""
    return [_function(g, cell, "activation", "tanh", _with_state(g, cell, inputs, states[0]))]


def _lstm(g: Graph, cell: StoredLayer, inputs: Value, states: Sequence[Value]) -> list[Value]:
    """The gates i, f, c, o = x W + h R + b;  carry' = f carry + i g(c);  h' = o g(carry')."""
    return lstm_gates(g, cell, split(g, _with_state(g, cell, inputs, states[0]), 4), states[1])


def lstm_gates(g: Graph, cell: StoredLayer, gates: Sequence[Value], carry: Value) -> list[Value]:
    """The new states of an LSTM from its gates i, f, c, o before their activations, and the former carry."""
    enter, forget, new, leave = gates
    kept = elementwise(g, "Mul", _function(g, cell, "recurrent_activation", "sigmoid", forget), carry)
    admitted = _function(g, cell, "recurrent_activation", "sigmoid", enter)
    added = elementwise(g, "Mul", admitted, _function(g, cell, "activation", "tanh", new))
    carry = elementwise(g, "Add", kept, added)
    shown = _function(g, cell, "recurrent_activation", "sigmoid", leave)
    return [elementwise(g, "Mul", shown, _function(g, cell, "activation", "tanh", carry)), carry]


def _gru(g: Graph, cell: StoredLayer, inputs: Value, states: Sequence[Value]) -> list[Value]:
    """The gates z, r = s(x W + h R + b);  h' = z h + (1 - z) g(c), where r weighs h before or after its product with R."""
    h, dtype = states[0], inputs.dtype
    update_x, reset_x, new_x = split(g, inputs, 3)
    if reset_after(cell):
        inner = matmul(g, h, stored(g, cell, "recurrent_kernel", dtype))
        if cell.config.get("use_bias", True):
            inner = elementwise(g, "Add", inner, _part(g, "recurrent_bias", cell.array("bias")[1], dtype))
        update_h, reset_h, new_h = split(g, inner, 3)
    else:
        recurrent, units = cell.array("recurrent_kernel"), units_of(cell)
        gates = _part(g, "recurrent_kernel/gates", recurrent[:, : 2 * units], dtype)
        update_h, reset_h = split(g, matmul(g, h, gates), 2)
        new_h = _part(g, "recurrent_kernel/new", recurrent[:, 2 * units :], dtype)
    update = _function(g, cell, "recurrent_activation", "sigmoid", elementwise(g, "Add", update_x, update_h))
    reset = _function(g, cell, "recurrent_activation", "sigmoid", elementwise(g, "Add", reset_x, reset_h))
    if reset_after(cell):
        remembered = elementwise(g, "Mul", reset, new_h)
    else:
        remembered = matmul(g, elementwise(g, "Mul", reset, h), new_h)
    new = _function(g, cell, "activation", "tanh", elementwise(g, "Add", new_x, remembered))
    kept = elementwise(g, "Mul", update, h)
    return [elementwise(g, "Add", kept, elementwise(g, "Mul", elementwise(g, "Sub", 1.0, update), new))]


def _part(g: Graph, name: str, array: Array, dtype: str) -> Value:
    """A part of a weight, in the dtype that the layer computes in."""
    return g.weight(name, array.astype(numpy_dtype(dtype)))


def reset_after(cell: StoredLayer) -> bool:
    """Whether a GRU's reset gate weighs the product of the state with the recurrent kernel rather than the state."""
    return bool(cell.config.get("reset_after", True))


STEPS = {"SimpleRNNCell": _simple, "LSTMCell": _lstm, "GRUCell": _gru}


@emits("SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells", mask="off")
def cell_layer(
    g: Graph, layer: StoredLayer, inputs: Value, states: Value | Sequence[Value]
) -> tuple[Value, list[Value]]:
    """A cell that a model calls by itself, for one step."""
    given = [states] if isinstance(states, Value) else list(flat(states))
    new = step(g, layer, g.in_keras_order(inputs), given)
    return new[len(new) - STATES[cells_of(layer)[-1].kind]], new
