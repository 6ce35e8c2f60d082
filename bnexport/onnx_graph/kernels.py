"""Whether two graphs hold the same weights: their kernels, the weights of two and more axes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.clamped import Clamped, find_clamped
from bnexport.numerics.permuted import Permuted, find_order
from bnexport.numerics.rearranged import Channels, Order, align, is_layout, same_order
from bnexport.onnx_graph import subgraphs, weights
from bnexport.onnx_graph.quantised import dequantise, quantisation, unread_sizes
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

    Weights = onnx.ModelProto | Mapping[str, Array]

SMALLEST = 16
"""Weights of fewer values say nothing."""

SAME = 1e-2
"""Kernels are the same up to this share of their size: float16 and 8 bits round as much."""


SIGNS = 0.7
"""The signs of large weights of kernels that have something to do with each other agree at least so far: 1 where all do, 0 where half do."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """What became of the kernels of one graph in another: their names, by what was found there.

    Args:
        same: the same values, also transposed.
        scaled: the same but for a factor for each channel of one axis, as after folding BatchNormalization, or of both, as after equalisation.
        other: a kernel of that shape is there, with other values, and how far the signs of the nearest one agree: 1 where all do, 0 where half do.
        absent: there is none of that shape.
        permuted: the same but for the order of the channels on one axis.
        rearranged: the same but for the order and scale of the channels on both axes, and that order for each axis.
    """

    same: tuple[str, ...]
    scaled: tuple[str, ...]
    other: Mapping[str, float]
    absent: tuple[str, ...]
    permuted: tuple[Permuted, ...] = ()
    rearranged: Mapping[str, tuple[Order, Order]] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """How many can be compared."""
        return len(self.same) + len(self.scaled) + len(self.other) + len(self.permuted) + len(self.rearranged)

    @property
    def foreign(self) -> bool:
        """Whether most of what can be compared has other values: the weights of another checkpoint."""
        return 2 * len(self.other) > self.compared

    @property
    def unlike(self) -> dict[str, float]:
        """The kernels that cannot have become what is there, whatever the precision and scale, and how far signs agree.

        Rounding, calibration, pruning and folding keep the signs of large weights, but for a sign for each channel. Channels in another order
        are in that order in another kernel, too, unless it is that of another layout.
        """
        shares = {name: share for name, share in self.other.items() if share < SIGNS}
        if shares:
            return shares  # those that follow may be in the order of what one of these ought to be
        moved = {permuted.name: [np.argsort(permuted.order)] for permuted in self.permuted}
        for name, each in self.rearranged.items():
            moved[name] = [order for order in each if not same_order(order, np.arange(len(order)))]
        for name, ours in moved.items():
            others = [order for other, theirs in moved.items() if other != name for order in theirs]
            if not all(is_layout(order) or any(same_order(order, other) for other in others) for order in ours):
                shares[name] = 0.0
        return shares


def compare_kernels(actual: Weights, reference: Weights) -> Kernels:
    """The kernels of `reference` as they are found in `actual`; each is a graph, or weights by name."""
    find, wanted = _candidates(actual), _kernels(_weights(reference))
    unread: list[range] | None = None
    groups: dict[str, list[str]] = {"same": [], "scaled": [], "absent": []}
    other, permuted, rearranged = dict[str, float](), list[Permuted](), dict[str, tuple[Order, Order]]()
    rounded = not isinstance(actual, Mapping) and quantisation(actual) is not None
    for name, kernel in wanted.items():
        candidates = find(kernel)
        state = _state(kernel, candidates, rounded=rounded)
        if state == "other" and unread is None:
            unread = [] if isinstance(actual, Mapping) else unread_sizes(actual)
        if state != "other":
            groups[state].append(name)
        elif unread and any(kernel.size in sizes for sizes in unread):
            groups["absent"].append(name)  # it may be there in a form that is not read
        elif (moved := _find_permuted(name, kernel, candidates)) is not None:
            permuted.append(moved)
        else:
            share = max(_agreement(kernel, candidate) for candidate in candidates)
            orders = _find_rearranged(kernel, candidates) if share < SIGNS else None
            if orders is None:
                other[name] = share
            else:
                rearranged[name] = orders
    same, scaled, absent = (tuple(groups[state]) for state in ("same", "scaled", "absent"))
    return Kernels(same, scaled, other, absent, tuple(permuted), rearranged)


def _candidates(actual: Weights) -> Callable[[Array], list[Array]]:
    """Finds the kernels that may be another one by their shapes, in its layout."""
    there: dict[tuple[int, ...], list[Array]] = {}
    for kernel in _kernels(_weights(actual)).values():
        there.setdefault(_shape(kernel), []).append(kernel)
    return lambda kernel: [
        turned for other in there.get(_shape(kernel), []) for turned in _orientations(other, kernel.shape)
    ]


def clamped_weights(actual: onnx.ModelProto, reference: Weights) -> tuple[Clamped, ...]:
    """The weights of `reference` that `actual` holds cut or raised to a limit, as converters to float16 do: by name, and kernels also by shape."""
    stored, find = weights.initializers(actual), _candidates(actual)
    wanted = {name: value for name, value in _weights(reference).items() if value.dtype.kind == "f"}
    kernels = _kernels(wanted)
    clamped: list[Clamped] = []
    for name, weight in wanted.items():
        candidates = [stored[name]] if name in stored else []
        candidates += find(weight) if name in kernels else []
        clamped += next(filter(None, (find_clamped(name, candidate, weight) for candidate in candidates)), ())
    return tuple(clamped)


def _agreement(kernel: Array, candidate: Array) -> float:
    """How far the signs of large weights agree that are not pruned, for the better sign of each channel, on the axis where that is furthest."""
    large = (np.abs(kernel) > np.median(np.abs(kernel))) & (candidate != 0)
    if not large.any():
        return 1.0  # nothing says otherwise
    signs = np.sign(kernel) * np.sign(candidate) * large
    return max(
        float(np.abs(_channels(signs, axis).sum(axis=1)).sum() / large.sum()) for axis in (0, 1, kernel.ndim - 1)
    )


def _find_rearranged(kernel: Array, candidates: Sequence[Array]) -> tuple[Order, Order] | None:
    """The orders in which a candidate holds the channels of a kernel, in any scale; None where none does."""
    ours = Channels(kernel)
    for candidate in candidates:
        aligned, orders = align(Channels(candidate), ours)
        if _agreement(ours.values, aligned) >= SIGNS:
            return orders
    return None


def tensors_behind_others(actual: onnx.ModelProto, reference: Weights, tensors: Collection[str]) -> set[str]:
    """The tensors of a graph that are computed with a weight that the reference does not hold as it is.

    Args:
        actual: the graph.
        reference: what holds the weights it ought to have.
        tensors: names of tensors; for each, the nodes between the others and it count.
    """
    stored, there = _weights(actual), dict[tuple[int, ...], list[Array]]()
    for value in _weights(reference).values():
        there.setdefault(value.shape, []).append(value)
    kernels, find = _kernels(stored), _candidates(reference)
    others = {
        name
        for name, value in stored.items()
        if value.dtype.kind == "f" and not _holds(find(value) if name in kernels else there.get(value.shape, []), value)
    }
    behind: dict[str, bool] = {}  # whether the nodes since the last of `tensors` read one
    for node in actual.graph.node:
        names = subgraphs.reads(node)
        reads = any(name in others or (name not in tensors and behind.get(name, False)) for name in names)
        behind |= dict.fromkeys(node.output, reads)
    return {name for name in tensors if behind.get(name, False)}


def _holds(values: Sequence[Array], wanted: Array) -> bool:
    """Whether some values are among others, up to rounding."""
    wide = np.asarray(wanted, np.float32)
    limit = SAME * float(np.abs(wide).max(initial=0.0))
    return any(float(np.abs(np.asarray(x, np.float32) - wide).max(initial=0.0)) <= limit for x in values)


def _weights(model: Weights) -> Mapping[str, Array]:
    if isinstance(model, Mapping):
        return model
    stored = weights.initializers(model)
    return stored | dequantise(model) if quantisation(model) is not None else stored


def _kernels(stored: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: value
        for name, value in stored.items()
        if value.dtype.kind == "f" and sum(side > 1 for side in value.shape) > 1 and value.size >= SMALLEST
    }


def _shape(x: Array) -> tuple[int, ...]:
    return tuple(sorted(side for side in x.shape if side > 1))


def _orientations(x: Array, shape: tuple[int, ...]) -> list[Array]:
    """`x` with its axes in orders that give the wanted shape: as it is, reversed, and channels last to first."""
    if x.size != int(np.prod(shape)):
        return []
    kept = [x] if x.shape == shape else []
    orders = [tuple(reversed(range(x.ndim)))]
    if x.ndim > 2:
        orders.append((x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)))
    return kept + [turned for order in orders if (turned := x.transpose(order)).shape == shape]


def _state(kernel: Array, candidates: list[Array], *, rounded: bool) -> str:
    """What became of a kernel; where it is `rounded` to 8 bits as a whole, small channels keep few of them, and half of the channels decide."""
    if not candidates:
        return "absent"
    if _holds(candidates, kernel):
        return "same"
    wide = np.asarray(kernel, np.float64)
    share = 0.5 if rounded else 1.0
    for axis in (0, wide.ndim - 1, 1):
        ours = _directions(wide, axis)
        if any(_apart(ours, _directions(np.asarray(c, np.float64), axis), share) <= SAME for c in candidates):
            return "scaled"
    even: Array | None = None
    for candidate in candidates:
        if _agreement(kernel, candidate) < SIGNS:
            continue
        even = Channels(kernel).even_values if even is None else even
        other = Channels(candidate).even_values
        if all(_apart(_directions(even, axis), _directions(other, axis), share) <= SAME for axis in (0, 1)):
            return "scaled"
    return "other"


def _apart(ours: NDArray[np.floating], theirs: NDArray[np.floating], share: float) -> float:
    """How far the cosines of so large a share of the channels are from 1 or -1."""
    return float(np.quantile(np.abs(np.abs((ours * theirs).sum(axis=1)) - 1), share))


def _find_permuted(name: str, kernel: Array, candidates: list[Array]) -> Permuted | None:
    """A kernel with the channels of one axis in another order; None where it is something else."""
    tolerance = SAME * float(np.abs(kernel).max())
    for axis in range(kernel.ndim):
        for candidate in candidates:
            if order := find_order(candidate, kernel, axis, tolerance):
                return Permuted(name, kernel.shape, axis, order)
    return None


def _directions(x: Array, axis: int) -> NDArray[np.floating]:
    """Each channel's values as a vector of length 1, shape (channels, rest)."""
    flat = _channels(x, axis)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    directions: NDArray[np.floating] = np.where(
        length > 0, flat / np.where(length > 0, length, 1), 1 / np.sqrt(flat.shape[1])
    )
    return directions


def _channels(x: Array, axis: int) -> Array:
    """Each channel's values in a row, shape (channels, rest)."""
    flat: Array = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    return flat
