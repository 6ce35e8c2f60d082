"""From decoded pixels to the numbers a model sees, and back.

    none            y = x
    unit            y = x / 255
    minus-one-one   y = x / 127.5 - 1
    caffe           y = x[BGR] - (103.939, 116.779, 123.68)
    torch           y = (x / 255 - mean) / std,  mean = (.485, .456, .406), std = (.229, .224, .225)
    mean-std        the same with any mean and std
    minus-128       y = x - 128, which int8 inputs take

The second to the fifth are `keras.applications.imagenet_utils.preprocess_input` ("tf" is minus-one-one), computed in float32 in
the same order, so that the results are equal to the last bit. The channel order is settled before the scaling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.results.preprocessing import Arithmetic, Layout, Order, Preprocessing, Scaling
from bnexport.types import Array

Floats = NDArray[np.float32]


def preprocess(pixels: NDArray[np.uint8] | Floats, spec: Preprocessing) -> Floats:
    """One image as the model sees it.

    Args:
        pixels: shape (H, W, C), grey levels 0-255, channels R G B, already of the size and channels of `spec`; uint8, or float32 from a kernel that does not round.
        spec: the channel order, scaling and layout to apply.

    Returns:
        float32, shape `spec.shape`.

    >>> preprocess(np.full((1, 1, 1), 255, np.uint8), Preprocessing((1, 1), scaling=Scaling.MINUS_ONE_ONE)).item()
    1.0
    """
    x = _scale(_reorder(pixels.astype(np.float32), spec), spec)
    return np.ascontiguousarray(x if spec.layout == Layout.NHWC else np.moveaxis(x, -1, 0))


def rescale(x: Array, old: Preprocessing, new: Preprocessing) -> Floats:
    """A batch that was prepared by `old`, as `new` would have prepared it: scaling and channel order; sizes and kernels are not looked at.

    Args:
        x: float32, shape (N, H, W, C) or (N, C, H, W) as the layout of `old` says; of any shape where nothing treats channels apart.
        old: how it was prepared.
        new: how it should have been.

    >>> rescale(np.array([[0.0, 1.0]], np.float32), Preprocessing((1, 1), scaling=Scaling.UNIT), Preprocessing((1, 1), scaling=Scaling.MINUS_ONE_ONE)).tolist()
    [[-1.0, 1.0]]
    """
    prepared: NDArray[Any] = x  # whose arithmetic is that of its own dtype
    last = prepared if old.layout == Layout.NHWC or x.ndim < 3 else np.moveaxis(prepared, 1, -1)
    made = _scale(_reorder(_reorder(_grey(last, old), old), new), new)
    return np.ascontiguousarray(made if old.layout == Layout.NHWC or x.ndim < 3 else np.moveaxis(made, -1, 1))


def _reorder(x: Floats, spec: Preprocessing) -> Floats:
    return x[..., ::-1] if spec.order == Order.BGR else x


def _scale(grey: Floats, spec: Preprocessing) -> Floats:
    """Grey levels 0-255, the channels last, as a model sees them."""
    if spec.scaling == Scaling.MEAN_STD:  # with mean and deviation as they were written
        return np.asarray((grey / np.float32(255) - np.array(spec.mean)) / np.array(spec.std), np.float32)
    x = grey[..., ::-1] if spec.scaling == Scaling.CAFFE else grey
    for step, values in spec.steps:
        by = np.array(values, np.float32)
        x = x / by if step == Arithmetic.DIVIDE else x - by
    return x


def _grey(x: Floats, spec: Preprocessing) -> Floats:
    """The grey levels that `_scale` made `x` of."""
    grey = x
    for step, values in reversed(spec.steps):
        by = np.array(values, np.float32)
        grey = grey * by if step == Arithmetic.DIVIDE else grey + by
    return grey[..., ::-1] if spec.scaling == Scaling.CAFFE else grey
