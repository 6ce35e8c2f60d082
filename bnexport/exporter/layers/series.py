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
    """The steps of a series that its mask keeps: at the front in their order, as ONNX' recurrent operators want them.

    Args:
        mask: (N, T).
        order: (N, T, 1): the kept steps, then the others.
        lengths: (N,), int32: how many are kept, at least 1.
        some: (N, 1): whether any is.
    """

    mask: Value
    order: Value
    lengths: Value
    some: Value

    @property
    def form(self) -> str:
        """What the steps of a series are called that are moved to the front, steps first (`Graph.forms`)."""
        return f"{STEPS_FIRST}, kept by {self.mask.name}"


def kept_steps(g: Graph, mask: Value) -> Kept:
    """What a mask (N, T) keeps; computed once for each mask.

    The keys T * mask - t are larger for kept steps than for others, and fall with t: their order is the one wanted.
    """
    forms = [g.forms.get((mask.name, form)) for form in ("order", "lengths", "some")]
    order, lengths, some = forms
    if order is None or lengths is None or some is None:
        steps, whole = size_of(g, mask, 1), g.cast(mask, "int64")
        keys = elementwise(g, "Sub", elementwise(g, "Mul", whole, steps), positions(g, mask, 1))
        _, order = g.node_with_outputs("TopK", [keys, steps], [(mask.shape, "int64")] * 2)
        order = expand(g, order, -1)
        count = reduce(g, "ReduceSum", whole, [1])
        lengths = g.cast(elementwise(g, "Max", count, np.asarray(1)), "int32")
        some = expand(g, elementwise(g, "Greater", count, np.asarray(0), dtype="bool"), -1)
        g.forms |= {(mask.name, "order"): order, (mask.name, "lengths"): lengths, (mask.name, "some"): some}
    return Kept(mask, order, lengths, some)


def positions(g: Graph, x: Value, axis: int) -> Value:
    """0, 1, 2 ... up to the size of an axis, as int64."""
    side = x.shape[axis]
    if side is not None:
        return g.constant(np.arange(side, dtype=np.int64))
    size = squeeze(g, size_of(g, x, axis), 0)
    return g.node("Range", [np.asarray(0), size, np.asarray(1)], (None,), "int64")


def at_front(g: Graph, x: Value, kept: Kept) -> Value:
    """A series (N, T, F) with the kept steps at its front, steps first; what the others hold does not matter."""
    x = g.in_keras_order(x)
    if (x.name, kept.form) not in g.forms:
        g.forms[x.name, kept.form] = steps_first(g, _steps(g, x, kept.order))
    return g.forms[x.name, kept.form]


def _steps(g: Graph, x: Value, indices: Value) -> Value:
    return g.node("GatherND", [x, indices], x.shape, batch_dims=1)


def put_back(g: Graph, x: Value, kept: Kept, *, zero: bool, reverse: bool) -> Value:
    """What was computed at the kept steps, where these steps were.

    Args:
        g: the graph.
        x: (N, T, ...), the kept steps at the front.
        kept: the steps.
        zero: whether the others become 0; else they repeat the result of the kept step that was computed before them.
        reverse: whether the last step was computed first.

    Returns:
        (N, T, ...); 0 where no kept step was computed before.
    """
    mask = kept.mask
    count = g.node("CumSum", [g.cast(mask, "int64"), np.asarray(1)], mask.shape, reverse=int(reverse and not zero))
    before = mask if zero else elementwise(g, "Greater", count, np.asarray(0), dtype="bool")
    if reverse and not zero:
        total = expand(g, g.cast(kept.lengths, "int64"), -1)
        place = elementwise(g, "Sub", total, count)
        place = elementwise(g, "Min", place, elementwise(g, "Sub", total, np.asarray(1)))
    else:
        place = elementwise(g, "Max", elementwise(g, "Sub", count, np.asarray(1)), np.asarray(0))
    result = _steps(g, x, expand(g, place, -1))
    return where(g, before, result, 0.0)


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
