"""Activation functions that sort, add up or split along an axis."""

from __future__ import annotations

import numpy as np

from bnexport.exporter.arithmetic import elementwise, integers, reduce, transpose, unary
from bnexport.exporter.graph import Graph, NotCovered, Value


def sparsemax(g: Graph, x: Value, axis: int = -1) -> Value:
    """What Keras computes (it adds up all sums of the support where Martins and Astudillo, 2016, take the last one)."""
    axis %= x.rank
    x = g.in_keras_order(x)
    if axis != x.rank - 1:
        order = [*(a for a in range(x.rank) if a != axis), axis]
        back = [order.index(a) for a in range(x.rank)]
        return transpose(g, sparsemax(g, transpose(g, x, order)), back)
    classes = x.shape[-1]
    if classes is None:
        raise NotCovered("sparsemax over an axis of open size")
    ordered, _ = g.node_with_outputs("TopK", [x, integers(classes)], [(x.shape, x.dtype), (x.shape, "int64")])
    sums = g.node("CumSum", [ordered, g.constant(np.asarray(x.rank - 1))], x.shape, x.dtype)
    ranks = g.constant(np.arange(1, classes + 1).astype(x.dtype))
    rest = elementwise(g, "Sub", ordered, elementwise(g, "Div", elementwise(g, "Sub", sums, 1.0), ranks))
    inside = g.cast(elementwise(g, "Greater", rest, 0.0, dtype="bool"), x.dtype)
    count = reduce(g, "ReduceSum", inside, [-1], keepdims=True)
    total = reduce(g, "ReduceSum", elementwise(g, "Mul", sums, inside), [-1], keepdims=True)
    threshold = elementwise(g, "Div", elementwise(g, "Sub", total, 1.0), count)
    return unary(g, "Relu", elementwise(g, "Sub", x, threshold))


def glu(g: Graph, x: Value, axis: int = -1) -> Value:
    """One half of an axis times the sigmoid of the other half."""
    x = g.in_keras_order(x)
    axis %= x.rank
    side = x.shape[axis]
    if side is None:
        raise NotCovered("glu over an axis of open size")
    shape = (*x.shape[:axis], side // 2, *x.shape[axis + 1 :])
    value, gate = g.node_with_outputs("Split", [x], [(shape, x.dtype)] * 2, axis=axis, num_outputs=2)
    return elementwise(g, "Mul", value, unary(g, "Sigmoid", gate))
