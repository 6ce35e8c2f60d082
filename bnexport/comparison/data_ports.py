"""What a check's data say about the inputs of a model that does not say itself what it takes: a module of PyTorch without an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bnexport.datasets import npz
from bnexport.datasets.arrays.opening import Data
from bnexport.errors import UsageError
from bnexport.frameworks.protocols import Port
from bnexport.results.actions import spell_options
from bnexport.results.overrides import Overrides


def ports_of_data(inputs: Data | None, overrides: Overrides) -> tuple[Port, ...]:
    """The inputs that the data are for: arrays as they are, images with their channels first and of the size that is named.

    Args:
        inputs: the arrays; None for images.
        overrides: how images are prepared.

    Raises:
        InputError: the arrays cannot be read.
        UsageError: the data do not say what the model takes.
    """
    if inputs is not None:
        return tuple(Port(name, (None, *x.shape[1:]), x.dtype) for name, x in _arrays(inputs).items())
    if overrides.size is None:
        raise UsageError(
            "the size of the images is not known", fix=f"choose one, for example {spell_options(size=(224, 224))}"
        )
    return (Port("images", (None, overrides.channels or 3, *overrides.size), np.dtype(np.float32)),)


def _arrays(inputs: Data) -> Mapping[str, np.ndarray]:
    if isinstance(inputs, Path) and inputs.suffix.lower() == ".npy":
        return {"input": npz.load_one(inputs)}
    if isinstance(inputs, Path) and inputs.suffix.lower() == ".npz":
        inputs = npz.load(inputs)
    if not isinstance(inputs, Mapping):
        raise UsageError(
            "these data do not say what the module takes",
            found=str(inputs) if isinstance(inputs, Path) else "items of different shapes",
            fix=f"pass its ONNX file with {spell_options(onnx='model.onnx')}, or arrays with {spell_options(inputs='data.npz')}",
        )
    return {name: array for name, array in inputs.items() if name != "labels"}
