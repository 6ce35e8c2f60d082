"""Outputs that somebody else recorded, as the reference of a file: an .npz file with an array for each output, one row for each item."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bnexport.comparison.sides import Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.datasets import npz
from bnexport.datasets.arrays.fit import fits, shape_text
from bnexport.datasets.feeds import Feed
from bnexport.datasets.npz import Shape
from bnexport.errors import InputError, UsageError
from bnexport.onnx_graph import tensors
from bnexport.onnx_graph.outputs import fetches
from bnexport.results.runs import RECORDED, Role, RunSpec
from bnexport.results.tolerance import FLOORS
from bnexport.types import Array

STORED = 0.6
"""Numbers that were stored with fewer digits are half a unit in the last place away, and a little more where both sides round."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Outputs that were recorded.

    Args:
        name: what sentences call where they are.
        outputs: the rows of each output, by the name a check gives it.
        matches: which array was taken for which output where their names differ, which has another dtype, and which was not used, in words.
        floors: the noise floor of each output that was recorded with fewer digits than the model computes, by mode and tensor: an eighth of their rounding.
    """

    name: str
    outputs: Mapping[str, Array]
    matches: tuple[str, ...]
    floors: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def run(self) -> Runner:
        """The outputs as a run that others are compared with."""
        return Runner(
            RunSpec(RECORDED, "inference", "", Role.CONTROL),
            lambda feeds: _refuse(self.name, feeds),
            of_items=self.rows,
        )

    def rows(self, feed: Feed) -> Outputs:
        """What was recorded for the items of a batch."""
        if feed.positions is None:
            raise InputError(f"the rows of {self.name} cannot be assigned to the items of the data")
        return {name: rows[list(feed.positions)] for name, rows in self.outputs.items()}


def _refuse(name: str, feeds: Mapping[str, Array]) -> Outputs:
    raise InputError(f"{name} has outputs for the items of the data only", found=f"other values for {', '.join(feeds)}")


def open_recorded(source: Path | Mapping[str, Array], subject: Subject, count: int) -> Recorded:
    """Recorded outputs, each matched with an output of the model: by name, or else by its shape.

    Args:
        source: an .npz file, or arrays of shape (N, ...) by name.
        subject: the model.
        count: how many items there are.

    Raises:
        InputError: they cannot be read, have another number of rows, or match no output.
        UsageError: an output could be one of several arrays.
    """
    name = str(source) if isinstance(source, Path) else "the recorded outputs"
    arrays = npz.load(source) if isinstance(source, Path) else {n: np.asarray(x) for n, x in source.items()}
    if flat := [key for key, array in arrays.items() if array.ndim == 0]:
        raise InputError(f"the array {flat[0]} of {name} has no rows", expected="one row for each item of the data")
    for key, array in arrays.items():
        if array.dtype.kind != "U":  # text is compared, too
            npz.refuse_no_numbers(f"{key} in {name}", array.dtype)
    shapes = _shapes(subject)
    taken, matches = match_names(
        name, list(shapes), arrays, lambda output, key: _fits(shapes[output], arrays[key], count)
    )
    if not taken:
        raise InputError(
            f"no array of {name} can be an output of the model",
            found=", ".join(f"{key} {x.shape}" for key, x in arrays.items()) or "no array",
            expected=", ".join(f"{o} {_written(count, s)}" for o, s in shapes.items() if not o.endswith("/logits")),
        )
    for output, key in taken.items():
        if not len(arrays[key]) == count:
            raise InputError(
                f"the array {key} of {name} has another number of rows than the data",
                found=str(len(arrays[key])),
                expected=str(count),
            )
        if not _fits(shapes[output], arrays[key], count):
            raise InputError(
                f"the array {key} of {name} has another shape than the output {output}",
                found=str(arrays[key].shape),
                expected=_written(count, shapes[output]),
            )
    unused = [key for key in arrays if key not in taken.values()]
    matches += [f"the recorded array {key} is not used" for key in unused]
    outputs, floors = {output: arrays[key] for output, key in taken.items()}, dict[tuple[str, str], float]()
    for output, array in outputs.items():
        dtype = subject.dtypes.get(output.removesuffix("/logits"))
        if dtype is not None and dtype != array.dtype and dtype.kind == array.dtype.kind == "f":
            outputs[output] = array.astype(dtype)
            if array.dtype.itemsize < dtype.itemsize:
                floors["inference", output] = float(np.finfo(str(array.dtype)).eps) * STORED / FLOORS
            matches.append(f"the recorded array {taken[output]} is {array.dtype} and compared as {dtype}")
    return Recorded(name, outputs, tuple(matches), floors)


def match_names(
    name: str, tensors: Collection[str], keys: Collection[str], fits: Callable[[str, str], bool]
) -> tuple[dict[str, str], list[str]]:
    """Which array was recorded of which tensor: the one of its name, or else the only one whose shape fits.

    Args:
        name: what sentences call where the arrays are.
        tensors: of the model, outputs by the names a check gives them; logits are matched by name only.
        keys: of the arrays.
        fits: whether a tensor may be the array of a key, by its shape.

    Returns:
        The key by tensor, and what was matched by its shape, in words.

    Raises:
        UsageError: a tensor could be one of several arrays.
    """
    taken = {key: key for key in keys if key in tensors}
    matches = []
    for tensor in tensors:
        if tensor in taken or tensor.endswith("/logits"):
            continue
        fitting = [key for key in keys if key not in taken.values() and fits(tensor, key)]
        if len(fitting) > 1:
            raise UsageError(
                f"the output {tensor} can be any of several arrays of {name}",
                found=", ".join(fitting),
                fix=f"name the right one {tensor}",
            )
        if fitting:
            taken[tensor] = fitting[0]
            matches.append(f"the output {tensor} is matched with the recorded array {fitting[0]} by its shape")
    return taken, matches


def _shapes(subject: Subject) -> dict[str, Shape | None]:
    """The shape of each output by the name a check gives it; None where it is not known."""
    inferred = tensors.shapes(subject.graph)
    return {name: inferred.get(tensor) for name, tensor in fetches(subject.graph).items()}


def _fits(shape: Shape | None, array: Array, count: int) -> bool:
    return shape is None or (len(array) == count and fits(array.shape, shape))


def _written(count: int, shape: Shape | None) -> str:
    return f"({count}, ...)" if shape is None else shape_text((count, *shape[1:]))
