"""Nodes of keras.ops, a line for each: statistics, matrices, bits, series, losses and colours, exported from the file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.exporter.protocols import NotConverted
from tests.exported import agree, export_of

keras = pytest.importorskip("keras")
ops = keras.ops
pytestmark = pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning")

WEIGHTS = np.asarray([0.5, 1.0, 2.0, 0.25], "float32")
HOLES = np.where(np.eye(6, 4) > 0, np.nan, 1).astype("float32")

OF_ROWS: dict[str, Callable[[Any], Any]] = {
    "quantile": lambda x: ops.quantile(x, 0.3, axis=1),
    "quantiles": lambda x: ops.quantile(x, [0.1, 0.5, 0.9], axis=(1, 2), keepdims=True),
    "quantile, as Keras has its method": lambda x: ops.quantile(x, 0.3, axis=-1, method="midpoint"),
    "percentile, midpoint": lambda x: ops.percentile(x, 30, axis=-1, method="midpoint"),
    "percentile, lower": lambda x: ops.percentile(x, [30, 80], axis=1, method="lower"),
    "percentile, higher": lambda x: ops.percentile(x, 30, axis=1, method="higher"),
    "percentile, nearest": lambda x: ops.percentile(x, 70, axis=2, method="nearest"),
    "quantile of nan": lambda x: ops.quantile(x * HOLES, 0.3, axis=1),
    "percentile": lambda x: ops.percentile(x, [25, 60], axis=1),
    "median": lambda x: ops.median(x, axis=(1, 2)),
    "median, kept": lambda x: ops.median(x, axis=1, keepdims=True),
    "nanmax": lambda x: ops.nanmax(x * HOLES, axis=1),
    "nanmin": lambda x: ops.nanmin(x * HOLES, axis=(1, 2), keepdims=True),
    "nansum": lambda x: ops.nansum(x * HOLES, axis=2),
    "nanprod": lambda x: ops.nanprod(x * HOLES, axis=1),
    "nanmean": lambda x: ops.nanmean(x * HOLES, axis=1),
    "nanstd": lambda x: ops.nanstd(x * HOLES, axis=1),
    "nanvar": lambda x: ops.nanvar(x * HOLES, axis=2, keepdims=True),
    "nanargmax": lambda x: ops.nanargmax(x * HOLES, axis=1),
    "nanargmin": lambda x: ops.nanargmin(x * HOLES, axis=2),
    "nanargmax of nothing": lambda x: ops.nanargmax(x * np.nan, axis=2),
    "nancumsum": lambda x: ops.nancumsum(x * HOLES, axis=1),
    "nancumprod": lambda x: ops.nancumprod(x * HOLES, axis=2),
    "average": lambda x: ops.average(x, axis=2, weights=WEIGHTS),
    "trapezoid": lambda x: ops.trapezoid(x, dx=0.5, axis=1),
    "norm of order 3": lambda x: ops.norm(x, ord=3, axis=-1),
    "normalize of order 3": lambda x: ops.normalize(x, axis=-1, order=3),
    "layer normalization over axes": lambda x: ops.layer_normalization(x, axis=(1, 2)),
    "layer normalization, rms": lambda x: ops.layer_normalization(x, axis=-1, rms_scaling=True),
    "fmax": lambda x: ops.fmax(x * HOLES, 0.1),
    "fmin": lambda x: ops.fmin(0.1, x * HOLES),
    "fmod": lambda x: ops.fmod(x * 3, 0.7),
    "ldexp": lambda x: ops.ldexp(x, np.asarray([1, -2, 0, 3], "int32")),
    "sinc": lambda x: ops.sinc(ops.relu(x)),
    "signbit": lambda x: ops.signbit(-ops.relu(x)),
    "angle": lambda x: ops.angle(x),
    "imag": lambda x: ops.imag(x),
    "isreal": lambda x: ops.isreal(x),
    "allclose": lambda x: ops.allclose(x, x + 1e-9),
    "isclose, nan": lambda x: ops.isclose(x * HOLES, x * HOLES, equal_nan=True),
    "isclose, infinite": lambda x: ops.isclose(x / ops.relu(x), np.inf),
    "isin": lambda x: ops.isin(ops.round(x), [0.0, 1.0]),
    "digitize": lambda x: ops.digitize(x, np.asarray([-0.5, 0.0, 1.0])),
    "searchsorted": lambda x: ops.searchsorted(np.asarray([-0.5, 0.0, 1.0], "float32"), x[:, 0, 0], side="right"),
    "diagonal": lambda x: ops.diagonal(x, axis1=1, axis2=2),
    "diagonal, lower": lambda x: ops.diagonal(x, offset=-2, axis1=1, axis2=2),
    "trace": lambda x: ops.trace(x[:, :4], offset=1, axis1=1, axis2=2),
    "cross": lambda x: ops.cross(x[..., :3], x[..., 1:]),
    "cross of two": lambda x: ops.cross(x[..., :2], x[..., 2:]),
    "cross of two and three": lambda x: ops.cross(x[:, :2], x[:, 3:], axis=1),
    "kron": lambda x: ops.kron(x, np.asarray([[[1.0, 2.0], [3.0, 4.0]]], "float32")),
    "vander": lambda x: ops.vander(x[:, 0, 0], N=4),
    "vander, increasing": lambda x: ops.vander(x[:, 0, 0], N=3, increasing=True),
    "rot90": lambda x: ops.rot90(x, axes=(1, 2)),
    "rot90, backwards": lambda x: ops.rot90(x, k=3, axes=(1, 2)),
    "rot90, twice": lambda x: ops.rot90(x[:, :4], k=2, axes=(1, -1)),
    "linspace": lambda x: ops.linspace(x, x + 1, num=5, axis=1),
    "logspace": lambda x: ops.logspace(x, x + 1, num=4, endpoint=False, base=3),
    "det": lambda x: ops.det(x[:, :4]),
    "slogdet": lambda x: ops.slogdet(x[:, 1:5]),
    "logdet": lambda x: ops.logdet(ops.matmul(x, ops.transpose(x, (0, 2, 1)))[:, :2, :2]),
    "sequences": lambda x: ops.extract_sequences(x, 2, 1),
    "rfft": lambda x: ops.rfft(x),
    "rfft, longer": lambda x: ops.rfft(x, fft_length=7),
    "fft": lambda x: ops.fft((x, x * 0.5)),
    "irfft": lambda x: ops.irfft((x, x * 0.5)),
    "irfft, odd": lambda x: ops.irfft((x, x * 0.5), fft_length=5),
    "stft": lambda x: ops.stft(ops.reshape(x, (-1, 24)), 8, 3, 8),
    "stft, padded": lambda x: ops.stft(ops.reshape(x, (-1, 24)), 7, 3, 10, window="hamming", center=False),
    "slice update": lambda x: ops.slice_update(x, (0, 1, 2), x[:, :3, :2] * 2),
    "scatter": lambda x: ops.scatter(np.asarray([[1], [3], [1]]), x[0, :3], (5, 4)),
    "binary crossentropy": lambda x: ops.binary_crossentropy(ops.cast(x > 0, "float32"), ops.softmax(x)),
    "binary crossentropy of logits": lambda x: ops.binary_crossentropy(ops.sin(x) ** 2, x, from_logits=True),
    "categorical crossentropy": lambda x: ops.categorical_crossentropy(ops.softmax(x), ops.sin(x) ** 2),
    "categorical crossentropy of logits": lambda x: ops.categorical_crossentropy(ops.softmax(x), x, from_logits=True),
    "psnr": lambda x: ops.psnr(x, x * 0.5, 2.0),
    "causal attention": lambda x: ops.dot_product_attention(*[x[:, :, None, :]] * 3, is_causal=True),
}  # fmt: skip
"""Operations on rows of floating-point numbers, (6, 4)."""

OF_INTEGERS: dict[str, Callable[[Any], Any]] = {
    "and": lambda i: ops.bitwise_and(i, np.asarray(6, "int32")),
    "or": lambda i: ops.bitwise_or(i, np.asarray(5, "int32")),
    "xor": lambda i: ops.bitwise_xor(i, i - 9),
    "not": lambda i: ops.bitwise_not(i),
    "and of bytes": lambda i: ops.bitwise_and(ops.cast(i, "uint8"), ops.cast(i + 3, "uint8")),
    "invert of bytes": lambda i: ops.bitwise_invert(ops.cast(i, "uint8")),
    "left": lambda i: ops.left_shift(i, 3),
    "right": lambda i: ops.bitwise_right_shift(i * 9 - 20, 2),
    "fmod": lambda i: ops.fmod(i * 3 - 7, 4),
    "fmax": lambda i: ops.fmax(i, 2),
    "isin": lambda i: ops.isin(i, np.asarray([1, 3], "int32"), invert=True),
    "digitize": lambda i: ops.digitize(i, np.asarray([1.0, 3.0])),
    "quantile": lambda i: ops.quantile(i, 0.3, axis=1),
    "nanmax": lambda i: ops.nanmax(i, axis=1),
    "nanmean": lambda i: ops.nanmean(i, axis=1),
    "trace": lambda i: ops.trace(ops.cast(i, "uint8")[:, :, None] * ops.cast(i, "uint8")[:, None], axis1=1, axis2=2),
    "unravel": lambda i: ops.unravel_index(i[:, 0] * 3, (4, 5)),
    "segment sum": lambda i: ops.segment_sum(i, i[:, 0], num_segments=6),
    "segment max": lambda i: ops.segment_max(ops.cast(i, "float32"), i[:, 0], num_segments=5),
    "segment min": lambda i: ops.segment_min(i, i[:, 1] - 1, num_segments=5),
    "segment prod": lambda i: ops.segment_prod(ops.cast(i, "float32"), i[:, 1], num_segments=5),
    "in top k": lambda i: ops.in_top_k(i[:, 0], ops.sin(ops.cast(i, "float32") + np.arange(5, dtype="float32")), 2),
    "sparse crossentropy": lambda i: ops.sparse_categorical_crossentropy(i[:, 0], ops.softmax(ops.cast(i, "float32"))),
    "sparse crossentropy of logits": lambda i: ops.sparse_categorical_crossentropy(i[:, :1], ops.cast(i, "float32"), from_logits=True),
    "full": lambda i: ops.full((2, 3), i[0, 0]),
}  # fmt: skip
"""Operations on rows of integers, (5,)."""

OF_IMAGES: dict[str, Callable[[Any], Any]] = {
    "hue": lambda x: ops.image.rgb_to_hsv(ops.sin(x) ** 2),
    "colours": lambda x: ops.image.hsv_to_rgb(ops.sin(x) ** 2),
    "blur": lambda x: ops.image.gaussian_blur(x, (3, 3), (0.8, 1.3)),
    "edges": lambda x: ops.image.sobel_edges(x),
    "unfold": lambda x: ops.unfold(ops.transpose(x, (0, 3, 1, 2)), (2, 3), dilation=(1, 2), padding=1, stride=2),
    "corrcoef": lambda x: ops.corrcoef(x[0, :, :, 0]),
}
"""Operations on images, (7, 6, 3)."""

TABLES: dict[str, tuple[dict[str, Callable[[Any], Any]], tuple[int, ...], str]] = {
    "rows": (OF_ROWS, (6, 4), "float32"),
    "integers": (OF_INTEGERS, (5,), "int32"),
    "images": (OF_IMAGES, (7, 6, 3), "float32"),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_operation_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    """All of a table in one model, at batch 1 and 3."""
    table, shape, dtype = TABLES[name]
    x = keras.Input(shape, dtype=dtype)
    outputs = [part for build in table.values() for part in keras.tree.flatten(build(x))]
    agree(keras.Model(x, outputs), tmp_path)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "cholesky": (lambda x: ops.cholesky(x[:, :4]), "the operation Cholesky"),
    "bincount": (lambda x: ops.bincount(ops.cast(x[:, 0], "int32")), "the operation Bincount"),
    "segments": (lambda x: ops.segment_sum(x, ops.cast(x[:, 0, 0], "int32")), "as many rows as the data decide"),
    "quantile": (lambda x: ops.quantile(x, 0.5), "over axes of open size"),
    "sum": (lambda x: x[:, :4] + np.ones((4, 1), "float32"), "broadcasts along another axis than NumPy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_operations_are_refused_by_name(name: str, tmp_path: Path) -> None:
    """The sentence names the operation, or what it cannot do."""
    build, reason = REFUSED[name]
    x = keras.Input((6, 4))
    with pytest.raises(NotConverted, match=reason):
        export_of(keras.Model(x, build(x)), tmp_path)
