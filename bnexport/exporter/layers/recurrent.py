"""SimpleRNN, LSTM, GRU, ConvLSTM, and RNN over Keras' cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnexport.errors import ExportError
from bnexport.exporter.arithmetic import squeeze, take, transpose
from bnexport.exporter.graph import Graph, Value
from bnexport.exporter.keras_graph import flat
from bnexport.exporter.layers import recurrent_nodes
from bnexport.exporter.layers.cells import STATES, advance, cells_of, inputs_of, lstm_gates, split, step, units_of
from bnexport.exporter.layers.convolution import convolve, outputs_first
from bnexport.exporter.layers.loops import loop
from bnexport.exporter.layers.series import (
    Pass,
    Wants,
    as_mask,
    backwards,
    fold,
    kept_steps,
    unfold,
    where,
    zeros,
)
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype
from bnexport.types import Nested

CONVOLUTIONAL = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


@emits("SimpleRNN", "LSTM", "GRU", "RNN", *CONVOLUTIONAL, mask="own")
def recurrent(
    g: Graph, layer: StoredLayer, sequence: Nested, initial_state: Nested = None, mask: Value | None = None
) -> Value | tuple[Value, ...]:
    """The output of all steps or of the last one, and with `return_state` the states behind it."""
    refuse_stateful(layer)
    x, states, mask = arguments(g, sequence, initial_state, mask)
    config = layer.config
    wants = wants_of(layer, zero=bool(config.get("zero_output_for_mask", False)))
    reverse = bool(config.get("go_backwards", False))
    made = one_way(g, layer, x, mask, states, wants, reverse=reverse)
    output = in_order(g, made, reverse=reverse)
    if wants.sequence:
        output = replace(output, mask=mask if mask is not None else first_value(sequence).mask)
    return (output, *made.states) if wants.states else output


def refuse_stateful(layer: StoredLayer) -> None:
    """Raises the error of a layer that keeps its states from batch to batch."""
    if layer.config.get("stateful"):
        raise ExportError(
            f"EX002: the layer {layer.name} is stateful: its output depends on earlier batches, and an ONNX file has no state",
            fix="build the model with stateful=False, copy the weights with set_weights(get_weights()), and save it",
        )


def first_value(sequence: Nested) -> Value:
    """The series among the inputs: old files have the initial states behind it, in one list."""
    return next(iter(flat(sequence)))


def arguments(
    g: Graph, sequence: Nested, initial_state: Nested, mask: Value | None
) -> tuple[Value, list[Value], Value | None]:
    """The series, the initial states and the mask that counts: Keras reads the series' own mask only where it is the only input."""
    x, *states = flat(sequence)
    states += flat(initial_state)
    if mask is None and not states:
        mask = x.mask
    return g.in_keras_order(x), states, None if mask is None else as_mask(g, mask)


def wants_of(layer: StoredLayer, *, zero: bool) -> Wants:
    """What a layer gives."""
    config = layer.config
    return Wants(bool(config.get("return_sequences", False)), bool(config.get("return_state", False)), zero)


def in_order(g: Graph, made: Pass, *, reverse: bool) -> Value:
    """The output as the layer gives it: the steps in the order in which they were computed."""
    if made.sequence is None:
        return made.last
    return backwards(g, made.sequence) if reverse else made.sequence


def cell_of(layer: StoredLayer) -> StoredLayer:
    """The cell of a recurrent layer, with the layer's options where the layer has them."""
    cell = layer.parts["cell"]
    return cell if layer.kind == "RNN" else replace(cell, config=layer.config)


def one_way(
    g: Graph,
    layer: StoredLayer,
    x: Value,
    mask: Value | None,
    states: Sequence[Value],
    wants: Wants,
    *,
    reverse: bool,
) -> Pass:
    """What a layer computes in one direction.

    Args:
        g: the graph.
        layer: whose cell and options.
        x: (N, T, ...).
        mask: (N, T), or None.
        states: the initial ones; none for zeros.
        wants: what is wanted.
        reverse: whether the last step is computed first.
    """
    cell = cell_of(layer)
    states = [g.cast(state, compute_dtype(cell.config.get("dtype"))) for state in states]
    if layer.kind in CONVOLUTIONAL:
        made = _convolutional(g, cell, x, mask, states, wants, reverse=reverse)
    elif not _has_node(cell, x, mask, wants):
        made = _loop(g, cell, x, mask, states, wants, reverse=reverse)
    elif mask is None:
        made = recurrent_nodes.one_way(g, cell, x, states, wants, reverse=reverse)
    else:
        made = recurrent_nodes.masked(g, cell, x, kept_steps(g, mask, reverse=reverse), states, wants)
    if wants.zero and mask is not None and not wants.sequence:
        end = squeeze(g, take(g, mask, 1, 0, 1) if reverse else take(g, mask, 1, -1, np.iinfo(np.int64).max), 1)
        made = replace(made, last=where(g, end, made.last, 0.0))
    return made


