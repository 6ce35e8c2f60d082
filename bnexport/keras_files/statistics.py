"""New moving statistics in a copy of a model file, in which nothing else changes (h5py)."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.keras_files.container import WEIGHTS
from bnexport.keras_files.read import KerasFile
from bnexport.system.files import Format
from bnexport.types import Array

if TYPE_CHECKING:
    import h5py

    from bnexport.keras_files.layers import StoredWeight


def write_statistics(file: KerasFile, values: Mapping[str, Array], target: Path) -> None:
    """Copies a model file, with new values in some of its weights.

    Args:
        file: the file as it was read.
        values: new values by the path of the layer and the name of the weight ("bn1/moving_mean").
        target: the copy, of the same format.

    Raises:
        InputError: the file has no such weight, or one of another shape.
    """
    file.sha256  # noqa: B018 - makes sure of the weights
    weights = {f"{layer.path}/{name}": weight for layer in file.model.walk() for name, weight in layer.weights.items()}
    changes = [(changed_weight(weights, name, value), value) for name, value in values.items()]
    if file.format == Format.HDF5:
        shutil.copyfile(file.path, target)
        _write_into(target, changes)
        return
    with zipfile.ZipFile(file.path) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            if item.filename != WEIGHTS:
                new.writestr(item, old.read(item))
                continue
            inner = target.with_name(target.name + ".weights")
            try:
                inner.write_bytes(old.read(item))
                _write_into(inner, changes)
                new.writestr(item, inner.read_bytes())
            finally:
                inner.unlink(missing_ok=True)


def changed_weight(weights: Mapping[str, StoredWeight], name: str, value: Array) -> StoredWeight:
    """The weight in a file that gets a new value.

    Raises:
        InputError: the file has no such weight, or one of another shape.
    """
    weight = weights.get(name)
    if weight is None or weight.shape != value.shape:
        raise InputError(
            f"the weight {name} cannot be written into the model file",
            found=f"shape {weight.shape}" if weight is not None else "no such weight",
            expected=f"shape {value.shape}",
        )
    return weight


def _write_into(path: Path, changes: list[tuple[StoredWeight, Array]]) -> None:
    """Writes values into the datasets of a HDF5 file: where they lie in one piece, over their very bytes."""
    pieces = []
    with path.open("r+b") as raw:
        for weight, value in changes:
            dataset = weight.store.contents.datasets[weight.dataset]
            if dataset.offset is None or dataset.type is None:
                pieces.append((weight.dataset, value))
                continue
            raw.seek(dataset.offset)
            raw.write(np.ascontiguousarray(value.astype(dataset.type)).tobytes())
    if pieces:
        import h5py

        with h5py.File(path, "r+") as file:
            for name, value in pieces:
                _assign(file, name, value)


def _assign(file: h5py.File, name: str, value: Array) -> None:
    file[name][...] = value
