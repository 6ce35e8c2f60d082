"""What a sweep runs a model on: batches of other sizes, items of other sizes, and items of zeros or NaN, all made of the first items of the data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnexport.comparison.subject import Subject
from bnexport.datasets.feeds import Feed
from bnexport.onnx_graph import tensors
from bnexport.types import Array

BATCHES = (1, 2, 7)
"""The batch sizes that are tried."""

PARTIAL = (4, 3)
"""A full batch, and the partial one after it."""

LARGER = 1.5
"""An axis grows to so many times its size at most."""

MOST_VALUES = 1 << 24
"""An input has at most so many values, or as many as a batch of the data has."""

AXES = 4
"""So many axes are also changed alone."""

DIMMER = 1 / 32
"""Values that come again are so much smaller each time: equal items and equal patches would hide an exchange, and tie."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of the reference that is open, which several inputs may share.

    Args:
        name: what messages call it.
        where: the inputs and the positions in them.
        size: what it is in the data.
    """

    name: str
    where: tuple[tuple[str, int], ...]
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One axis of another size."""

    axis: Axis
    size: int

    @property
    def described(self) -> str:
        """In words."""
        return f"{self.axis.name} {self.axis.size} -> {self.size}"


def open_axes(subject: Subject, feed: Feed) -> list[Axis]:
    """The open axes other than the batch, those that inputs share together: of one symbol in the graph, or of the same position and size."""
    symbols = _symbols(subject)
    grouped: dict[object, list[tuple[str, int]]] = {}
    for name, shape in subject.shapes.items():
        x = feed.inputs[name]
        if len(shape) != x.ndim:
            continue
        for position, side in enumerate(shape):
            symbol = symbols.get((name, position), "")
            if position == 0 or side is not None or not x.shape[position] or symbol == symbols.get((name, 0), None):
                continue
            key = symbol or (position, x.shape[position])
            grouped.setdefault(key, []).append((name, position))
    axes = []
    for group, where in grouped.items():
        sizes = {feed.inputs[name].shape[position] for name, position in where}
        if len(sizes) == 1:
            name = _axis_name(group, where, alone=len(subject.shapes) == 1)
            axes.append(Axis(name, tuple(where), sizes.pop()))
    return axes


def _symbols(subject: Subject) -> dict[tuple[str, int], str]:
    """What the graph calls its open axes, by input and position."""
    return {
        (info.name, position): dim.dim_param
        for info in tensors.inputs(subject.graph)
        for position, dim in enumerate(info.type.tensor_type.shape.dim)
        if dim.dim_param
    }


def _axis_name(key: object, where: Sequence[tuple[str, int]], *, alone: bool) -> str:
    """Its symbol where that is a word; else its position, in an input that is alone or in several."""
    if isinstance(key, str) and key.isidentifier() and not key.startswith(("unk_", "dim_", "dynamic_axes_")):
        return key
    positions = sorted({position for _, position in where})
    return f"axis {positions[0]}" + ("" if alone else f" of {', '.join(name for name, _ in where)}")


def batch_is_open(subject: Subject) -> bool:
    """Whether the batch axis of every input is open."""
    return all(shape and shape[0] is None for shape in subject.shapes.values())


