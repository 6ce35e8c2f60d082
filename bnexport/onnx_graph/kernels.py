"""Whether two graphs hold the same weights: their kernels, the weights of two and more axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.permuted import Permuted, find_order
from bnexport.onnx_graph import weights
from bnexport.onnx_graph.quantised import dequantise, quantisation
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

SMALLEST = 16
"""Weights of fewer values say nothing."""

SAME = 1e-2
"""Kernels are the same up to this share of their size: float16 and 8 bits round as much."""


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


def compare_kernels(actual: onnx.ModelProto, reference: onnx.ModelProto | Mapping[str, Array]) -> Kernels:
    """The kernels of `reference`, a graph or weights by name, as they are found in `actual`."""
    there: dict[tuple[int, ...], list[Array]] = {}
    wanted = reference if isinstance(reference, Mapping) else _weights(reference)
    for kernel in _kernels(_weights(actual)).values():
        there.setdefault(_shape(kernel), []).append(kernel)
    groups: dict[str, list[str]] = {"same": [], "scaled": [], "other": [], "absent": []}
    permuted: list[Permuted] = []
    rounded = quantisation(actual) is not None
    for name, kernel in _kernels(wanted).items():
        candidates = [
            turned for other in there.get(_shape(kernel), []) for turned in _orientations(other, kernel.shape)
        ]
        state = _state(kernel, candidates, rounded=rounded)
        if state == "other" and (moved := _find_permuted(name, kernel, candidates)) is not None:
            permuted.append(moved)
        else:
            groups[state].append(name)
    return Kernels(**{state: tuple(names) for state, names in groups.items()}, permuted=tuple(permuted))


def _weights(model: onnx.ModelProto) -> dict[str, Array]:
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
    flat = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 0, flat / np.where(length > 0, length, 1), 1 / np.sqrt(flat.shape[1]))
