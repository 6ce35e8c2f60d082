"""Nodes of keras.ops in functional models, exported from the file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exported import agree

keras = pytest.importorskip("keras")
ops = keras.ops
L = keras.layers


def image_model(build: Callable[[Any], list[Any]]) -> Callable[[], Any]:
    """Operations on images as they come in, and behind a convolution, where tensors have the channels first."""

    def model() -> Any:
        x = keras.Input((5, 6, 4))
        y = L.Conv2D(4, 3, padding="same")(x)
        return keras.Model(x, [*build(x), *build(y)])

    return model


def several(build: Callable[..., list[Any]], *inputs: tuple[tuple[int | None, ...], str]) -> Callable[[], Any]:
    """Operations on inputs of these shapes and dtypes."""

    def model() -> Any:
        given = [keras.Input(shape, dtype=dtype) for shape, dtype in inputs]
        return keras.Model(given, build(*given))

    return model


ROWS = ((5, 4), "float32")
NUMBERS = ((5, 4), "int32")
BYTES = ((5, 4), "uint8")


def positive(x: Any) -> Any:
    """Numbers above 0."""
    return ops.absolute(x) + 0.1


def _arithmetic(x: Any) -> list[Any]:
    return [
        x + 1, 2 - x, x * np.float32(0.5), x / 3, 1 / positive(x), x**2, positive(x) ** 0.3, -x, x // 0.7, x % 0.7,
        abs(x), x + np.arange(4, dtype="float32"), ops.maximum(x, 0.2), ops.minimum(x, x * 0.5),
        ops.square(x), ops.sign(x), ops.reciprocal(positive(x)), ops.clip(x, -0.5, 0.4), ops.round(x, 1), ops.round(x),
        ops.divide_no_nan(x, ops.relu(x)), ops.logaddexp(x, 2 * x), ops.logaddexp2(x, 2 * x), ops.hypot(x, x + 1),
        ops.arctan2(x, x + 0.3), ops.power(2.0, x),
    ]  # fmt: skip


def _functions(x: Any) -> list[Any]:
    y, z = positive(x), ops.tanh(x) * 0.9
    plain = (ops.exp, ops.sin, ops.cos, ops.tanh, ops.sinh, ops.cosh, ops.arctan, ops.arcsinh, ops.expm1, ops.exp2)
    above = (ops.log, ops.log2, ops.log10, ops.log1p, ops.sqrt, ops.rsqrt, ops.cbrt)
    inside = (ops.arcsin, ops.arccos, ops.arctanh, ops.tan, ops.erf, ops.trunc, ops.deg2rad, ops.rad2deg)
    return [
        *(f(x) for f in plain),
        *(f(y) for f in above),
        *(f(z) for f in inside),
        ops.arccosh(y + 1),
        ops.floor(x),
        ops.ceil(x),
    ]


def _activations(x: Any) -> list[Any]:
    nn = keras.ops
    plain = (
        nn.relu, nn.relu6, nn.sigmoid, nn.softplus, nn.softsign, nn.silu, nn.log_sigmoid, nn.hard_sigmoid, nn.hard_silu,
        nn.selu, nn.hard_tanh, nn.tanh_shrink, nn.sparse_plus, nn.sparse_sigmoid,
    )  # fmt: skip
    outputs = [f(x) for f in plain]
    outputs += [nn.soft_shrink(x, 0.3), nn.squareplus(x, 3), nn.leaky_relu(x, 0.3), nn.elu(x, 0.7), nn.gelu(x)]
    outputs += [nn.gelu(x, approximate=False), nn.celu(x, 0.7), nn.glu(x), nn.glu(x, 2), nn.hard_shrink(x, 0.3)]
    outputs += [nn.threshold(x, 0.3, -1.0), nn.softmax(x), nn.softmax(x, 1), nn.log_softmax(x), nn.log_softmax(x, 2)]
    return [*outputs, nn.sparsemax(x), nn.normalize(x), nn.normalize(x, 1, order=1)]


def _conditions(x: Any, i: Any, b: Any) -> list[Any]:
    return [
        x > 0, x >= 0.1, x < 0, x <= 0.1, ops.equal(i, 2), ops.not_equal(i, 2), ops.equal(b, 3), ops.greater(b, 2), x > i,
        ops.where(x > 0, x, 0), ops.where(i > 2, i, 7), ops.where(b > 2, x, i), ops.where(i > 1, b, b),
        ops.logical_and(x > 0, i > 2), ops.logical_or(x > 0, i > 2), ops.logical_xor(x > 0, i > 2),
        ops.logical_not(x > 0), ops.nan_to_num(x / ops.relu(x)), ops.heaviside(ops.relu(x), x), ops.any(x > 1, axis=1), ops.all(i > 0, axis=-1, keepdims=True), ops.any(i),
        ops.isnan(x), ops.isinf(x / ops.relu(x)), ops.isfinite(x / ops.relu(x)), ops.isclose(x, x + 1e-9),
        ops.count_nonzero(i, axis=1), ops.where(x > 0, x > 1, i > 2), ops.select([x > 1, x > 0], [x, i], 7),
    ]  # fmt: skip


def _dtypes(x: Any, i: Any, b: Any) -> list[Any]:
    return [
        i + 1, i * 2, i / 2, i // 2, i % 3, i - 2.5, i + x, i**2, -i, abs(i), b + b, b * 3, b / 2, b // 2, b - i, b + x,
        ops.cast(x * 3, "int32"), ops.cast(i, "float32"), ops.cast(b, "int64") + 1, ops.cast(x, "bool"),
        ops.mean(i, axis=1), ops.sum(i, axis=1), ops.sum(b, axis=1), ops.max(b, axis=1), ops.min(i), ops.prod(i, axis=-1),
        ops.sqrt(i), ops.exp(ops.cast(i, "int64")), ops.std(i), ops.var(b, axis=1), ops.clip(i, 1, 3), ops.sign(i),
        ops.maximum(i, 2), ops.minimum(b, 2), ops.maximum(i, 1.5), ops.floor(i), ops.relu(i), ops.square(b),
        ops.cast(x, "float64") + 1, ops.saturate_cast(x * 300, "uint8"), ops.cast(x > 0, "float32"),
        ops.concatenate([i, x]), ops.stack([b, i]), ops.argmax(i, axis=1), ops.cumsum(i, axis=1), ops.cumsum(x > 0, axis=1),
    ]  # fmt: skip


def _reductions(x: Any) -> list[Any]:
    outputs = []
    for f in (ops.mean, ops.sum, ops.max, ops.min, ops.std, ops.var, ops.logsumexp):
        outputs += [f(x, axis=(1, 2)), f(x, axis=-1), f(x, axis=(1, 2), keepdims=True), f(x, axis=2), f(x)]
        outputs += [f(x, axis=3, keepdims=True), f(x, axis=0), f(x, axis=(0, 3), keepdims=True)]
    outputs += [ops.prod(x, axis=1), ops.argmax(x, axis=-1), ops.argmin(x, axis=1, keepdims=True), ops.argmax(x)]
    outputs += [ops.cumsum(x, axis=2), ops.cumsum(x), ops.cumprod(x, axis=1), ops.ptp(x, axis=1), ops.median(x, axis=2)]
    outputs += [
        ops.norm(x, axis=-1),
        ops.norm(x, ord=1, axis=1),
        ops.norm(x, ord=2, axis=3, keepdims=True),
        ops.amax(x, 1),
    ]
    outputs += [
        *ops.top_k(x, 2),
        ops.sort(x, axis=1),
        ops.argsort(x, axis=-1),
        *ops.moments(x, (1, 2)),
        ops.diff(x, axis=1),
    ]
    return [*outputs, ops.average(x, axis=1), ops.diff(x, n=2), ops.max(x, axis=1, initial=0.5)]


def _shapes(x: Any) -> list[Any]:
    outputs = [ops.reshape(x, (-1, 30, 4)), ops.reshape(x, (-1, 8)), ops.ravel(x), ops.transpose(x, (0, 3, 1, 2))]
    outputs += [ops.transpose(x), ops.swapaxes(x, 1, 2), ops.moveaxis(x, -1, 1), ops.moveaxis(x, (1, 2), (2, 3))]
    outputs += [ops.expand_dims(x, 1), ops.expand_dims(x, -1), ops.squeeze(ops.expand_dims(x, 2), 2)]
    outputs += [ops.concatenate([x, x * 2], axis=-1), ops.concatenate([x, x], axis=1), ops.stack([x, x], axis=2)]
    outputs += [
        *ops.split(x, 2, axis=-1),
        *ops.split(x, [1, 4], axis=2),
        *ops.unstack(x, axis=3),
        ops.repeat(x, 3, axis=2),
    ]
    outputs += [ops.repeat(x, 2, axis=-1), ops.repeat(x, [1, 0, 2, 3, 1], axis=1), ops.tile(x, (1, 2, 1, 3))]
    outputs += [
        ops.flip(x, axis=1),
        ops.flip(x, axis=(2, 3)),
        ops.roll(x, 2, axis=1),
        ops.roll(x, (1, -2), axis=(1, 3)),
    ]
    outputs += [
        ops.pad(x, ((0, 0), (1, 2), (0, 0), (3, 0))),
        ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), mode="reflect"),
    ]
    outputs += [ops.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)), constant_values=1.5)]
    outputs += [ops.pad(x, ((0, 0), (1, 2), (2, 1), (0, 0)), mode="symmetric"), ops.tril(x), ops.triu(x, k=1)]
    outputs += [ops.ones_like(x), ops.zeros_like(x, dtype="int32"), ops.full_like(x, 3), ops.hstack([x, x])]
    outputs += [ops.append(x, x, axis=2), ops.size(x)]
    return outputs


def _items(x: Any) -> list[Any]:
    return [
        x[:, 0], x[:, -1], x[..., 0], x[..., -1], x[:, 1:3], x[:, :, ::2], x[:, ::-1], x[:, None], x[..., None],
        x[:, 1:, 2:-1, :2], x[..., 1:3], x[:, 0, None], x[:, :, 0, ..., None], x[:, -3:], x[0], x[1:, 2],
        x[:, 1, 2, 3], ops.take(x, [0, -1, 2], axis=1), ops.take(x, np.array([[0, 1], [3, 2]]), axis=-1),
        ops.take(x, 3, axis=2), ops.take(x, [5, 6]), ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1),
    ]  # fmt: skip


def _products(a: Any, b: Any, c: Any, d: Any) -> list[Any]:
    w = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    return [
        ops.matmul(a, w), a @ ops.transpose(a, (0, 2, 1)), ops.matmul(a, w[:, 0]), ops.dot(a, w), ops.tensordot(a, w, 1),
        ops.einsum("bij,bkj->bik", a, b), ops.einsum("...ij,jk->...ik", a, w),
        ops.einsum("bij,bij->b", a, a), ops.einsum("bij,bkj", a, b), ops.einsum("bihd,bjhd->bhij", d, d),
        ops.inner(a, np.ones((3, 4), "float32")), ops.outer(c, w), ops.cdist(a, b), ops.matmul(c, a),
        ops.einsum("bij->bji", a), ops.dot_product_attention(d, d, d), ops.layer_normalization(a),
        ops.dot(a, w[:, 0]), ops.vdot(a, a), ops.matmul(d, ops.ones((4, 2))),
    ]  # fmt: skip


def _images(x: Any) -> list[Any]:
    outputs = [
        ops.image.resize(x, size, interpolation=kind, antialias=smooth)
        for kind in ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")
        for size, smooth in (((3, 11), False), ((10, 4), True))
    ]
    outputs += [
        ops.image.resize(x, (4, 8), crop_to_aspect_ratio=True),
        ops.image.pad_images(x, 1, 2, target_height=9, target_width=9),
    ]
    outputs += [
        ops.image.resize(x, (4, 8), pad_to_aspect_ratio=True, fill_value=0.5),
        ops.image.crop_images(x, 1, 1, 2, 0),
    ]
    outputs += [
        ops.image.rgb_to_grayscale(x[..., :3]),
        ops.max_pool(x, 2),
        ops.average_pool(x, 2, strides=1, padding="same"),
    ]
    return [
        *outputs,
        ops.depth_to_space(x, 2),
        ops.space_to_depth(x[:, :4], 2),
        ops.image.resize(x, (10, 12), "nearest"),
    ]


def _open_images(x: Any) -> list[Any]:
    y = L.Conv2D(4, 1)(x)
    outputs = [
        ops.image.resize(y, (9, 4)),
        ops.image.resize(x, (4, 11), "nearest"),
        ops.image.resize(y, (9, 4), "nearest"),
    ]
    outputs += [ops.mean(y, axis=(1, 2)), y[:, 1:, ::2], ops.reshape(y, (-1, 4)), ops.zeros_like(y), ops.softmax(y)]
    return [
        *outputs,
        y + ops.mean(y, axis=(1, 2), keepdims=True),
        ops.transpose(y, (0, 3, 1, 2)),
        ops.pad(y, ((0, 0), (1, 1), (0, 0), (0, 0))),
    ]


def _windows(x: Any) -> list[Any]:
    rng = np.random.default_rng(3)
    kernel, deep, point = (
        rng.normal(size=shape).astype("float32") for shape in ((3, 2, 4, 5), (3, 3, 4, 2), (1, 1, 8, 3))
    )
    outputs = [ops.conv(x, kernel, strides=2, padding="same"), ops.conv(x, kernel, padding="valid")]
    outputs += [ops.depthwise_conv(x, deep, padding="same"), ops.separable_conv(x, deep, point, padding="valid")]
    outputs += [ops.image.extract_patches(x, (2, 3)), ops.image.extract_patches(x, 2, strides=1, padding="same")]
    outputs += [ops.max_pool(x, 2), ops.average_pool(x, 2, strides=1, padding="same"), ops.adaptive_max_pool(x, (2, 2))]
    return [*outputs, ops.adaptive_average_pool(x, (2, 3))]


def _one_hot(i: Any) -> list[Any]:
    return [ops.one_hot(i, 6), ops.one_hot(i, 3, axis=1), ops.multi_hot(i, 6), ops.one_hot(i, 4, dtype="int32")]


MODELS: dict[str, Callable[[], Any]] = {
    "arithmetic": image_model(_arithmetic),
    "functions": several(_functions, ROWS),
    "activations": image_model(_activations),
    "conditions": several(_conditions, ROWS, NUMBERS, BYTES),
    "dtypes": several(_dtypes, ROWS, NUMBERS, BYTES),
    "reductions": image_model(_reductions),
    "shapes": image_model(_shapes),
    "items": image_model(_items),
    "products": several(_products, ((5, 4), "float32"), ((6, 4), "float32"), ((5,), "float32"), ((3, 2, 4), "float32")),
    "images": image_model(_images),
    "open-images": several(_open_images, ((None, None, 3), "float32")),
    "windows": image_model(_windows),
    "one-hot": several(_one_hot, ((5,), "int32")),
}


@pytest.mark.parametrize("name", MODELS)
def test_operations_compute_what_keras_computes(name: str, tmp_path: Path) -> None:
    """Operations agree with Keras at batch 1 and 3."""
    agree(MODELS[name](), tmp_path)


def test_operations_in_hdf5_files_are_not_taken_for_layers_of_the_same_name(tmp_path: Path) -> None:
    """Keras does not write the module of a class into .h5 files (and cannot load those with operations): they are exported as what they are."""
    x, y = keras.Input((4,)), keras.Input((4,))
    outputs = [x + y, L.Add()([x, y]), ops.concatenate([x, y], axis=0), L.Concatenate()([x, y]), ops.softmax(x, axis=0)]
    outputs += [
        L.Softmax()(x),
        ops.reshape(x, (-1, 2)),
        L.Reshape((2, 2))(x),
        L.Discretization([0.0])(x),
        x[:, 1:],
        ops.zeros_like(x),
    ]
    outputs += [
        L.SpatialDropout1D(0.2)(L.Reshape((2, 2))(y)),
        ops.mean(x, axis=1),
        ops.one_hot(ops.cast(x, "int32"), 3),
    ]
    agree(keras.Model([x, y], outputs), tmp_path, form="h5")
