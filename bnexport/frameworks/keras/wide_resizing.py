"""Resizing of images in float64 on TensorFlow, whose own kernels compute in float32, whatever they are given (tensorflow).

Resizing is linear, one axis after the other: out[r] = sum over s of weight[r, s] * image[s]. With a scale of side / new, bilinear weights are those of the
two pixels around

    at = (r + 0.5) * side / new - 0.5,   clipped to [0, side - 1]

and are computed in float64, because each runtime rounds `at` in its own way. Those of the other kernels are numbers that an exported file has as
they are: they are TensorFlow's own in float32, read off the resized rows of a unit matrix, and only what they are multiplied by is float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnexport.frameworks.keras.patch import method_replaced

if TYPE_CHECKING:
    import tensorflow as tf


@contextmanager
def resizing_in_float64() -> Iterator[None]:
    """While open, what this thread resizes by `tf.image.resize` in float64 is computed in it and stays so, but for "nearest"."""
    import tensorflow as tf

    def resize(
        images: tf.Tensor, size: object, method: str = "bilinear", *more: object, **options: object
    ) -> tf.Tensor:
        antialias = bool(options.get("antialias", False))
        wide = tf.is_tensor(images) and images.dtype == tf.float64 and images.shape.rank in (3, 4)
        if not wide or method == "nearest" or more or options.keys() - {"antialias"}:
            return original(images, size, method, *more, **options)
        resized = images if images.shape.rank == 4 else images[tf.newaxis]
        for axis in (1, 2):
            side, new = tf.shape(resized)[axis], tf.convert_to_tensor(size)[axis - 1]
            if method == "bilinear" and not antialias:
                resized = _between_neighbours(resized, axis, side, new)
            else:
                unit = tf.eye(side)[tf.newaxis, :, tf.newaxis]  # an image of one column, with a channel for each row
                weights = tf.cast(original(unit, (new, 1), method, antialias=antialias)[0, :, 0], tf.float64)
                resized = tf.einsum("rs,nswc->nrwc" if axis == 1 else "rs,nhsc->nhrc", weights, resized)
        sides = tf.get_static_value(tf.convert_to_tensor(size))
        if sides is not None:
            resized.set_shape((images.shape[0] if images.shape.rank == 4 else 1, *sides, images.shape[-1]))
        return resized if images.shape.rank == 4 else resized[0]

    with method_replaced(tf.image, "resize", resize) as original:
        yield


def _between_neighbours(x: tf.Tensor, axis: int, side: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    last = tf.cast(side - 1, tf.float64)
    at = (tf.range(tf.cast(new, tf.float64), dtype=tf.float64) + 0.5) * tf.cast(side, tf.float64)
    at = tf.clip_by_value(at / tf.cast(new, tf.float64) - 0.5, 0.0, last)
    below, above = tf.floor(at), tf.math.ceil(at)
    share = tf.reshape(at - below, (-1, 1, 1) if axis == 1 else (-1, 1))
    first, second = (tf.gather(x, tf.cast(row, tf.int32), axis=axis) for row in (below, above))
    return first + (second - first) * share
