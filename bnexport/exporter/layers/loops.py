"""Recurrent layers as a Scan: for cells, activations and dtypes that ONNX has no node for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bnexport.exporter.graph import Graph, Value, tensor_type
from bnexport.exporter.layers.series import Pass, Wants, where

if TYPE_CHECKING:
    import onnx

Step = Callable[[Value, Sequence[Value]], list[Value]]
"""One step: from what is read and the states to the new states."""


def loop(
    g: Graph,
    step: Step,
    x: Value,
    mask: Value | None,
    states: Sequence[Value],
    output: Value,
    wants: Wants,
    *,
    shown: int,
    reverse: bool,
) -> Pass:
    """Adds a Scan over the steps of a series.

    Args:
        g: the graph.
        step: adds the nodes of one step.
        x: (N, T, ...).
        mask: (N, T), or None.
        states: the initial ones.
        output: zeros of the shape of an output.
        wants: what is wanted.
        shown: which of the states is the output.
        reverse: whether the last step comes first.

    A masked step changes no state; its output is the one before it, or zero.
    """
    carried = [*states, *([output] if mask is not None else [])]
    with g.body() as nodes:
        inner = [g.local(f"state {nth}", state.shape, state.dtype) for nth, state in enumerate(carried)]
        read = [g.local("input", (x.shape[0], *x.shape[2:]), x.dtype)]
        if mask is not None:
            read.append(g.local("mask", (mask.shape[0],), "bool"))
        old = inner[: len(states)]
        new = step(read[0], old)
        given = new[shown]
        if mask is not None:
            given = where(g, read[1], given, 0.0 if wants.zero else inner[-1])
            new = [*(where(g, read[1], state, former) for state, former in zip(new, old, strict=True)), given]
        results = [g.node("Identity", [value], value.shape) for value in [*new, *([given] if wants.sequence else [])]]
    shapes = [(value.shape, value.dtype) for value in carried]
    if wants.sequence:
        shapes.append(((output.shape[0], x.shape[1], *output.shape[1:]), output.dtype))
    made = g.node_with_outputs(
        "Scan",
        [*carried, x, *([mask] if mask is not None else [])],
        shapes,
        body=_graph(f"{g.path}/step", nodes, [*inner, *read], results),
        num_scan_inputs=len(read),
        scan_input_axes=[1] * len(read),
        scan_input_directions=[int(reverse)] * len(read),
        scan_output_axes=[1] if wants.sequence else None,
        scan_output_directions=[int(reverse)] if wants.sequence else None,
    )
    last = made[len(states)] if mask is not None else made[shown]
    return Pass(made[-1] if wants.sequence else None, last, made[: len(states)])


def _graph(
    name: str, nodes: Sequence[onnx.NodeProto], inputs: Sequence[Value], outputs: Sequence[Value]
) -> onnx.GraphProto:
    from onnx import helper

    return helper.make_graph(nodes, name, [_info(value) for value in inputs], [_info(value) for value in outputs])


def _info(value: Value) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(value.name, tensor_type(value.dtype), list(value.shape))
