"""TensorFlow's resize kernels, to the last bit and without TensorFlow.

Pixel centres are at half numbers (`half_pixel_centers=True`), there is no antialiasing, everything is float32 (tensorflow/core/kernels/image/resize_bilinear_op.cc,
resize_nearest_neighbor_op.cc, and image_resizer_state.h):

    s = in / out,  p = (i + 1/2) s - 1/2,  l = max(floor p, 0),  u = min(ceil p, in - 1),  w = p - floor p
    top = x[l, l'] + (x[l, u'] - x[l, l']) w',  bottom likewise in row u,  y = top + (bottom - top) w
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_HALF = np.float32(0.5)


def tf_bilinear(pixels: NDArray[np.uint8], height: int, width: int) -> Floats:
    """`tf.image.resize(pixels, (height, width), "bilinear")`.

    Args:
        pixels: uint8, shape (H, W, C).
        height: of the result.
        width: of the result.

    Returns:
        float32, shape (height, width, C), not rounded.

    >>> tf_bilinear(np.array([[[0], [10]]], np.uint8), 1, 4).ravel().tolist()
    [0.0, 2.5, 7.5, 10.0]
    """
    left, right, across = _weights(width, pixels.shape[1])
    above, below, down = _weights(height, pixels.shape[0])
    rows = {}
    for name, index in (("top", above), ("bottom", below)):
        band = pixels[index].astype(np.float32)
        first = band[:, left]
        rows[name] = first + (band[:, right] - first) * across[None, :, None]
    return np.asarray(rows["top"] + (rows["bottom"] - rows["top"]) * down[:, None, None], np.float32)


def tf_nearest(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """`tf.image.resize(pixels, (height, width), "nearest")`.

    Args:
        pixels: uint8, shape (H, W, C).
        height: of the result.
        width: of the result.

    Returns:
        uint8, shape (height, width, C).
    """
    rows, columns = (_nearest(out, size) for out, size in ((height, pixels.shape[0]), (width, pixels.shape[1])))
    return pixels[rows][:, columns]


def _weights(out: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    position = (np.arange(out).astype(np.float32) + _HALF) * (np.float32(size) / np.float32(out)) - _HALF
    low = np.floor(position)
    lower = np.maximum(low.astype(np.int64), 0)
    upper = np.minimum(np.ceil(position).astype(np.int64), size - 1)
    return lower, upper, (position - low).astype(np.float32)


def _nearest(out: int, size: int) -> NDArray[np.int64]:
    position = (np.arange(out).astype(np.float32) + _HALF) * (np.float32(size) / np.float32(out))
    return np.asarray(np.minimum(np.floor(position).astype(np.int64), size - 1))
