"""Series and their masks: steps first, steps in reverse order, the kept steps moved to the front."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bnexport.exporter.arithmetic import (
    elementwise,
    expand,
    integers,
    reduce,
    reshape,
    size_of,
    squeeze,
    take,
    transpose,
)
from bnexport.exporter.graph import Graph, Input, Shape, Value

STEPS_FIRST = "steps first"
"""The form (T, N, ...) of a series (N, T, ...)."""


def steps_first(g: Graph, x: Value) -> Value:
    """A series (N, T, ...) with its steps as the first axis."""
    x = g.in_keras_order(x)
    if (x.name, STEPS_FIRST) not in g.forms:
        g.forms[x.name, STEPS_FIRST] = transpose(g, x, [1, 0, *range(2, x.rank)])
    return g.forms[x.name, STEPS_FIRST]


def steps_second(g: Graph, series: Value) -> Value:
    """(T, N, ...) as (N, T, ...)."""
    made = transpose(g, series, [1, 0, *range(2, series.rank)])
    g.forms[made.name, STEPS_FIRST] = series
    return made


def backwards(g: Graph, x: Value) -> Value:
    """A series (N, T, ...) with its last step first."""
    return take(g, x, 1, -1, np.iinfo(np.int64).min, step=-1)


def as_mask(g: Graph, mask: Value) -> Value:
    """A mask as bool of shape (N, T)."""
    mask = g.cast(g.in_keras_order(mask), "bool")
    return squeeze(g, mask, *range(2, mask.rank)) if mask.rank > 2 else mask


FOLDED = "steps among the examples"
"""The form (N * T, ...) of a series (N, T, ...)."""

AS_LONG = "as long"
"""Another series with as many steps, which is in the graph in any case."""


def fold(g: Graph, x: Value) -> Value:
    """A series (N, T, ...) with each step as an example of its own."""
    if (x.name, FOLDED) not in g.forms:
        sides = x.shape[2:]
        sizes = (
            [g.constant(integers(-1)), *(size_of(g, x, axis) for axis in range(2, x.rank))] if None in sides else None
        )
        g.forms[x.name, FOLDED] = reshape(g, x, (None, *sides), sizes)
    return g.forms[x.name, FOLDED]


def unfold(g: Graph, x: Value, like: Value) -> Value:
    """What `fold` does to series with as many steps as `like`, undone."""
    like = g.forms.get((like.name, AS_LONG), like)
    shape = (like.shape[0], like.shape[1], *x.shape[1:])
    sizes = None
    if None in shape[1:]:
        sizes = [g.constant(integers(-1)), size_of(g, like, 1), *(size_of(g, x, axis) for axis in range(1, x.rank))]
    made = reshape(g, x, shape, sizes)
    g.forms |= {(made.name, FOLDED): replace(x, mask=None), (made.name, AS_LONG): like}
    return made


@dataclass(frozen=True, slots=True)
class Wants:
    """What is wanted of a recurrent layer.

    Args:
        sequence: the output of each step, rather than the last one.
        states: the last states.
        zero: zeros for steps that the mask leaves out, rather than the output before them.
    """

    sequence: bool
    states: bool
    zero: bool


@dataclass(frozen=True, slots=True)
class Pass:
    """What a layer computes in one direction.

    Args:
        sequence: (N, T, ...), the first step first whatever the direction; None where it is not wanted.
        last: the output of the step that was computed last.
        states: the states after it.
    """

    sequence: Value | None
    last: Value
    states: list[Value]


@dataclass(frozen=True, slots=True)
class Kept:
    """The steps that a mask keeps, in the order in which a layer computes them.

    ONNX' own way (`sequence_lens`) knows only series whose last steps are left out, and OpenVINO ignores it. Here the kept steps
    are moved to the front, where what comes behind them has no influence, and the results are moved back.

    Args:
        mask: (N, T).
        reverse: whether the last step is computed first.
        order: (N, T, 1): where the first, second ... kept step is, then where the others are.
        count: (N, T): how many kept steps are computed up to each step, itself included.
        total: (N, 1): how many are kept.
    """

    mask: Value
    reverse: bool
    order: Value
    count: Value
    total: Value

    @property
    def form(self) -> str:
        """What the steps of a series are called in this order, steps first (`Graph.forms`)."""
        return f"{STEPS_FIRST}, {'backwards, ' if self.reverse else ''}kept by {self.mask.name}"


def kept_steps(g: Graph, mask: Value, *, reverse: bool) -> Kept:
    """What a mask (N, T) keeps, computed once for each mask and direction.

    The keys T * mask - t are larger for kept steps than for others, and fall with t; T * mask + t rise with it.
    """
    names = [f"{name}, backwards" if reverse else name for name in ("order", "count", "total")]
    if (mask.name, names[0]) not in g.forms:
        steps, whole = size_of(g, mask, 1), g.cast(mask, "int64")
        keys = elementwise(g, "Mul", whole, steps)
        keys = elementwise(g, "Add" if reverse else "Sub", keys, positions(g, mask, 1))
        _, order = g.node_with_outputs("TopK", [keys, steps], [(mask.shape, "int64")] * 2)
        count = g.node("CumSum", [whole, np.asarray(1)], mask.shape, reverse=int(reverse) or None)
        made = (expand(g, order, -1), count, reduce(g, "ReduceSum", whole, [1], keepdims=True))
        g.forms |= {(mask.name, name): value for name, value in zip(names, made, strict=True)}
    order, count, total = (g.forms[mask.name, name] for name in names)
    return Kept(mask, reverse, order, count, total)


def positions(g: Graph, x: Value, axis: int) -> Value:
    """0, 1, 2 ... up to the size of an axis, as int64."""
    side = x.shape[axis]
    if side is not None:
        return g.constant(np.arange(side, dtype=np.int64))
    size = squeeze(g, size_of(g, x, axis), 0)
    return g.node("Range", [np.asarray(0), size, np.asarray(1)], (None,), "int64")


def at_front(g: Graph, x: Value, kept: Kept) -> Value:
    """A series (N, T, F) with the kept steps at its front, steps first."""
    x = g.in_keras_order(x)
    if (x.name, kept.form) not in g.forms:
        g.forms[x.name, kept.form] = steps_first(g, g.node("GatherND", [x, kept.order], x.shape, batch_dims=1))
    return g.forms[x.name, kept.form]


def put_back(g: Graph, x: Value, kept: Kept, *, zero: bool) -> Value:
    """What was computed of the kept steps, where these steps were.

    Args:
        g: the graph.
        x: (N, T, ...), the kept steps at the front.
        kept: the steps.
        zero: whether the others become 0; else they repeat the result of the kept step that was computed before them.

    Returns:
        (N, T, ...); 0 where no kept step was computed before.
    """
    before = kept.mask if zero else elementwise(g, "Greater", kept.count, np.asarray(0), dtype="bool")
    result = g.node("GatherND", [x, expand(g, _last_of(g, kept.count), -1)], x.shape, batch_dims=1)
    return where(g, before, result, 0.0)


def last_kept(g: Graph, x: Value, kept: Kept, otherwise: Value | float = 0.0) -> Value:
    """The result (N, ...) of the kept step that was computed last, of (N, T, ...) with the kept steps at the front."""
    last = g.node("GatherND", [x, _last_of(g, kept.total)], (x.shape[0], *x.shape[2:]), batch_dims=1)
    some = squeeze(g, elementwise(g, "Greater", kept.total, np.asarray(0), dtype="bool"), 1)
    return where(g, some, last, otherwise)


def _last_of(g: Graph, count: Value) -> Value:
    """The position of the last one of so many; 0 of none."""
    return elementwise(g, "Max", elementwise(g, "Sub", count, np.asarray(1)), np.asarray(0))


def where(g: Graph, condition: Value, x: Value, other: Value | float) -> Value:
    """`x` where the condition holds, which has axes for the first axes of `x`."""
    missing = x.rank - condition.rank
    if missing:
        condition = expand(g, condition, *range(condition.rank, x.rank))
    made = elementwise(g, "Where", condition, x, g.value(other, x.dtype), dtype=x.dtype)
    return replace(made, shape=x.shape, mask=None)


def zeros(g: Graph, like: Value, shape: Shape) -> Value:
    """Zeros for each example of `like`; the other sides are known."""
    sides: list[Input] = [size_of(g, like, 0), integers(*(side or 0 for side in shape[1:]))]
    size = g.node("Concat", sides, (len(shape),), "int64", axis=0)
    return g.node("Expand", [g.value(0.0, like.dtype), size], shape, like.dtype)
