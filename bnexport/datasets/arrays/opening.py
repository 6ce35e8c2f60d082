"""What a model is run on in place of pictures, by the kind of file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bnexport.datasets import npz, places
from bnexport.datasets.arrays import folders, memory, tables
from bnexport.datasets.arrays.fit import Dtypes
from bnexport.datasets.feeds import Arrays, Source
from bnexport.datasets.npz import Shape
from bnexport.datasets.sidecar import Sidecar
from bnexport.types import Array

Data = Path | Mapping[str, Array] | Sequence[Mapping[str, Array]]
"""A file or folder, arrays by the name of the input, or batches or items of them."""

FILES = (".npz", ".npy")
"""Files of arrays, which are known as such wherever they are named."""


def arrays_named(source: object) -> Path | None:
    """The file or folder of arrays or recordings where that is what `source` names; None for pictures.

    A table named as pictures is a list of pictures.
    """
    if not isinstance(source, str | os.PathLike) or places.is_url(str(source)):
        return None
    path = Path(source)
    if path.suffix.lower() in FILES or (path.is_dir() and folders.holds_items(path)):
        return path
    return None


def open_arrays(
    data: Data,
    shapes: Mapping[str, Shape],
    dtypes: Dtypes,
    model_sidecar: Sidecar | None,
    batch_size: int,
    labels: Path | None = None,
    rate: int | None = None,
) -> Source:
    """What a model is run on.

    Args:
        data: a file (.npz, .npy, .csv, .tsv, .parquet), a folder with one file for each item, or arrays in memory.
        shapes: the shape of each input of the model, None for an open axis.
        dtypes: what each input takes.
        model_sidecar: the labels and classes that the model came with.
        batch_size: the largest batch.
        labels: for a folder: a CSV file with the columns file and label.
        rate: the sample rate of recordings that the model says it takes.

    Raises:
        InputError: it cannot be read, or does not fit the model.
        MachineError: a package that it needs is missing.
    """
    classes = model_sidecar.classes if model_sidecar else ()
    if isinstance(data, Mapping):
        return Arrays.of(data, "the data", shapes, classes, batch_size, dtypes)
    if not isinstance(data, Path):
        return memory.of_parts(data, shapes, dtypes, model_sidecar, batch_size)
    if data.is_dir():
        return folders.read_folder(data, shapes, dtypes, model_sidecar, batch_size, labels, rate)
    if data.suffix.lower() in tables.SUFFIXES:
        return Arrays.of(tables.read_table(data, shapes, dtypes), str(data), shapes, classes, batch_size, dtypes)
    if data.suffix.lower() == ".npy":
        return Arrays.of({"input": npz.load_one(data)}, str(data), shapes, classes, batch_size, dtypes)
    return Arrays.read(data, shapes, classes, batch_size, dtypes)
