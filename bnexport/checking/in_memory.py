"""What people hold in their hands: models and data of a Python session, as a check takes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError, UsageError, reason
from bnexport.frameworks.names import use_model
from bnexport.frameworks.protocols import UsesModels, WritesModels
from bnexport.frameworks.registry import in_memory
from bnexport.types import Array

Arrays = dict[str, Array]

Images: TypeAlias = str | Path | Sequence[str | Path]
"""A folder of images, one image, a manifest, tar shards, or a list of images; paths or URLs (`bnexport.datasets.find`)."""

Batches: TypeAlias = NDArray[Any] | Mapping[str, Any] | Iterable[Any]
"""An array, arrays by the name of the input, or batches or items of either: arrays, mappings, or pairs of them with labels, as `tf.data.Dataset` gives them."""


Reference: TypeAlias = str | Path | Mapping[str, NDArray[Any]]
"""Whose outputs are taken as right: "keras", "keras2", an .npz file of recorded outputs, or those by name."""


class KerasModel(Protocol):
    """A `keras.Model`, or another that saves itself so."""

    name: str

    def save(self, filepath: str) -> object:
        """Writes the model to a .keras file."""
        ...


class OnnxModel(Protocol):
    """An `onnx.ModelProto`."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """The model's bytes."""
        ...


class TorchModel(Protocol):
    """A `torch.nn.Module`."""

    def state_dict(self) -> Mapping[str, object]:
        """The parameters and buffers by name."""
        ...


Model: TypeAlias = str | Path | KerasModel | OnnxModel | TorchModel
"""A model file, `package.module:factory`, a `keras.Model`, a `torch.nn.Module` or an `onnx.ModelProto`."""


@contextmanager
def model_file(model: Model) -> Iterator[tuple[Path, bool]]:
    """The file of a model, or its name, and whether it is there for this block only, because the model is in memory.

    Raises:
        InputError: the model cannot be written.
        UsageError: it is no model.
    """
    if isinstance(model, str | os.PathLike):
        yield Path(model), False
        return
    recognised = in_memory(model)
    if recognised is not None and isinstance(recognised.framework, UsesModels):
        with use_model(model) as source:
            yield source, True
        return
    if recognised is None or not isinstance(writer := recognised.framework, WritesModels):
        raise UsageError(
            "the object is not a model",
            found=type(model).__name__,
            expected="a path, a keras.Model, a torch.nn.Module or an onnx.ModelProto",
        )
    with TemporaryDirectory(prefix="bnexport-model-") as folder:
        name = re.sub(r"[^\w.-]", "_", str(getattr(model, "name", "") or "model"))
        path = Path(folder) / f"{name}{writer.suffix}"
        try:
            writer.write(model, path)
        except Exception as error:  # whatever a model of somebody's own raises
            raise InputError(f"the model in memory cannot be saved ({reason(error)})") from error
        yield path, True


def is_images(data: object) -> bool:
    """Whether data name images: a path, or a list of paths."""
    if isinstance(data, str | os.PathLike):
        return True
    return isinstance(data, list | tuple) and bool(data) and all(isinstance(item, str | os.PathLike) for item in data)


def arrays(data: Batches) -> Arrays | list[Arrays]:
    """Data in memory as arrays by name, `labels` (N,) among them where they come along; of an iterable one after the other.

    Args:
        data: an array for a model with one input, arrays by the name of the input, or batches or items of either.

    Raises:
        InputError: they are no arrays, or the batches have other inputs.
    """
    if isinstance(data, np.ndarray):
        return {"input": data}
    if isinstance(data, Mapping):
        return {str(name): _array(str(name), value) for name, value in data.items()}
    parts = [_batch(batch) for batch in data]
    if not parts:
        raise InputError("the iterable contains no batches")
    names = parts[0].keys()
    if any(part.keys() != names for part in parts):
        raise InputError("the batches have different inputs", found=", ".join(sorted({*names} ^ {*parts[-1]})))
    return parts


def _batch(batch: object) -> Arrays:
    if isinstance(batch, tuple) and len(batch) in (2, 3):  # (x, y) or (x, y, sample weights), as fit takes them
        inputs, labels = _batch(batch[0]), _classes(np.asarray(batch[1])) if not isinstance(batch[1], Mapping) else None
        return inputs if labels is None else {**inputs, "labels": labels}
    if isinstance(batch, Mapping):
        return {str(name): _array(str(name), value) for name, value in batch.items()}
    return {"input": _array("input", batch)}


def _array(name: str, value: object) -> Array:
    try:
        return np.asarray(value)
    except Exception as error:  # whatever a tensor of somebody's own raises
        raise InputError(f"{name} is not an array ({reason(error)})") from error


def _classes(y: Array) -> NDArray[np.int64] | None:
    """Class numbers from what `fit` takes as targets; None where they are something else."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim < 2 and y.dtype.kind in "iu":
        return y.astype(np.int64)
    one_hot = (
        y.ndim == 2 and y.dtype.kind in "fiub" and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
    )
    return y.argmax(axis=1).astype(np.int64) if one_hot else None
