"""Preprocessing layers, exported from the file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.errors import ExportError
from bnexport.exporter.export import export
from bnexport.exporter.protocols import NotConverted
from bnexport.exporter.resizing import matrix, nearest_rows
from tests.exported import agree, export_of

keras = pytest.importorskip("keras")
L = keras.layers

PIXELS = (9, 7, 3)


def on(shape: tuple[int | None, ...], dtype: str, *build: Callable[[], Any]) -> Callable[[], Any]:
    """A model whose outputs are layers on one input."""

    def model() -> Any:
        x = keras.Input(shape, dtype=dtype)
        return keras.Model(x, [make()(x) for make in build])

    return model


def _normalization() -> Any:
    x = keras.Input((5, 4))
    rows = np.random.default_rng(0).normal(3, 2, (50, 5, 4))
    adapted = [
        L.Normalization(),
        L.Normalization(axis=None),
        L.Normalization(axis=(1, 2)),
        L.Normalization(invert=True),
    ]
    for layer in adapted:
        layer.adapt(rows)
    given = [L.Normalization(mean=1.5, variance=2.0), L.Normalization(mean=[1, 2, 3, 4], variance=[1, 2, 3, 0])]
    image = keras.Input(PIXELS)
    y = L.Conv2D(4, 1)(image)
    colours = L.Normalization(mean=[1, 2, 3, 4], variance=[1, 2, 3, 4], invert=True)
    return keras.Model([x, image], [*(layer(x) for layer in (*adapted, *given)), colours(y)])


def _categories() -> Any:
    i, w, one = keras.Input((5,), dtype="int32"), keras.Input((5,)), keras.Input((1,), dtype="int32")
    outputs = [
        L.CategoryEncoding(6, output_mode=mode)(x) for mode in ("one_hot", "multi_hot", "count") for x in (i, one)
    ]
    return keras.Model([i, w, one], [*outputs, L.CategoryEncoding(6, output_mode="count")(i, count_weights=w)])


def _lookups() -> Any:
    i = keras.Input((5,), dtype="int64")
    words = [4, 0, 2]
    layers = [L.IntegerLookup(vocabulary=words, output_mode=mode) for mode in ("int", "one_hot", "multi_hot", "count")]
    layers += [
        L.IntegerLookup(vocabulary=words, mask_token=1),
        L.IntegerLookup(vocabulary=[0, 1, 2, 3, 4], num_oov_indices=0),
    ]
    layers += [L.IntegerLookup(vocabulary=words, output_mode="one_hot", max_tokens=9, pad_to_max_tokens=True)]
    return keras.Model(i, [layer(i) for layer in layers])


def _adapted() -> Any:
    """Vocabularies that are learned, which a .keras file has beside the weights; hashes of integers are remainders."""

    def learned(**options: Any) -> Any:
        layer = L.IntegerLookup(**options)
        layer.adapt(np.array([[3, 3, 2], [2, 2, 1], [4, 0, 0]]))
        return layer

    i, j = keras.Input((5,), dtype="int64"), keras.Input((5,), dtype="int64")
    inner = keras.Model(j, learned()(j), name="inner")
    layers = [learned(mask_token=0), learned(max_tokens=4), learned(mask_token=2, output_mode="multi_hot")]
    layers += [learned(num_oov_indices=3, max_tokens=5), learned(num_oov_indices=2, mask_token=4, output_mode="count")]
    layers += [learned(invert=True), learned(invert=True, mask_token=1, oov_token=-7, num_oov_indices=2)]
    return keras.Model(i, [inner(i), *(layer(i) for layer in layers)])


def _rescaled() -> Any:
    x = keras.Input(PIXELS, dtype="uint8")
    y = keras.Input(PIXELS)
    z = L.Conv2D(3, 1)(y)
    layers = [L.Rescaling(1 / 127.5, -1), L.Rescaling([0.1, 0.2, 0.3], offset=[1, 2, 3])]
    return keras.Model([x, y], [*(layer(given) for layer in layers for given in (x, y, z))])


def _augmented() -> Any:
    x, y = keras.Input((8, 10, 3)), keras.Input((8, 10, 3), dtype="uint8")
    plain: list[Callable[[], Any]] = [
        L.AugMix, L.CutMix, L.MixUp, L.RandAugment, L.Solarization, L.RandomColorJitter,
        L.RandomElasticTransform, L.RandomErasing, L.RandomFlip, L.RandomGaussianBlur, L.RandomGrayscale,
        L.RandomPerspective, L.RandomShear, lambda: L.RandomCrop(8, 10), lambda: L.RandomRotation(0.2),
        lambda: L.RandomTranslation(0.1, 0.1), lambda: L.RandomZoom(0.1), lambda: L.RandomBrightness(0.2),
        lambda: L.RandomContrast(0.2), lambda: L.RandomColorDegeneration(0.2), lambda: L.RandomHue(0.2),
        lambda: L.RandomPosterization(4), lambda: L.RandomSaturation(0.2), lambda: L.RandomSharpness(0.2),
        lambda: L.RandomInvert(0.5), lambda: L.MaxNumBoundingBoxes(3),
    ]  # fmt: skip
    outputs = [make()(given) for make in plain for given in (x, y)]
    return keras.Model([x, y], outputs)


RESIZINGS: list[Callable[[], Any]] = [
    *(
        lambda kind=kind, smooth=smooth, size=size: L.Resizing(*size, interpolation=kind, antialias=smooth)
        for kind in ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5")
        for size, smooth in (((5, 11), False), ((13, 3), True))
    ),
    lambda: L.Resizing(6, 4, crop_to_aspect_ratio=True),
    lambda: L.Resizing(6, 11, pad_to_aspect_ratio=True, fill_value=2.0),
    lambda: L.Resizing(9, 7),
]

MODELS: dict[str, Callable[[], Any]] = {
    "rescaling": _rescaled,
    "normalization": _normalization,
    "categories": _categories,
    "discretization": on(
        (5, 4),
        "float32",
        lambda: L.Discretization([-0.5, 0.0, 0.7]),
        lambda: L.Discretization([-0.5, 0.7], output_mode="one_hot"),
    ),
    "discretization-rows": on(
        (5,),
        "float32",
        *(lambda mode=mode: L.Discretization([-0.5, 0.7], output_mode=mode) for mode in ("multi_hot", "count")),
    ),
    "integers": _lookups,
    "integers-learned": _adapted,
    "resizing": on(PIXELS, "float32", *RESIZINGS),
    "resizing-many-channels": on((6, 8, 9), "float32", lambda: L.Resizing(12, 4), lambda: L.Resizing(3, 5)),
    "resizing-open": on(
        (None, None, 3), "float32", lambda: L.Resizing(5, 11), lambda: L.Resizing(5, 11, interpolation="nearest")
    ),
    "resizing-first": on(
        (3, 9, 7),
        "float32",
        lambda: L.Resizing(5, 11, data_format="channels_first"),
        lambda: L.Resizing(5, 11, data_format="channels_first", interpolation="bicubic"),
    ),
    "centre": on(
        PIXELS, "float32", lambda: L.CenterCrop(4, 5), lambda: L.CenterCrop(12, 5), lambda: L.CenterCrop(12, 14)
    ),
    "centre-open": on((None, None, 3), "float32", lambda: L.CenterCrop(4, 5)),
    "contrast": on(PIXELS, "float32", L.AutoContrast, lambda: L.AutoContrast(value_range=(-1, 2))),
    "augmentation": _augmented,
    "pipeline": on(
        PIXELS,
        "float32",
        lambda: L.Pipeline([L.Rescaling(0.1), L.RandomFlip(), L.Conv2D(2, 3), L.Resizing(4, 5), L.Rescaling(2, 1)]),
    ),
    "spectrograms": on(
        (90, 2),
        "float32",
        *(
            lambda mode=mode: L.STFTSpectrogram(mode=mode, frame_length=16, frame_step=5)
            for mode in ("log", "magnitude", "psd", "real", "imag", "stft", "angle")
        ),
        lambda: L.STFTSpectrogram(frame_length=16, fft_length=32, expand_dims=True, padding="same"),
    ),
    "mel": on((400,), "float32", lambda: L.MelSpectrogram(64, 16, num_mel_bins=8, sampling_rate=400, min_freq=5.0)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_layer_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    """Preprocessing layers agree with Keras at batch 1 and 3."""
    agree(MODELS[name](), tmp_path, random_weights=False)


def test_bytes_are_rounded_as_keras_rounds_them(tmp_path: Path) -> None:
    """Resized images of bytes are those of Keras; sums that end within rounding of a half may fall on either side of it."""
    import onnxruntime

    model = on(PIXELS, "uint8", *RESIZINGS[:6])()
    session = onnxruntime.InferenceSession(export_of(model, tmp_path).SerializeToString())
    pixels = np.random.default_rng(0).integers(0, 256, (3, *PIXELS)).astype(np.uint8)
    for made, wanted in zip(session.run(None, {session.get_inputs()[0].name: pixels}), model(pixels), strict=True):
        apart = np.abs(made.astype(int) - np.asarray(wanted).astype(int))
        assert apart.max() <= 1
        assert np.mean(apart > 0) < 0.01


@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "area", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("sizes", [(7, 13), (224, 180), (500, 224), (5, 5), (3, 97)])
def test_a_matrix_is_tensorflow_s_interpolation(kind: str, sizes: tuple[int, int]) -> None:
    """The matrices give what tf.image.resize gives, to the rounding of a sum (1e-6 of scale)."""
    import tensorflow as tf

    side, new = sizes
    rows = np.random.default_rng(0).normal(size=(1, side, 1, 8)).astype(np.float32)
    for smooth in (False, True):
        wanted = tf.image.resize(rows, (new, 1), method=kind, antialias=smooth).numpy()
        made = np.einsum("nr,brwc->bnwc", matrix(side, new, kind, antialias=smooth), rows)
        assert np.max(np.abs(made - wanted)) <= 1e-6 * np.max(np.abs(wanted))
    nearest = tf.image.resize(rows, (new, 1), method="nearest").numpy()
    np.testing.assert_array_equal(rows[:, nearest_rows(side, new)], nearest)


@pytest.mark.parametrize("shape", [(101, 57, 8), (None, None, 3)])
def test_linear_positions_are_tensorflow_s(shape: tuple[int | None, ...], tmp_path: Path) -> None:
    """Images resized by odd factors, fixed or open: to the rounding of a sum, where positions rounded otherwise move them by 1e-5."""
    layers = [
        L.Resizing(224, 180),
        L.Resizing(45, 46),
        *(L.UpSampling2D(f, interpolation="bilinear") for f in (3, (7, 2))),
    ]
    model = on(shape, "float32", *(lambda layer=layer: layer for layer in layers))()
    rows = np.random.default_rng(0).normal(size=(1, 101, 57, shape[-1] or 0)).astype(np.float32)
    agree(model, tmp_path, inputs={1: {model.inputs[0].name: rows}}, tolerance=4e-7)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown-words": (
        on((3,), "int64", lambda: L.IntegerLookup(vocabulary=[1, 2], num_oov_indices=2, oov_method="farmhash")),
        "hashes",
    ),
    "hashing": (on((3,), "int32", lambda: L.Hashing(5)), "Hashing"),
    "text": (on((3,), "int64", lambda: L.StringLookup(vocabulary=["a", "b"], invert=True)), "token"),
    "clahe": (on((8, 8, 3), "float32", L.ContrastLimitedAdaptiveHistogramEqualization), "histogram"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_has_no_operators_for_is_refused_by_name(name: str, tmp_path: Path) -> None:
    """A layer that cannot be written is named, with the reason."""
    build, word = REFUSED[name]
    with pytest.raises(NotConverted, match=word):
        export_of(build(), tmp_path)


@pytest.mark.parametrize("options", [{"interpolation": "bicubic"}, {"interpolation": "lanczos3"}, {"antialias": True}])
def test_what_others_write_as_something_else_is_left_to_no_other(options: dict[str, Any], tmp_path: Path) -> None:
    """Images of open size: tf2onnx writes a Resize that is off by 5e-4 or does not run."""
    model = on((None, None, 3), "float32", lambda: L.Resizing(5, 4, **options))()
    model.save(tmp_path / "net.keras")
    with pytest.raises(ExportError, match=r"EX002.*of images of open size .build the model for one size"):
        export(tmp_path / "net.keras", tmp_path / "net.onnx")