def _has_node(cell: StoredLayer, x: Value, mask: Value | None, wants: Wants) -> bool:
    """Whether a node gives what is wanted; the c of an LSTM is known only for the last step, which a mask may leave out."""
    has_node = recurrent_nodes.has_node(cell, x.dtype)
    return has_node and (mask is None or not wants.states or STATES[cell.kind] == 1)


def _loop(
    g: Graph, cell: StoredLayer, x: Value, mask: Value | None, states: Sequence[Value], wants: Wants, *, reverse: bool
) -> Pass:
    cells = cells_of(cell)
    sizes = [units_of(inner) for inner in cells for _ in range(STATES[inner.kind])]
    given = [g.in_keras_order(state) for state in states] or [zeros(g, x, (x.shape[0], size)) for size in sizes]
    shown = len(sizes) - STATES[cells[-1].kind]
    output = zeros(g, x, (x.shape[0], sizes[-1]))

    def one_step(now: Value, old: Sequence[Value]) -> list[Value]:
        return advance(g, cells[0], now, old) if len(cells) == 1 else step(g, cell, now, old)

    series = inputs_of(g, cells[0], x) if len(cells) == 1 else x
    return loop(g, one_step, series, mask, given, output, wants, shown=shown, reverse=reverse)


def _convolutional(
    g: Graph, cell: StoredLayer, x: Value, mask: Value | None, states: Sequence[Value], wants: Wants, *, reverse: bool
) -> Pass:
    """An LSTM whose products are convolutions; the one of the inputs is computed for all steps at once.

    The loop has the channels second; what it gives is named after that.
    """
    last = cell.config.get("data_format") != "channels_first"
    gates = convolve(g, cell, fold(g, x), outputs_first(cell.array("kernel")))
    sides = gates.shape[1:-1] if last else gates.shape[2:]
    width = (gates.shape[-1] if last else gates.shape[1]) or 0
    series = unfold(g, Value(gates.name, (None, width, *sides), gates.dtype), x)
    shape = (x.shape[0], width // 4, *sides)
    given = [_channels_second(g, state, last=last) for state in states] or [zeros(g, x, shape)] * 2
    kernel = outputs_first(cell.array("recurrent_kernel"))
    plain = {"padding": "same", "strides": 1, "dilation_rate": 1, "data_format": "channels_first"}
    inside = replace(cell, config={**cell.config, **plain})

    def one_step(now: Value, old: Sequence[Value]) -> list[Value]:
        inner = convolve(g, inside, old[0], kernel, bias=False, name="recurrent_kernel")
        total = g.node("Add", [now, inner], now.shape)
        return lstm_gates(g, cell, split(g, total, 4, axis=1), old[1])

    made = loop(g, one_step, series, mask, given, zeros(g, x, shape), wants, shown=0, reverse=reverse)
    sequence = made.sequence
    if sequence is not None and last:
        sequence = transpose(g, sequence, [0, 1, *range(3, sequence.rank), 2])
    return Pass(sequence, _named(made.last, last=last), [_named(state, last=last) for state in made.states])


def _channels_second(g: Graph, state: Value, *, last: bool) -> Value:
    """A state with the channels second in its tensor, and its shape as the tensor has it."""
    if not last:
        return g.in_keras_order(state)
    tensor = g.with_channels_first(state)
    return Value(tensor.name, (tensor.shape[0], tensor.shape[-1], *tensor.shape[1:-1]), tensor.dtype)


def _named(state: Value, *, last: bool) -> Value:
    """The same in the layer's data format."""
    if not last:
        return state
    return Value(state.name, (state.shape[0], *state.shape[2:], state.shape[1]), state.dtype, channels_first=True)
