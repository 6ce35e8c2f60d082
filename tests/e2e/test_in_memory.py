"""Models and data of a Python session: the same verdicts as from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bnexport import check
from bnexport.checking.in_memory import arrays
from bnexport.errors import InputError, UsageError
from bnexport.results.verdict import CheckReport
from tests.e2e import nets

X = np.random.default_rng(0).normal(size=(6, 32, 32, 1)).astype(np.float32)
Y = np.arange(6) % 3


def shown(report: CheckReport) -> list[Any]:
    """What must be the same however a model and its data come."""
    sides = [(s.id, s.correct, list(s.answers)) for s in report.sides]
    return [[f.code for f in report.findings], sides, [(c.tensor, c.difference.max_abs) for c in report.comparisons]]


@pytest.fixture(scope="module")
def from_files(models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    data = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(data, image=X, labels=Y)
    return shown(check(models / "tiny_residual.onnx", inputs=data, batch_size=3))


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from ((X[:2], Y[:2]), (X[2:], Y[2:]))


@pytest.mark.parametrize(
    "data",
    [
        {"image": X, "labels": Y},
        [(X[:3], Y[:3]), (X[3:], Y[3:])],
        [({"image": X}, np.eye(3)[Y])],
        [(X, Y[:, None])],
    ],
    ids=["mapping", "batches", "named, one-hot", "a column of labels"],
)
def test_data_in_memory_are_those_of_a_file(data: Any, models: Path, from_files: list[Any]) -> None:
    """Arrays by name, and batches with class numbers or one-hot targets, as `fit` takes them."""
    assert shown(check(models / "tiny_residual.onnx", data, batch_size=3)) == from_files


def test_an_iterator_is_gone_through_once(models: Path, from_files: list[Any]) -> None:
    """A generator cannot be started again, and need not be."""
    assert shown(check(models / "tiny_residual.onnx", batches(), batch_size=3)) == from_files


def test_an_array_alone_has_no_labels(models: Path) -> None:
    """The one array is the one input, whatever its name."""
    report = check(models / "tiny_residual.onnx", X)
    assert report.images.source == "arrays in memory"
    assert report.sides[0].correct is None
    assert {c.tensor for c in report.comparisons} == {"logits", "probabilities"}


def test_an_onnx_model_in_memory(models: Path, from_files: list[Any]) -> None:
    """No command can name it, so that no action has one."""
    report = check(onnx.load(models / "tiny_residual.onnx"), {"image": X, "labels": Y}, batch_size=3)
    assert shown(report) == from_files
    assert all(action.command is None or "{" not in action.command for f in report.findings for action in f.actions)
    assert not any("bnexport-model-" in str(action) for f in report.findings for action in f.actions)


@pytest.mark.keras
def test_a_keras_model_in_memory(models: Path) -> None:
    """A `keras.Model` and a `tf.data.Dataset`: what the file of the model gives."""
    import tensorflow as tf

    path = models / "tiny_residual.keras"
    net = nets._keras().models.load_model(path, compile=False)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    assert shown(check(net, dataset, batch_size=3)) == shown(check(path, {"image": X, "labels": Y}, batch_size=3))
    assert net.get_layer("stem_bn") is not None  # the caller's model is as it was


def test_what_is_no_model_or_data_is_said(models: Path) -> None:
    """One sentence for each."""
    with pytest.raises(UsageError, match=r"the object is not a model: found int; expected a path, a keras\.Model"):
        check(3, X)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no batches"):
        check(models / "tiny_residual.onnx", [])
    with pytest.raises(InputError, match="different inputs"):
        arrays([{"a": X}, {"b": X}])
    with pytest.raises(InputError, match="the wrong shape"):
        check(models / "tiny_residual.onnx", [X, X[:, :5]])
    with pytest.raises(UsageError, match="images or on arrays, not both"):
        check(models / "tiny_residual.onnx", X, inputs="data.npz")
    with pytest.raises(InputError, match="the wrong shape"):
        check(models / "tiny_residual.onnx", X[:, :5])
