"""Noise floors of models that resize images: TensorFlow resizes in float32, whatever it is given, and the float64 pass must not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport import check, export

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
L = keras.layers
pytestmark = pytest.mark.keras

METHODS = ("bilinear", "bicubic", "area", "lanczos3", "lanczos5")
SIZES = ((9, 8), (1, 5), (33, 17), (224, 3))
NEW = ((23, 17), (3, 4), (9, 8), (1, 1))


def wide(x: np.ndarray, size: Any, method: str, **options: bool) -> np.ndarray:
    from bnexport.frameworks.keras.wide_resizing import resizing_in_float64

    with resizing_in_float64():
        resized: np.ndarray = tf.image.resize(tf.constant(x), size, method=method, **options).numpy()
    return resized


@pytest.mark.parametrize(
    ("method", "antialias"), [*((m, False) for m in METHODS), ("bilinear", True), ("bicubic", True)]
)
def test_resizing_in_float64_is_what_tensorflow_means(method: str, antialias: bool) -> None:
    """Near TensorFlow's float32, whose positions are off by an eps of the side, and linear as float64 is, which float32 is not."""
    rng = np.random.default_rng(0)
    for size, new in itertools.product(SIZES, NEW):
        one, other = rng.random((2, 2, *size, 3))
        both = wide(one + other, new, method, antialias=antialias)
        assert both.dtype == np.float64
        parts = [wide(part, new, method, antialias=antialias) for part in (one, other)]
        np.testing.assert_allclose(both, sum(parts), rtol=1e-12, atol=1e-14)
        theirs = tf.image.resize((one + other).astype("f"), new, method=method, antialias=antialias).numpy()
        np.testing.assert_allclose(both, theirs, atol=4 * max(size) * np.finfo("f").eps)
        alone = wide(one[0], new, method, antialias=antialias)  # one image, without a batch
        np.testing.assert_allclose(alone, parts[0][0], rtol=1e-12, atol=1e-14)


def test_bilinear_positions_are_computed_in_float64() -> None:
    """The same as linear interpolation between the centres of pixels by NumPy."""
    row = np.random.default_rng(0).random(224)
    for new in (3, 100, 331):
        middles = (np.arange(new) + 0.5) * 224 / new - 0.5
        expected = np.interp(middles, np.arange(224), row)
        np.testing.assert_allclose(
            wide(row[None, :, None, None], (new, 1), "bilinear")[0, :, 0, 0], expected, rtol=1e-12
        )
        np.testing.assert_allclose(
            wide(row[None, None, :, None], (1, new), "bilinear")[0, 0, :, 0], expected, rtol=1e-12
        )


def test_what_is_not_float64_and_nearest_are_left_to_tensorflow() -> None:
    """Their numbers and types are TensorFlow's; so are sizes that a graph computes."""
    x = np.random.default_rng(0).random((2, 9, 8, 3))
    for given, method in ((x.astype("f"), "bilinear"), (x, "nearest")):
        theirs = tf.image.resize(given, (4, 5), method=method).numpy()
        np.testing.assert_array_equal(wide(given, (4, 5), method), theirs)
        assert wide(given, (4, 5), method).dtype == theirs.dtype

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float64), tf.TensorSpec((2,), tf.int32)])
    def resize(images: Any, size: Any) -> Any:
        return tf.image.resize(images, size)

    assert resize(x, [4, 5]).dtype == tf.float32
    from bnexport.frameworks.keras.wide_resizing import resizing_in_float64

    resize = tf.function(resize.python_function, input_signature=resize.input_signature)
    with resizing_in_float64():
        made = resize(x, [4, 5])
    np.testing.assert_array_equal(made.numpy(), wide(x, (4, 5), "bilinear"))


def pyramid(method: str, new: int) -> keras.Model:
    """What an image has that its smaller copy lacks; nothing before the resizing rounds."""
    x = keras.Input((63, 63, 2), name="x")
    small = L.MaxPooling2D(3, name="small")(x)
    if method == "up":
        return keras.Model(x, L.Subtract(name="y")([x, L.UpSampling2D(3, interpolation="bilinear", name="up")(small)]))
    shown = L.Resizing(new, new, interpolation=method, antialias=method == "lanczos3", name="resized")
    return keras.Model(x, L.Subtract(name="y")([x, shown(small)] if new == 63 else [small, shown(x)]))


@pytest.mark.parametrize(
    ("method", "new"), [("up", 63), ("bilinear", 63), ("bicubic", 63), ("area", 21), ("lanczos3", 21)]
)
def test_rounding_of_resized_images_is_no_difference(method: str, new: int, tmp_path: Path) -> None:
    """What is left of images of 100 to 100.01 is as large as the rounding that resizing does: floors without it called a right runtime wrong."""
    pyramid(method, new).save(tmp_path / "net.keras")
    x = (100 + 0.01 * np.random.default_rng(0).random((2, 63, 63, 2))).astype("f")
    report = check(tmp_path / "net.keras", x, targets=["onnxruntime:cpu"])
    assert report, str(report)
    [compared] = [c for c in report.comparisons if (c.actual, c.reference) == ("onnx-inference@cpu", "keras-inference")]
    assert compared.difference.max_rel > 1e-5
    assert compared.noise_floors is not None
    assert compared.noise_floors < 6


def test_another_way_to_resize_is_a_difference_still(tmp_path: Path) -> None:
    """A file that resizes by another kernel, which differs where the image does."""
    pyramid("bilinear", 63).save(tmp_path / "net.keras")
    for method in ("bilinear", "bicubic"):
        pyramid(method, 63).save(tmp_path / "other.keras")
        export(tmp_path / "other.keras", tmp_path / f"{method}.onnx")
    x = np.random.default_rng(0).random((2, 63, 63, 2), np.float32)
    assert check(tmp_path / "net.keras", x, deployed=tmp_path / "bilinear.onnx")
    assert not check(tmp_path / "net.keras", x, deployed=tmp_path / "bicubic.onnx")
