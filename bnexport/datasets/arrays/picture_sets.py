"""Several pictures for one item: a folder of pictures for each input of a model, with the same file names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from bnexport import datasets
from bnexport.datasets.arrays.fit import Dtypes
from bnexport.datasets.arrays.folders import group
from bnexport.datasets.arrays.items import Item, Items, of_items
from bnexport.datasets.npz import Shape
from bnexport.datasets.preparation import Preparation, fit_dtype, prepare
from bnexport.datasets.reader import Prepared, Unreadable
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Preprocessing
from bnexport.types import Array


def are_sets(pictures: datasets.Listing, shapes: Mapping[str, Shape]) -> bool:
    """Whether every picture is in a folder that is called as an input of a model with several."""
    return len(shapes) > 1 and all(picture.name.split("/")[0] in shapes for picture in pictures)


def open_sets(
    pictures: datasets.Listing,
    shapes: Mapping[str, Shape],
    dtypes: Dtypes,
    model_sidecar: Sidecar | None,
    origin: str,
    overrides: Overrides,
    batch_size: int,
    kept: Prepared,
) -> tuple[Items, Preparation]:
    """Items of several pictures, and how those of the first input are prepared.

    Args:
        pictures: all of them.
        shapes: the shape of each input of the model.
        dtypes: what each input takes.
        model_sidecar: what travels with the model.
        origin: where `model_sidecar` comes from.
        overrides: what the user sets.
        batch_size: the largest batch.
        kept: what was prepared before.

    Raises:
        InputError: an item lacks a picture, or an input takes no images.
        UsageError: a size is needed and unknown, or an override does not fit the model.
    """
    by_name = {picture.name: picture for picture in pictures}
    preparations: dict[str, Preparation] = {}
    notes: list[str] = []
    for name, shape in shapes.items():
        own, changes = fit_dtype(name, dtypes.get(name), overrides)
        preparations[name] = prepare(shape, model_sidecar, origin, own)
        notes += changes
    items = []
    for entry in group(list(by_name), shapes):
        chosen = {name: (by_name[path], preparations[name].spec) for name, path in entry.paths.items()}
        labels = (picture.label for picture, _ in chosen.values())
        label = entry.label or next((label for label in labels if label not in shapes), "")
        described = {name: (spec.shape, np.dtype(np.float32)) for name, (_, spec) in chosen.items()}
        items.append(Item(entry.name, label, described, partial(_read, kept, chosen)))
    first = next(iter(preparations.values()))
    made = of_items(items, "the images", shapes, {}, model_sidecar, batch_size, tuple(notes))
    return made, Preparation(first.spec, first.origin)  # nothing is assumed that could be tried otherwise


def _read(kept: Prepared, chosen: Mapping[str, tuple[datasets.Picture, Preprocessing]]) -> Mapping[str, Array]:
    arrays: dict[str, Array] = {}
    for name, (picture, spec) in chosen.items():
        result = kept.of(picture, spec)
        if isinstance(result, Unreadable):
            raise InputError(f"{picture.name}: {result.reason}")
        arrays[name] = result
    return arrays
