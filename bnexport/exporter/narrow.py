"""Nodes on bfloat16 numbers, for which runtimes have few operators: computed in float32, as TensorFlow does, and rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnexport.exporter.graph import Graph, Input, Shape, Value

NARROW = "bfloat16"
KEPT = {"Cast", "Identity", "Scan"}
"""The operators that are left as they are: those that runtimes have, and loops, whose layers Keras does not run in bfloat16."""


def compute_wide(
    g: Graph,
    op: str,
    inputs: Sequence[Input],
    outputs: Sequence[tuple[Shape, str] | None],
    *,
    channels_first: bool,
    name: str,
    **attributes: object,
) -> list[Value]:
    """Adds a node that computes in float32 what was asked for in bfloat16; the arguments are those of `Graph.node_with_outputs`.

    Returns:
        Its outputs, rounded to bfloat16 where they were to have that dtype.
    """
    first = next((str(dtype) for given in inputs if isinstance(dtype := getattr(given, "dtype", None), str)), NARROW)
    wide: list[Input] = []
    for given in inputs:
        narrow = given is not None and str(getattr(given, "dtype", first)) == NARROW
        wide.append(g.cast(g.value(given, first), "float32") if narrow else given)
    dtypes = [None if output is None else output[1] or first for output in outputs]
    asked = [
        None if output is None else (output[0], "float32" if dtype == NARROW else dtype or "")
        for output, dtype in zip(outputs, dtypes, strict=True)
    ]
    made = g.node_with_outputs(op, wide, asked, channels_first=channels_first, name=name, **attributes)
    return [g.cast(value, NARROW) if dtype == NARROW else value for value, dtype in zip(made, dtypes, strict=True)]
