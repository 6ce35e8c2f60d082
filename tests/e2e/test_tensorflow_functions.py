"""Models of Keras 2 with TensorFlow functions, which Keras 3 cannot load, exported from the file alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bnexport.exporter.native import graph_of
from bnexport.exporter.protocols import NotConverted
from bnexport.keras_files.read import read_file
from tests.e2e import tensorflow_functions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, from one process of Keras 2."""
    if find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed")
    where = tmp_path_factory.mktemp("functions")
    subprocess.run([sys.executable, tensorflow_functions.__file__, str(where)], check=True, capture_output=True)
    return where


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_functions_compute_what_tensorflow_computes(suffix: str, folder: Path) -> None:
    """Each function agrees with TensorFlow to 1e-6 of scale, in shape and dtype."""
    graph = graph_of(read_file(folder / f"functions{suffix}"), None)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    with np.load(folder / "functions.npz") as data:
        made = session.run(None, {"x": data["x"], "i": data["i"]})
        for nth, value in enumerate(made):
            wanted = data[f"output_{nth}"]
            assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype), nth
            scale = max(float(np.max(np.abs(wanted))), 1e-6)
            assert np.max(np.abs(value.astype(float) - wanted.astype(float))) <= 1e-6 * scale, nth


def test_a_function_that_is_not_covered_is_named(tmp_path: Path, folder: Path) -> None:
    """The reason names TensorFlow's function."""
    import h5py

    path = tmp_path / "model.h5"
    path.write_bytes((folder / "functions.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace("math.cumsum", "math.bincount")
    with pytest.raises(NotConverted, match=r"tf\.math\.bincount"):
        graph_of(read_file(path), None)
