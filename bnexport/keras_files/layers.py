"""A model as its file has it: layers, and where their weights are stored (no framework)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.keras_files.contents import Contents, Dataset
from bnexport.keras_files.defaults import Config
from bnexport.types import Array

if TYPE_CHECKING:
    import h5py


class UnclearFile(InputError):  # noqa: N818 - no error where Keras can load the file
    """The file does not say all that there is to know: which weight is which, or what calls what. Keras may still load it."""


def is_foreign(module: str) -> bool:
    """Whether a class of this module is somebody else's than Keras'; old files name no modules."""
    return bool(module) and module != "keras" and not module.startswith("keras.")


def _close(file: h5py.File, raw: FileIO | None) -> None:
    file.close()
    if raw is not None:
        raw.close()


class Store:
    """The HDF5 part of a model file; it is read from one thread at a time.

    Args:
        file: the HDF5 file.
        contents: what is in it.
        path: the file on the disk that it is in, where values can be read without HDF5; None where it is in memory.
        start: where it begins in that file.
    """

    def __init__(self, file: h5py.File, contents: Contents, path: Path | None = None, start: int = 0) -> None:
        self.file, self.contents, self._start = file, contents, start
        self._raw = path.open("rb", buffering=0) if path is not None else None
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, _close, self.file, self._raw)

    def read(self, name: str) -> Array:
        """The values of a dataset.

        Raises:
            InputError: the file ends before them.
        """
        dataset = self.contents.datasets[name]
        with self._lock:
            if self._raw is not None and dataset.offset is not None and dataset.type is not None:
                return self._read_directly(self._raw, dataset, dataset.offset, dataset.type)
            values: Array = np.asarray(self.file[name][()])
        if dataset.dtype == "bfloat16":
            import ml_dtypes

            values = values.view(ml_dtypes.bfloat16)
        return values

    def _read_directly(self, raw: FileIO, dataset: Dataset, offset: int, dtype: np.dtype[np.generic]) -> Array:
        values: Array = np.empty(dataset.shape, dtype)
        view = values.reshape(-1).view(np.uint8).data
        raw.seek(self._start + offset)
        while view:
            count = raw.readinto(view)
            if not count:
                raise InputError(f"the weights {dataset.name} are cut off", fix="copy or download the file again")
            view = view[count:]
        return values.astype(dtype.newbyteorder("="), copy=False)

    def weight(self, name: str, *, trainable: bool) -> StoredWeight:
        """The dataset of this path as a weight."""
        dataset = self.contents.datasets[name]
        return StoredWeight(name, dataset.shape, dataset.dtype, trainable, self)


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """A weight in a model file.

    Args:
        dataset: its path in the HDF5 part of the file.
        shape: as Keras has it.
        dtype: NumPy's name of it.
        trainable: whether it is trained, where its layer is.
        store: what it is read from.
    """

    dataset: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    store: Store = field(repr=False, compare=False)

    def read(self) -> Array:
        """Its values; nothing is kept in memory."""
        return self.store.read(self.dataset)


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer, a model or an operation in a model file.

    Args:
        kind: the name of its class.
        name: its own.
        path: the names of the models and layers it is in, and its own, joined by "/"; "" for the outermost model.
        module: of its class, as the file has it; "" where the file does not say.
        config: its configuration, as Keras 3 reads it.
        trainable: whether it is trained: False where it or a model around it is frozen.
        weights: its own, by Keras' names.
        parts: the layers inside it: those of a model by name, others by the attribute that Keras keeps them in ("cell", "forward_layer").
    """

    kind: str
    name: str
    path: str
    module: str
    config: Config
    trainable: bool
    weights: Mapping[str, StoredWeight]
    parts: Mapping[str, StoredLayer]

    def array(self, name: str) -> Array:
        """The values of one of its weights.

        Raises:
            InputError: the file does not have it.
        """
        weight = self.weights.get(name)
        if weight is None:
            raise InputError(
                f"the file has no weight {name} of the layer {self.path}",
                found=", ".join(self.weights) or "no weights",
                fix="save the model again after building it",
            )
        return weight.read()

    def walk(self) -> Iterator[StoredLayer]:
        """Itself and every layer inside it."""
        yield self
        for part in self.parts.values():
            yield from part.walk()


@dataclass(frozen=True, slots=True)
class Structure:
    """What a class of layers keeps: the names of its own weights, trainable ones first, and the layers inside it by attribute."""

    trainable: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    parts: Mapping[str, Config] = field(default_factory=dict)
