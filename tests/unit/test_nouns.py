"""Arrays are not called images: neither in a finding nor anywhere in the text of a check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bnexport.cli import app
from bnexport.numerics.variety import Variety
from bnexport.results.nouns import IMAGES, SAMPLES
from bnexport.rules import inputs, runtime

MODEL = Path(__file__).parents[2] / "models" / "tiny_residual.onnx"
OF_PICTURES = ("image", "picture", "colour", "crop", "contrast", "pixel", "kernel")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_samples_are_not_called_images(count: int) -> None:
    """IN003 for one sample, for copies of one that holds a single value, and for few."""
    x = np.ones((count, 4), np.float32) * (np.arange(count)[:, None] if count == 3 else 1)
    variety = Variety()
    variety.add([str(n) for n in range(count)], {"x": x})
    finding = inputs.few(variety, SAMPLES)
    assert finding is not None
    assert not [word for word in OF_PICTURES if word in str((finding.message, finding.actions))]
    assert "image" in str(inputs.few(variety, IMAGES))


def test_values_that_are_not_finite_are_counted_in_samples() -> None:
    finding = runtime.not_finite({"keras-inference": 1}, 3, SAMPLES)
    assert finding is not None
    assert "1 of 3 samples" in finding.message


@pytest.mark.parametrize(("size", "code"), [(1, "IN002"), (100, "BN001")])
def test_a_check_of_arrays_speaks_of_samples(tmp_path: Path, size: float, code: str) -> None:
    """The whole text on stdout, with other data than in training, and with statistics that look stale."""
    x = size * np.random.default_rng(0).standard_normal((3, 32, 32, 1))
    np.savez(tmp_path / "x.npz", x.astype(np.float32))
    command = ["check", str(MODEL), "--inputs", str(tmp_path / "x.npz"), "--no-cache", "--provider", "cpu"]
    text = CliRunner().invoke(app, command).stdout.replace(str(tmp_path), "")
    assert code in text
    assert "3 samples" in text
    assert not [word for word in OF_PICTURES if word in text.lower()]
