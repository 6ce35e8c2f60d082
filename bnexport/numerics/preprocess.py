"""From decoded pixels to the numbers a model sees.

    none            y = x
    unit            y = x / 255
    minus-one-one   y = x / 127.5 - 1
    caffe           y = x[BGR] - (103.939, 116.779, 123.68)
    torch           y = (x / 255 - mean) / std,  mean = (.485, .456, .406), std = (.229, .224, .225)

The last four are `keras.applications.imagenet_utils.preprocess_input` ("tf" is minus-one-one), computed in float32 in
the same order, so that the results are equal to the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.spec import Layout, Preprocessing, Scaling

_CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)


def preprocess(pixels: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.float32]:
    """One image as the model sees it.

    Args:
        pixels: uint8, shape (H, W, C), grey levels 0-255, already of the size and channels of `spec`.
        spec: the scaling and layout to apply.

    Returns:
        float32, shape `spec.shape`.

    >>> preprocess(np.full((1, 1, 1), 255, np.uint8), Preprocessing((1, 1), scaling=Scaling.MINUS_ONE_ONE)).item()
    1.0
    """
    x = _scaled(pixels.astype(np.float32), spec.scaling)
    return np.ascontiguousarray(x if spec.layout == Layout.NHWC else np.moveaxis(x, -1, 0))


def _scaled(grey: NDArray[np.float32], scaling: Scaling) -> NDArray[np.float32]:
    """Grey levels 0-255, the channels last, as a model sees them."""
    match scaling:
        case Scaling.NONE:
            return grey
        case Scaling.UNIT:
            return grey / np.float32(255)
        case Scaling.MINUS_ONE_ONE:
            return grey / np.float32(127.5) - np.float32(1)
        case Scaling.CAFFE:
            return grey[..., ::-1] - _CAFFE_MEAN_BGR
        case Scaling.TORCH:
            return (grey / np.float32(255) - _TORCH_MEAN) / _TORCH_STD


def rescaled(x: NDArray[np.float32], old: Scaling, new: Scaling, layout: Layout = Layout.NHWC) -> NDArray[np.float32]:
    """A batch that was prepared with the scaling `old`, as the scaling `new` would have prepared it.

    Args:
        x: float32, shape (N, H, W, C) or (N, C, H, W) as `layout` says; of any shape where neither scaling treats channels apart.
        old: how it was scaled.
        new: how it should have been.
        layout: where the channels stand.

    >>> rescaled(np.array([[0.0, 1.0]], np.float32), Scaling.UNIT, Scaling.MINUS_ONE_ONE).tolist()
    [[-1.0, 1.0]]
    """
    last = x if layout == Layout.NHWC else np.moveaxis(x, 1, -1)
    match old:
        case Scaling.NONE:
            grey = last
        case Scaling.UNIT:
            grey = last * np.float32(255)
        case Scaling.MINUS_ONE_ONE:
            grey = (last + np.float32(1)) * np.float32(127.5)
        case Scaling.CAFFE:
            grey = (last + _CAFFE_MEAN_BGR)[..., ::-1]
        case Scaling.TORCH:
            grey = (last * _TORCH_STD + _TORCH_MEAN) * np.float32(255)
    made = _scaled(grey, new)
    return np.ascontiguousarray(made if layout == Layout.NHWC else np.moveaxis(made, -1, 1))
