"""Which input and output of a file is which of the model's: by name, otherwise by order, or by shape where that alone decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import permutations

import numpy as np

from bnexport.comparison.interface import Interface
from bnexport.comparison.subject import Subject
from bnexport.datasets.arrays.fit import shape_text
from bnexport.datasets.npz import Shape
from bnexport.errors import InputError
from bnexport.onnx_graph import tensors
from bnexport.results.preprocessing import Preprocessing

FLOAT32 = np.dtype(np.float32)
_HALF = ("float16", "bfloat16")
_MOST = 6
"""So many inputs at most are matched by their shapes."""

Shapes = Mapping[str, Shape | None]
"""The shape of each input or output by name; None where it is not known."""


def match_ports(
    title: str,
    theirs: Shapes,
    theirs_out: Shapes,
    kinds: Mapping[str, np.dtype[np.generic]],
    subject: Subject,
    spec: Preprocessing | None,
) -> Interface:
    """How a file takes what the model takes.

    Args:
        title: what messages call the file.
        theirs: its inputs.
        theirs_out: its outputs.
        kinds: the dtypes of both, by name.
        subject: the model.
        spec: how images are prepared for the model; None for arrays.

    Raises:
        InputError: the file cannot be fed what the model is fed.
    """
    if len(theirs) != len(subject.shapes):
        raise InputError(
            f"the inputs of {title} differ from those of the model",
            found=f"the inputs {', '.join(theirs)}",
            expected=", ".join(subject.shapes),
        )
    shapes = {name: shape or () for name, shape in theirs.items()}
    inputs = _names_of_inputs(shapes, subject.shapes)
    differences = [f"the input {ours} is called {its}" for ours, its in inputs.items() if ours != its]
    moved = set()
    for ours, its in inputs.items():
        if _fits(subject.shapes[ours], shapes[its]):
            continue
        if not _fits(_channels_first(subject.shapes[ours]), shapes[its]):
            raise InputError(
                f"the shape of the input {its} of {title} does not match the model",
                found=shape_text(shapes[its]),
                expected=shape_text(subject.shapes[ours]),
            )
        moved.add(ours)
        differences.append(
            f"the input {its} has its channels first, {shape_text(shapes[its])}: the images are transposed for it"
        )
    kept = {ours: subject.dtypes.get(ours, FLOAT32) for ours in inputs}
    pixels = {ours: spec for ours, its in inputs.items() if kinds[its].kind in "iu" and kept[ours].kind == "f"}
    signed = frozenset(ours for ours in pixels if spec and kinds[inputs[ours]] == np.int8)
    fed = "pixels before scaling{}, rounded, so that it has to scale them itself" if spec else "same values"
    differences += [
        f"the input {its} is {kinds[its]}, in the model {kept[ours]}"
        + (f": it is fed the {fed.format(' minus 128' if ours in signed else '')}" if ours in pixels else "")
        for ours, its in inputs.items()
        if kinds[its] != kept[ours]
    ]
    fixed = {shape[0] for shape in shapes.values() if shape} - {None}
    batch = fixed.pop() if len(fixed) == 1 else None
    if batch is not None:
        differences.append(f"the batch size is fixed to {batch}")
    differences += [
        f"the axis {axis} of the input {name} is fixed to {side}"
        for name, shape in shapes_in_layout(shapes, inputs, moved).items()
        for axis, side in enumerate(shape)
        if axis and side is not None and subject.shapes[name][axis] is None
    ]
    called, moved_out, of_outputs = _match_outputs(theirs_out, kinds, subject)
    return Interface(
        inputs, called, frozenset(moved), frozenset(moved_out), batch, pixels, (*differences, *of_outputs), signed
    )


def _names_of_inputs(theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> dict[str, str]:
    """The file's name of each input of the model: the same name, the same position, or the only one of that shape."""
    if set(theirs) == set(ours):
        return {name: name for name in ours}
    in_order = dict(zip(ours, theirs, strict=True))
    if len(ours) > _MOST or all(_may_be(ours[name], theirs[its]) for name, its in in_order.items()):
        return in_order
    fitting = [
        dict(zip(ours, order, strict=True))
        for order in permutations(theirs)
        if all(_may_be(ours[name], theirs[its]) for name, its in zip(ours, order, strict=True))
    ]
    return fitting[0] if len(fitting) == 1 else in_order


def _match_outputs(
    theirs: Shapes, kinds: Mapping[str, np.dtype[np.generic]], subject: Subject
) -> tuple[dict[str, str], list[str], list[str]]:
    """The file's name of each output, those with the channels first, and what differs in words."""
    shapes = {name: tuple(shape) if shape is not None else None for name, shape in _outputs_of(subject).items()}
    differences: list[str] = []
    if set(shapes) <= set(theirs):
        called = {name: name for name in shapes}
    elif len(shapes) == len(theirs):
        called = dict(zip(shapes, theirs, strict=True))
        differences += [f"the output {ours} is called {its}" for ours, its in called.items() if ours != its]
    else:
        called = {name: name for name in shapes if name in theirs}
    moved_out = sorted(
        ours
        for ours, its in called.items()
        if (a := shapes[ours]) and (b := theirs[its]) and not _fits(a, b) and _fits(_channels_first(a), b)
    )
    differences += [
        f"the output {called[name]} has its channels first: it is transposed for the comparison" for name in moved_out
    ]
    dtypes = {name: subject.dtypes.get(name, FLOAT32) for name in called}
    differences += [
        f"the output {its} is {kinds[its]}, in the model {dtypes[ours]}"
        for ours, its in called.items()
        if its in kinds and str(kinds[its]) in _HALF and dtypes[ours].kind == "f" and kinds[its] != dtypes[ours]
    ]
    return called, moved_out, differences


def _outputs_of(subject: Subject) -> Shapes:
    return {info.name: tensors.shape(info) for info in subject.graph.graph.output}


def _may_be(ours: Shape, theirs: Shape) -> bool:
    return _fits(ours, theirs) or _fits(_channels_first(ours), theirs)


def _fits(ours: Shape, theirs: Shape) -> bool:
    return not theirs or (
        len(ours) == len(theirs)
        and all(a is None or b is None or a == b for a, b in zip(ours[1:], theirs[1:], strict=True))
    )


def shapes_in_layout(
    theirs: Mapping[str, Shape], inputs: Mapping[str, str], moved: Collection[str]
) -> dict[str, Shape]:
    """The shapes of a file's inputs by the names and in the layout of the model.

    Args:
        theirs: the shapes by the file's names.
        inputs: the file's name of each input of the model.
        moved: inputs whose channels stand last in the model and first in the file.
    """
    shapes = {ours: theirs[its] for ours, its in inputs.items()}
    return {n: (s[0], *s[2:], s[1]) if n in moved and len(s) > 2 else s for n, s in shapes.items()}


def _channels_first(shape: Shape) -> Shape:
    return (shape[0], shape[-1], *shape[1:-1]) if len(shape) > 2 else shape
