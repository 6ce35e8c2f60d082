"""Whether two graphs hold the same weights: their kernels, the weights of two and more axes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.permuted import Permuted, find_order
from bnexport.onnx_graph import subgraphs, weights
from bnexport.onnx_graph.quantised import dequantise, quantisation
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
        scaled: the same but for a factor for each channel, as after folding BatchNormalization.
        other: a kernel of that shape is there, with other values.
        absent: there is none of that shape.
        permuted: the same but for the order of the channels on one axis.
    """

    same: tuple[str, ...]
    scaled: tuple[str, ...]
    other: tuple[str, ...]
    absent: tuple[str, ...]
    permuted: tuple[Permuted, ...] = ()

    @property
    def compared(self) -> int:
        """How many can be compared."""
        return len(self.same) + len(self.scaled) + len(self.other) + len(self.permuted)

    @property
    def foreign(self) -> bool:
        """Whether most of what can be compared has other values: the weights of another checkpoint."""
        return 2 * len(self.other) > self.compared


def compare_kernels(actual: Weights, reference: Weights) -> Kernels:
    """The kernels of `reference` as they are found in `actual`; each is a graph, or weights by name."""
    find, wanted = _candidates(actual), _kernels(_weights(reference))
    groups: dict[str, list[str]] = {"same": [], "scaled": [], "other": [], "absent": []}
    permuted: list[Permuted] = []
    rounded = not isinstance(actual, Mapping) and quantisation(actual) is not None
    for name, kernel in wanted.items():
        candidates = find(kernel)
        state = _state(kernel, candidates, rounded=rounded)
        if state == "other" and (moved := _find_permuted(name, kernel, candidates)) is not None:
            permuted.append(moved)
        else:
            groups[state].append(name)
    return Kernels(**{state: tuple(names) for state, names in groups.items()}, permuted=tuple(permuted))


def _candidates(actual: Weights) -> Callable[[Array], list[Array]]:
    """Finds the kernels that may be another one by their shapes, in its layout."""
    there: dict[tuple[int, ...], list[Array]] = {}
    for kernel in _kernels(_weights(actual)).values():
        there.setdefault(_shape(kernel), []).append(kernel)
    return lambda kernel: [
        turned for other in there.get(_shape(kernel), []) for turned in _orientations(other, kernel.shape)
    ]


def find_unlike(actual: Weights, reference: Weights) -> dict[str, float]:
    """The kernels of `reference` of which `actual` has none that could come from it, whatever the precision and scale.

    Rounding, calibration, pruning and folding keep the signs of large weights, but for a sign for each channel.

    Returns:
        By name, how far signs agree with the nearest kernel of that shape, 1 where all do and 0 where half do; empty where channels are permuted
        in several kernels, as in a file that orders them otherwise throughout.
    """
    matched, find, wanted = compare_kernels(actual, reference), _candidates(actual), _kernels(_weights(reference))
    shares = {
        name: max(_agreement(wanted[name], candidate) for candidate in find(wanted[name])) for name in matched.other
    }
    unlike = {name: share for name, share in shares.items() if share < SIGNS}
    moved = [permuted.name for permuted in matched.permuted]
    return {} if len(moved) > 1 else unlike | dict.fromkeys(moved, 0.0)


def _agreement(kernel: Array, candidate: Array) -> float:
    """How far the signs of large weights agree that are not pruned, for the better sign of each channel, on the axis where that is furthest."""
    large = (np.abs(kernel) > np.median(np.abs(kernel))) & (candidate != 0)
    if not large.any():
        return 1.0  # nothing says otherwise
    signs = np.sign(kernel) * np.sign(candidate) * large
    return max(
        float(np.abs(_channels(signs, axis).sum(axis=1)).sum() / large.sum()) for axis in (0, 1, kernel.ndim - 1)
    )


def tensors_behind_others(actual: onnx.ModelProto, reference: Weights, tensors: Collection[str]) -> set[str]:
    """The tensors of a graph that are computed with a kernel that the reference does not hold as it is.

    Args:
        actual: the graph.
        reference: what holds the weights it ought to have.
        tensors: names of tensors; for each, the nodes between the others and it count.
    """
    others = _kernels(_weights(actual)).keys() - {*compare_kernels(reference, actual).same}
    behind: dict[str, bool] = {}  # whether the nodes since the last of `tensors` read one
    for node in actual.graph.node:
        names = subgraphs.reads(node)
        reads = any(name in others or (name not in tensors and behind.get(name, False)) for name in names)
        behind |= dict.fromkeys(node.output, reads)
    return {name for name in tensors if behind.get(name, False)}


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
    wide = np.asarray(kernel, np.float64)
    scale = np.abs(wide).max()
    if any(np.abs(np.asarray(c, np.float64) - wide).max() <= SAME * scale for c in candidates):
        return "same"
    for axis in (0, wide.ndim - 1, 1):
        ours = _directions(wide, axis)
        for candidate in candidates:
            cosines = np.abs((ours * _directions(np.asarray(candidate, np.float64), axis)).sum(axis=1))
            if np.quantile(np.abs(cosines - 1), 0.5 if rounded else 1.0) <= SAME:
                return "scaled"
    return "other"


def _find_permuted(name: str, kernel: Array, candidates: list[Array]) -> Permuted | None:
    """A kernel with the channels of one axis in another order; None where it is something else."""
    tolerance = SAME * float(np.abs(kernel).max())
    for axis in range(kernel.ndim):
        for candidate in candidates:
            if order := find_order(candidate, kernel, axis, tolerance):
                return Permuted(name, kernel.shape, axis, order)
    return None


def _directions(x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Each channel's values as a vector of length 1, shape (channels, rest)."""
    flat = _channels(x, axis)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    directions: NDArray[np.float64] = np.where(
        length > 0, flat / np.where(length > 0, length, 1), 1 / np.sqrt(flat.shape[1])
    )
    return directions


def _channels(x: Array, axis: int) -> Array:
    """Each channel's values in a row, shape (channels, rest)."""
    flat: Array = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    return flat
