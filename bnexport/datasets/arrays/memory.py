"""Lists of arrays in memory: batches, or items of any lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from bnexport.datasets.arrays.fit import Dtypes, plain
from bnexport.datasets.arrays.items import Item, of_items
from bnexport.datasets.feeds import Arrays, Source
from bnexport.datasets.npz import Shape
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, reason
from bnexport.types import Array

LABELS = "labels"


def of_parts(
    parts: Sequence[Mapping[str, Array]],
    shapes: Mapping[str, Shape],
    dtypes: Dtypes,
    model_sidecar: Sidecar | None,
    batch_size: int,
) -> Source:
    """Arrays that came one after another, each a batch or an item.

    They are items where they have one axis fewer than the input of the model, or where batches have other lengths.

    Raises:
        InputError: they do not fit the model.
    """
    parts = [{name: plain(x) for name, x in part.items()} for part in parts]
    rows = parts if _are_items(parts[0], shapes) else None
    if rows is None and _join(parts):
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        classes = model_sidecar.classes if model_sidecar else ()
        return Arrays.of(joined, "the data", shapes, classes, batch_size, dtypes)
    if rows is None:
        rows = [{name: x[row] for name, x in part.items()} for part in parts for row in range(_length(part))]
    return of_items(
        [_item(nth, row) for nth, row in enumerate(rows)], "the data", shapes, dtypes, model_sidecar, batch_size
    )


def _are_items(part: Mapping[str, Array], shapes: Mapping[str, Shape]) -> bool:
    """Whether an array has one axis fewer than the input it is for."""
    arrays = {name: x for name, x in part.items() if name != LABELS}
    if len(arrays) == len(shapes) == 1:
        arrays = {next(iter(shapes)): next(iter(arrays.values()))}
    return any(name in arrays and shape and arrays[name].ndim == len(shape) - 1 for name, shape in shapes.items())


def _join(parts: Sequence[Mapping[str, Array]]) -> bool:
    """Whether the arrays can be joined to one, where only their number of rows differs."""
    return all(
        all(part[name].ndim for part in parts) and len({part[name].shape[1:] for part in parts}) == 1
        for name in parts[0]
    )


def _length(part: Mapping[str, Array]) -> int:
    lengths = {len(x) if x.ndim else -1 for x in part.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise InputError("the arrays of a batch differ in length", found=f"shapes {[x.shape for x in part.values()]}")
    return lengths.pop()


def _item(nth: int, arrays: Mapping[str, Array]) -> Item:
    given = {name: x for name, x in arrays.items() if name != LABELS}
    label = ""
    if LABELS in arrays:
        try:
            label = str(arrays[LABELS].item())
        except ValueError as error:
            raise InputError(f"item {nth} has no single label ({reason(error)})") from error
    described = {name: (x.shape, x.dtype) for name, x in given.items()}
    return Item(str(nth), "" if label == "-1" else label, described, partial(dict, given))