def take(feed: Feed, count: int, *, exact: bool) -> Feed:
    """So many items of a batch, from the first on and again.

    Args:
        feed: a batch.
        count: how many.
        exact: whether items that come again are the same; otherwise floating point numbers are dimmed (`DIMMER`).
    """
    own = len(feed.names)
    rows = np.arange(count) % own
    inputs = {
        name: x[rows] if exact else _dim(x[rows], np.arange(count) // own, axis=0) for name, x in feed.inputs.items()
    }
    positions = None if feed.positions is None else tuple(feed.positions[row] for row in rows)
    return Feed(inputs, tuple(feed.names[row] for row in rows), np.full(count, -1, np.int64), positions)


def resize(feed: Feed, changes: Sequence[Change], *, exact: bool) -> Feed:
    """A batch whose axes have other sizes: cut off, or continued from their start."""
    inputs = dict(feed.inputs)
    for change in changes:
        for name, position in change.axis.where:
            steps = np.arange(change.size)
            x = np.take(inputs[name], steps % change.axis.size, axis=position)
            inputs[name] = x if exact else _dim(x, steps // change.axis.size, axis=position)
    return replace(feed, inputs=inputs)


def _dim(x: Array, times: Array, *, axis: int) -> Array:
    """Values that come again made smaller; numbers without fractions, which may be indices, stay."""
    if x.dtype.kind != "f" or not np.any(times) or bool((np.rint(x) == x).all()):
        return x
    factor = (1 - DIMMER * np.asarray(times, np.float64)).clip(DIMMER, 1).reshape([-1, *[1] * (x.ndim - axis - 1)])
    return np.asarray(x * factor, x.dtype)


def other_sizes(size: int, nth: int, *, larger: bool) -> list[int]:
    """Sizes to try, the odd one first, then a multiple of a power of two, which nets that halve their input several times require.

    Args:
        size: the size in the data.
        nth: which axis it is: two axes get different sizes.
        larger: whether they are larger or smaller.

    >>> other_sizes(24, 0, larger=True), other_sizes(24, 1, larger=False), other_sizes(1, 0, larger=False)
    ([31, 32], [21, 16], [])
    """
    step = 4 if nth % 2 == 0 else 8
    if larger:
        most = max(size + 1, int(size * LARGER))
        odd = min(max((size + size * (1 if step == 4 else 3) // step) | 1, size + 1), most)
        even = next((m for p in (32, 16, 8, 4, 2) if (m := (size // p + 1) * p) <= most), 0)
    else:
        odd = (size - max(1, size // step)) | 1
        odd = odd if odd < size else size - 1
        even = next((m for p in (32, 16, 8, 4, 2) if size / 2 <= (m := (size - 1) // p * p)), 0)
    return [other for other in dict.fromkeys([odd, even]) if other > 0]


def size_changes(axes: Sequence[Axis]) -> Iterator[list[list[Change]]]:
    """Changes of sizes, each as a list of ways: the next one is tried where the reference refuses the one before."""
    together = [axes] if len(axes) > 1 else []
    for group in [*([axis] for axis in axes[:AXES]), *together]:
        for larger in (False, True):
            apart = [other_sizes(axis.size, axes.index(axis), larger=larger) for axis in group]
            alike = [
                other_sizes(axis.size, 0, larger=larger) for axis in group
            ]  # lengths that have to be equal stay so
            if all(apart):
                ways = [
                    [Change(axis, sizes[min(nth, len(sizes) - 1)]) for axis, sizes in zip(group, of_axes, strict=True)]
                    for nth in range(2)
                    for of_axes in (apart, alike)
                ]
                yield [way for nth, way in enumerate(ways) if way not in ways[:nth]]


def is_small_enough(feed: Feed, data: Feed) -> bool:
    """Whether no input has more values than is allowed."""
    return all(x.size <= max(MOST_VALUES, data.inputs[name].size) for name, x in feed.inputs.items())


def replace_item(feed: Feed, row: int, value: float, *, kinds: Collection[str]) -> Feed | None:
    """A batch in which one item consists of one value; None where no input is of these kinds of numbers."""
    inputs = dict(feed.inputs)
    chosen = [name for name, x in inputs.items() if x.dtype.kind in kinds and len(x) == len(feed.names)]
    for name in chosen:
        x = inputs[name].copy()
        x[row] = value
        inputs[name] = x
    return replace(feed, inputs=inputs) if chosen else None


def fixed_axes(shapes: Mapping[str, tuple[int | None, ...]], axis: Axis) -> str:
    """Where a file fixes an axis that is open in the reference, in words; "" where it does not."""
    for name, position in axis.where:
        shape = shapes.get(name, ())
        if position < len(shape) and shape[position] is not None:
            return f"the file fixes it to {shape[position]} (EX004)"
    return ""
