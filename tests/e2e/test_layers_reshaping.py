"""Layers that move, cut, repeat, merge and drop, exported from the file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport import check
from tests.exported import agree

keras = pytest.importorskip("keras")
L = keras.layers


def images(channels: int = 4) -> Any:
    """An input of images, and a convolution on it, behind which tensors have the channels first."""
    x = keras.Input((7, 6, channels))
    return x, L.Conv2D(5, 3, padding="same")(x)


def of_images(*build: Callable[[], Any]) -> Callable[[], Any]:
    """A model whose outputs are layers on images, as they come in and behind a convolution."""

    def model() -> Any:
        x, y = images()
        return keras.Model(x, [make()(value) for make in build for value in (x, y)])

    return model


def of_shape(shape: tuple[int | None, ...], *build: Callable[[], Any]) -> Callable[[], Any]:
    """A model whose outputs are layers on one input."""

    def model() -> Any:
        x = keras.Input(shape)
        return keras.Model(x, [make()(x) for make in build])

    return model


def first(make: Any, **options: Any) -> Callable[[], Any]:
    """A layer with the channels first."""
    return lambda: make(data_format="channels_first", **options)


def _masked(make: Callable[[list[Any]], Any], *, third: bool = True) -> Callable[[], Any]:
    """A model that merges masked series, and shows the mask by pooling over it."""

    def model() -> Any:
        a, b = keras.Input((5,), dtype="int32", name="a"), keras.Input((5, 3), name="b")
        masked = L.Embedding(6, 3, mask_zero=True)(a)
        dense = L.Masking()(b)
        parts = [masked, dense, L.Dense(3)(masked)] if third else [masked, dense]
        merged = make(parts)
        return keras.Model([a, b], [merged, L.GlobalAveragePooling1D()(merged), make([masked, b])])

    return model


def _same_shapes() -> Any:
    x, y = images()
    z = L.Conv2D(5, 1)(x)
    gate = L.Conv2D(5, 1)(L.GlobalAveragePooling2D(keepdims=True)(y))
    kinds = (L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum)
    return keras.Model(x, [*(kind()([y, z, gate]) for kind in kinds), L.Subtract()([y, gate])])


def _other_ranks() -> Any:
    a, b = keras.Input((5, 4)), keras.Input((4,))
    i, j = keras.Input((4,), dtype="int32"), keras.Input((4,), dtype="int32")
    kinds = (L.Add, L.Multiply, L.Average, L.Maximum)
    outputs = [kind()([a, b]) for kind in kinds]
    return keras.Model([a, b, i, j], [*outputs, L.Add()([i, j]), L.Average()([i, j])])


def _concatenated() -> Any:
    x, y = images()
    z = L.Conv2D(3, 1)(x)
    rows = L.Conv2D(5, 1)(x)
    return keras.Model(
        x,
        [
            L.Concatenate()([y, z, x]),
            L.Concatenate(axis=1)([y, rows]),
            L.Concatenate(axis=2)([rows, y]),
            L.Concatenate(axis=-1)([x, z]),
            L.Concatenate()([L.Flatten()(x), L.GlobalMaxPooling2D()(y)]),
        ],
    )


def _dots() -> Any:
    a, b, c = keras.Input((5, 4)), keras.Input((6, 4)), keras.Input((4,))
    d, e = keras.Input((3, 4, 2)), keras.Input((None, 4))
    cases = [([a, b], 2), ([a, b], (2, -1)), ([a, c], (2, 1)), ([c, a], (1, 2)), ([c, c], 1), ([d, a], (2, 2))]
    cases += [([a, d], (2, 2)), ([e, c], (2, 1)), ([e, b], (2, 2)), ([d, d], (1, 1)), ([d, c], (2, 1))]
    outputs = [L.Dot(axes, normalize=normal)(list(pair)) for pair, axes in cases for normal in (False, True)]
    return keras.Model([a, b, c, d, e], outputs)


def _open_images() -> Any:
    x = keras.Input((None, None, 3))
    y = L.Conv2D(5, 1)(x)
    return keras.Model(
        x,
        [
            L.Flatten()(y),
            L.Reshape((-1, 5))(y),
            L.Permute((3, 1, 2))(y),
            L.Cropping2D(((1, 2), (0, 1)))(y),
            L.ZeroPadding2D(((1, 2), (0, 3)))(y),
            L.UpSampling2D((2, 3))(y),
            L.UpSampling2D(2, interpolation="bilinear")(y),
            L.Concatenate()([x, y]),
        ],
    )


def _squeeze_and_excitation() -> Any:
    x, y = images()
    pooled = L.GlobalAveragePooling2D()(y)
    gate = L.Conv2D(5, 1, activation="sigmoid")(L.Reshape((1, 1, 5))(pooled))
    return keras.Model(x, L.Flatten()(L.GlobalAveragePooling2D(keepdims=True)(L.Multiply()([y, gate]))))


def _half_precision() -> Any:
    x = keras.Input((4, 6, 3))
    y = L.Conv2D(4, 3, padding="same", dtype="mixed_float16")(x)
    half = "mixed_float16"
    outputs = [L.UpSampling2D(2, dtype=half)(y), L.UpSampling2D(2, interpolation="bilinear", dtype=half)(y)]
    outputs += [L.ZeroPadding2D(1, dtype=half)(y), L.Add(dtype=half)([y, y]), L.Concatenate(dtype=half)([y, y])]
    return keras.Model(x, [L.Activation("linear", dtype="float32")(value) for value in outputs])


def _dropped() -> Any:
    x = keras.Input((5, 4))
    image = keras.Input((6, 8, 3))
    series = [L.Dropout(0.3), L.SpatialDropout1D(0.3), L.AlphaDropout(0.3), L.GaussianDropout(0.3)]
    series += [L.GaussianNoise(0.3), L.ActivityRegularization(0.1)]
    y, z = x, image
    for layer in series:
        y = layer(y)
    volume = L.SpatialDropout3D(0.2)(L.Reshape((2, 3, 8, 3))(L.SpatialDropout2D(0.2)(z)))
    return keras.Model([x, image], [y, volume])


def _others() -> Any:
    x, series, volume = keras.Input((8, 9, 3)), keras.Input((5, 4)), keras.Input((3, 4, 5, 2))
    row = L.InputLayer(shape=(4,)).output
    outputs = [L.Conv2D(2, 3)(L.Equalization()(x)), L.GlobalMaxPooling1D()(series), L.GlobalMaxPooling3D()(volume)]
    return keras.Model([x, series, volume, row], [*outputs, L.Dense(2)(L.Identity()(row))])


def _there_and_back() -> Any:
    ids = keras.Input((5,), dtype="int32")
    outputs = []
    for options in ({}, {"tie_weights": False, "logit_soft_cap": 2.0}, {"mask_zero": True}):
        layer = L.ReversibleEmbedding(6, 4, **options)
        outputs.append(layer(L.Dense(4)(layer(ids)), reverse=True))
    cells = L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(2)])
    return keras.Model(ids, [*outputs, L.RNN(cells)(L.Embedding(6, 4)(ids))])


MODELS: dict[str, Callable[[], Any]] = {
    "flatten": of_images(L.Flatten, first(L.Flatten)),
    "flatten-vectors": of_shape((), L.Flatten),
    "reshape": of_images(lambda: L.Reshape((-1,)), lambda: L.Reshape((6, -1)), lambda: L.Reshape((1, 1, -1))),
    "permute": of_images(lambda: L.Permute((3, 1, 2)), lambda: L.Permute((2, 1, 3)), lambda: L.Permute((1, 3, 2))),
    "repeat": of_shape((4,), lambda: L.RepeatVector(3)),
    "crop-pad-1d": of_shape(
        (7, 4), lambda: L.Cropping1D((1, 2)), lambda: L.Cropping1D((0, 3)), lambda: L.ZeroPadding1D((2, 1))
    ),
    "crop-2d": of_images(
        lambda: L.Cropping2D(1),
        lambda: L.Cropping2D((1, 2)),
        lambda: L.Cropping2D(((0, 1), (2, 0))),
        first(L.Cropping2D, cropping=((1, 0), (1, 0))),
    ),
    "pad-2d": of_images(
        lambda: L.ZeroPadding2D(1),
        lambda: L.ZeroPadding2D((1, 2)),
        lambda: L.ZeroPadding2D(((0, 1), (2, 0))),
        first(L.ZeroPadding2D, padding=((1, 0), (1, 0))),
    ),
    "volumes": of_shape(
        (5, 4, 6, 3),
        lambda: L.Cropping3D(((1, 0), (0, 1), (2, 2))),
        lambda: L.ZeroPadding3D((1, 0, 2)),
        lambda: L.UpSampling3D((2, 1, 3)),
        first(L.UpSampling3D, size=2),
        first(L.ZeroPadding3D, padding=1),
        first(L.Cropping3D, cropping=((1, 0), (0, 1), (1, 0))),
    ),
    "upsampling-1d": of_shape((5, 3), lambda: L.UpSampling1D(3)),
    "upsampling-nearest": of_images(lambda: L.UpSampling2D((2, 3)), first(L.UpSampling2D, size=2)),
    "upsampling": of_images(
        *(
            lambda kind=kind: L.UpSampling2D((2, 3), interpolation=kind)
            for kind in ("bilinear", "bicubic", "lanczos3", "lanczos5")
        ),
        first(L.UpSampling2D, interpolation="bilinear"),
        first(L.UpSampling2D, interpolation="bicubic"),
    ),
    "open-sides": _open_images,
    "gate": _squeeze_and_excitation,
    "same-shapes": _same_shapes,
    "other-ranks": _other_ranks,
    "concatenate": _concatenated,
    "dot": _dots,
    "masks-add": _masked(lambda parts: L.Add()(parts)),
    "masks-average": _masked(lambda parts: L.Average()(parts)),
    "masks-subtract": _masked(lambda parts: L.Subtract()(parts), third=False),
    "masks-multiply": _masked(lambda parts: L.Multiply()(parts)),
    "masks-maximum": _masked(lambda parts: L.Maximum()(parts)),
    "masks-minimum": _masked(lambda parts: L.Minimum()(parts)),
    "masks-concatenate": _masked(lambda parts: L.Concatenate()(parts)),
    "masks-concatenate-steps": _masked(lambda parts: L.Concatenate(axis=1)(parts)),
    "dropped": _dropped,
    "others": _others,
    "embeddings": _there_and_back,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_layer_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    """Layers of this family agree with Keras at batch 1 and 3."""
    model = MODELS[name]()
    feeds = {}
    for batch in (1, 3):
        rng = np.random.default_rng(batch)
        feeds[batch] = {}
        for tensor in model.inputs:
            shape = (batch, *(side or 5 for side in tensor.shape[1:]))
            if "int" in str(tensor.dtype):
                feeds[batch][tensor.name] = rng.integers(0, 3, shape).astype(tensor.dtype)
                continue
            values = rng.normal(size=shape).astype(tensor.dtype)
            if name.startswith("masks"):
                values[:, 3] = 0
            feeds[batch][tensor.name] = values
    agree(model, tmp_path, inputs=feeds)


def test_half_precision_stays(tmp_path: Path) -> None:
    """Layers that compute in float16 give what Keras gives in float16, to its rounding."""
    agree(_half_precision(), tmp_path, tolerance=3e-3)


def test_no_transpose_in_a_gated_convolution(tmp_path: Path) -> None:
    """A squeeze-and-excitation gate leaves the channels where they are."""
    graph = agree(_squeeze_and_excitation(), tmp_path)
    assert [node.op_type for node in graph.graph.node].count("Transpose") == 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_a_model_of_open_size_that_enlarges_is_checked(interpolation: str, tmp_path: Path) -> None:
    """Keras runs such a model at each size: its trace cannot have open sizes where UpSampling2D interpolates."""
    x = keras.Input((None, None, 3))
    keras.Model(x, L.UpSampling2D(2, interpolation=interpolation)(L.Conv2D(4, 3)(x))).save(tmp_path / "net.keras")
    rng = np.random.default_rng(0)
    for size in ((8, 8), (12, 7)):
        report = check(tmp_path / "net.keras", rng.normal(size=(5, *size, 3)).astype(np.float32))
        assert report, str(report)
