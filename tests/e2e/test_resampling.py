"""The resize kernels in NumPy compute what OpenCV, TensorFlow and torch compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from bnexport.numerics.resampling.samplers import SAMPLERS

KERNELS = {name: sampler for sampler in SAMPLERS for name in sampler.names}
PIXELS = np.asarray(Image.open(f"{sklearn.datasets.__path__[0]}/images/flower.jpg"))[40:240, 60:360]
SIZES = [(96, 96), (61, 128), (260, 310), (100, 150)]
FLOAT32 = 0.02
"""Grey levels that float32 arithmetic of positions and weights moves a value by, where neighbours differ by up to 255."""


def far(name: str, actual: Any) -> Any:
    """How far a kernel is from what a library computed, value by value."""
    height, width = actual.shape[:2]
    return np.abs(KERNELS[name].resample(PIXELS.astype(np.float64), height, width) - actual)


@pytest.mark.parametrize("size", SIZES)
def test_opencv(size: tuple[int, int]) -> None:
    """All interpolations, on uint8 (equal but for ties of rounding) and on float32."""
    import cv2

    height, width = size
    wanted = (width, height)
    for flag in ("INTER_NEAREST", "INTER_LINEAR", "INTER_LINEAR_EXACT", "INTER_CUBIC", "INTER_AREA", "INTER_LANCZOS4"):
        made = far(f"OpenCV {flag}", cv2.resize(PIXELS, wanted, interpolation=getattr(cv2, flag)))
        if flag == "INTER_AREA" and height > PIXELS.shape[0]:
            assert (made > 0).mean() < 0.05  # columns whose position is an integer but for the last digit
            continue
        assert made.max() <= 1, flag
        assert (made > 0).mean() < 0.02, flag
        name = f"OpenCV {flag} on float32"
        if name in KERNELS:
            made = far(name, cv2.resize(PIXELS.astype(np.float32), wanted, interpolation=getattr(cv2, flag)))
            assert made.max() < FLOAT32, flag


@pytest.mark.keras
@pytest.mark.parametrize("size", SIZES)
def test_tensorflow(size: tuple[int, int]) -> None:
    """tf.image.resize with every method, with and without antialiasing, and the bilinear ones of TensorFlow 1."""
    import tensorflow as tf

    for method in ("bilinear", "bicubic", "lanczos3", "lanczos5", "mitchellcubic"):
        for antialias in (False, True):
            name = f"TensorFlow {method}{' (antialias=True)' if antialias else ''}"
            made = far(name, tf.image.resize(PIXELS, size, method, antialias=antialias).numpy())
            assert (made > FLOAT32).mean() < 0.02, name
            assert made.max() < (0.5 if name == "TensorFlow bicubic" else FLOAT32), (
                name
            )  # ties in a table of 1024 steps
    assert far("TensorFlow area", tf.image.resize(PIXELS, size, "area").numpy()).max() < 2 * FLOAT32
    assert far("TensorFlow nearest", tf.image.resize(PIXELS, size, "nearest").numpy()).max() == 0
    old = tf.compat.v1.image.resize_bilinear
    for name, corners in (
        ("TensorFlow 1 bilinear (half_pixel_centers=False)", False),
        ("bilinear with align_corners=True (torch or TensorFlow 1)", True),
    ):
        assert far(name, old(PIXELS[None], size, align_corners=corners)[0].numpy()).max() < FLOAT32


@pytest.mark.torch
@pytest.mark.parametrize("size", SIZES)
def test_torch(size: tuple[int, int]) -> None:
    """torch.nn.functional.interpolate on float32 and uint8, with and without antialiasing."""
    torch = pytest.importorskip("torch")
    from torch.nn.functional import interpolate

    x = torch.from_numpy(np.moveaxis(PIXELS, -1, 0).copy())[None]

    def made(mode: str, dtype: Any = torch.float32, **more: Any) -> Any:
        return np.moveaxis(interpolate(x.to(dtype), size, mode=mode, **more)[0].numpy(), 0, -1)

    for mode in ("bilinear", "bicubic"):
        for antialias in (False, True):
            more = {"antialias": antialias, "align_corners": False}
            assert far(f"torch {mode} (antialias={antialias})", made(mode, **more)).max() < FLOAT32
            on_uint8 = far(f"torch {mode} on uint8 (antialias={antialias})", made(mode, torch.uint8, **more))
            assert on_uint8.max() <= 2  # both passes round
            assert (on_uint8 > 0).mean() < 0.02
    assert far("torch bicubic (align_corners=True)", made("bicubic", align_corners=True)).max() < FLOAT32
    for mode in ("nearest", "nearest-exact", "area"):
        assert far(f"torch {mode}", made(mode)).max() < FLOAT32
