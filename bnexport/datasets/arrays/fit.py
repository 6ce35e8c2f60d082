"""How arrays go into the inputs of a model: which array is which input, where its channels stand, and whether its kind fits.

Everything is decided by names, shapes and dtypes, so that files can be checked before they are read. Shapes have the batch axis first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bnexport.datasets.npz import Shape, refuse_no_numbers
from bnexport.errors import InputError
from bnexport.types import Array

Dtypes = Mapping[str, np.dtype[np.generic]]
"""What inputs take, by name; inputs that are missing take numbers."""

MOST_LABEL = 2**31 - 1
"""The largest class number."""

_WITH_CHANNELS = (4, 5)
"""So many axes images and volumes have, in batches: only of these the channels are moved."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How arrays go into the inputs of a model.

    Args:
        names: the array of each input.
        axes: the order of the axes for each input whose channels stand elsewhere.
        notes: what is changed, one sentence each.
    """

    names: Mapping[str, str]
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def shapes(self, given: Mapping[str, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs, from those of the arrays."""
        own = {name: given[array] for name, array in self.names.items()}
        return tuple(_permute(shape, self.axes[n]) if n in self.axes else shape for n, shape in own.items())

    def apply(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of the model."""
        return {
            name: np.transpose(arrays[given], self.axes[name]) if name in self.axes else arrays[given]
            for name, given in self.names.items()
        }


def fit_arrays(
    given: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]],
    what: str,
    shapes: Mapping[str, Shape],
    dtypes: Dtypes,
) -> Fit:
    """How arrays go into a model.

    Args:
        given: the shape and dtype of each array.
        what: what messages call the arrays.
        shapes: the shape of each input, None for an open axis; empty where it is not known.
        dtypes: what each input takes.

    Raises:
        InputError: they are not the inputs of the model.
    """
    if len(shapes) == 1 and len(given) == 1:  # one of each: the name does not matter
        names = {next(iter(shapes)): next(iter(given))}
    elif set(given) != set(shapes):
        raise InputError(
            f"the arrays in {what} are not the inputs of the model",
            found=", ".join(sorted(given)) or "nothing",
            expected=", ".join(shapes),
        )
    else:
        names = {name: name for name in shapes}
    axes: dict[str, tuple[int, ...]] = {}
    notes: list[str] = []
    for name, shape in shapes.items():
        own, dtype = given[names[name]]
        subject = f"{what}: the input {name}"
        refuse_other_kind(subject, dtype, dtypes.get(name))
        if not shape or fits(own, shape):
            continue
        moves = [(where, order) for where, order in _moves(len(own)) if fits(_permute(own, order), shape)]
        if len(moves) != 1:
            ways = " and ".join(f"{_permute(own, order)} with the channels moved {where}" for where, order in moves)
            raise InputError(
                f"{subject} has the wrong shape",
                found=str(own) + (f", which would fit as {ways}" if ways else ""),
                expected=shape_text(shape),
            )
        [(where, axes[name])] = moves
        notes.append(
            f"the arrays for the input {name} have another layout and are transposed: "
            f"the channels are moved {where} (found {own}; expected {shape_text(shape)})"
        )
    return Fit(names, axes, tuple(notes))


def describe(arrays: Mapping[str, Array]) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """The shape and dtype of each array."""
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def fits(given: tuple[int, ...], shape: Shape) -> bool:
    """Whether an array fits an input, whatever the number of rows.

    >>> fits((2, 8, 8, 3), (None, None, None, 3)), fits((2, 3, 8, 8), (None, None, None, 3))
    (True, False)
    """
    return len(given) == len(shape) and all(
        side is None or side == own for side, own in zip(shape[1:], given[1:], strict=True)
    )


def shape_text(shape: Shape) -> str:
    """A shape as messages show it."""
    return f"({', '.join('?' if side is None else str(side) for side in shape)}{',' if len(shape) == 1 else ''})"


def _moves(rank: int) -> list[tuple[str, tuple[int, ...]]]:
    """The ways in which channels can be moved, as orders of the axes."""
    if rank not in _WITH_CHANNELS:
        return []
    return [("to the end", (0, *range(2, rank), 1)), ("to the front", (0, rank - 1, *range(1, rank - 1)))]


def _permute(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in order)


def is_text(dtype: np.dtype[np.generic] | None) -> bool:
    """Whether an input of this dtype takes text."""
    return dtype is not None and dtype.kind in "OU"


def refuse_other_kind(what: str, dtype: np.dtype[np.generic], wanted: np.dtype[np.generic] | None) -> None:
    """Refuses text for an input of numbers, and anything else for an input of text.

    Raises:
        InputError: an array is of another kind than the input.
    """
    if not is_text(wanted):
        refuse_no_numbers(what, dtype)
    elif dtype.kind != "U":
        raise InputError(
            f"{what} takes text",
            found=str(dtype),
            expected="an array of strings (NumPy's dtype U, not object or bytes)",
        )


def plain(array: Array) -> Array:
    """An array of Python strings as NumPy's own strings; any other as it is."""
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        return array.astype(np.str_)
    return array


def class_numbers(labels: Array, what: str, classes: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as class numbers, -1 where unknown, and the names of the classes.

    Args:
        labels: class numbers, or class names ("" where unknown), of shape (N,).
        what: what messages call the arrays.
        classes: the names that the model has, in the order of its outputs; where it has none, names are sorted.

    Raises:
        InputError: they are neither, or a name is not a class of the model.
    """
    if labels.ndim == 1 and labels.dtype.kind == "U":
        texts = [str(label) for label in labels.tolist()]
        names = classes or tuple(sorted({*texts} - {""}))
        if unknown := sorted({*texts} - {"", *names}):
            raise InputError(f"{what}: the label {unknown[0]!r} is not a class of the model", expected=", ".join(names))
        position = {"": -1} | {name: number for number, name in enumerate(names)}
        return np.array([position[text] for text in texts], np.int64), names
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"{what}: the labels are not class numbers",
            found=f"{labels.dtype} of shape {labels.shape}",
            expected="integers of shape (N,)",
        )
    if labels.size and (labels.min() < -1 or labels.max() > MOST_LABEL):
        odd = labels[np.less(labels, -1) | np.greater(labels, MOST_LABEL)][0]
        raise InputError(
            f"{what}: a label is not a class number",
            found=str(odd),
            expected=f"0 to {MOST_LABEL}, or -1 where unknown",
        )
    return labels.astype(np.int64), classes
