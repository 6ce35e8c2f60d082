"""Keras models against their export from the file alone: for the tests of the exporter's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexport.exporter.native import graph_of
from bnexport.keras_files.read import read_file

if TYPE_CHECKING:
    import keras
    import onnx

ROUNDING = 1e-5
"""How far an output may be from Keras', of its scale."""


def randomise(model: keras.Model, seed: int = 0) -> None:
    """Gives every floating-point weight of a model other values, those of variances positive ones."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" not in str(variable.dtype):
            continue
        values = rng.normal(0, 0.4, variable.shape)
        if "variance" in variable.path:
            values = np.abs(values) + 0.5
        variable.assign(values)


def feeds_for(model: keras.Model, batch: int, seed: int = 1, sides: Sequence[int] = (7, 6, 5)) -> dict[str, Any]:
    """An array for each input by name; open axes get one of `sides`, integers are small."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for tensor in model.inputs:
        free = iter(sides)
        shape = (batch, *(next(free) if side is None else side for side in tensor.shape[1:]))
        kind = str(tensor.dtype)
        if "int" in kind:
            feeds[tensor.name] = rng.integers(0, 5, shape).astype(kind)
        elif kind == "bool":
            feeds[tensor.name] = rng.random(shape) < 0.7
        else:
            feeds[tensor.name] = rng.normal(size=shape).astype(kind)
    return feeds


def export_of(model: keras.Model, folder: Path, form: str = "keras") -> onnx.ModelProto:
    """The graph of a saved copy of the model."""
    path = folder / f"model.{form}"
    model.save(path)
    return graph_of(read_file(path), None)


def agree(
    model: keras.Model,
    folder: Path,
    *,
    form: str = "keras",
    inputs: Mapping[int, Mapping[str, Any]] | None = None,
    tolerance: float = ROUNDING,
    random_weights: bool = True,
) -> onnx.ModelProto:
    """Makes sure that the exported graph answers as the model does at batch 1 and 3, and returns it.

    Args:
        model: the model.
        folder: where it is saved.
        form: "keras" or "h5".
        inputs: the arrays by batch size and input name, in place of random ones.
        tolerance: of the scale of an output.
        random_weights: whether the weights are randomised before.
    """
    import keras
    import onnxruntime

    if random_weights:
        randomise(model)
    graph = export_of(model, folder, form)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in inputs or (1, 3):
        feeds = dict(inputs[batch]) if inputs else feeds_for(model, batch)
        structure = getattr(model, "_inputs_struct", None)
        arrays = [feeds[tensor.name] for tensor in model.inputs]
        packed = keras.tree.pack_sequence_as(structure, arrays) if structure is not None else arrays[0]
        expected = keras.tree.flatten(model(packed, training=False))
        # The inputs of a model that was not loaded may have other names than those in its file.
        actual = session.run(None, dict(zip([i.name for i in session.get_inputs()], arrays, strict=True)))
        assert len(actual) == len(expected)
        for name, made, wanted in zip([o.name for o in session.get_outputs()], actual, expected, strict=True):
            right = np.asarray(wanted)
            assert made.shape == right.shape, name
            if right.dtype.kind not in "f":
                np.testing.assert_array_equal(made, right, name)
                continue
            numbers = np.isfinite(right)
            np.testing.assert_array_equal(made[~numbers], right[~numbers], name)
            made, right = made[numbers], right[numbers]
            scale = max(float(np.max(np.abs(right), initial=0.0)), 1e-6)
            assert np.max(np.abs(made - right), initial=0.0) <= tolerance * scale, name
    return graph
