"""Activations, Dense and its kin, convolutions, pooling and normalization, exported from the file alone, against Keras."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import keras
import onnx
import pytest
from keras import layers as L  # noqa: N812 - as Keras users write it

from bnexport.errors import InputError
from bnexport.exporter.native import graph_of
from bnexport.exporter.protocols import NotConverted
from bnexport.frameworks.keras import file as keras_file, model as keras_model
from bnexport.keras_files.read import read_file
from tests.exported import agree, export_of, randomise

pytestmark = pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning")

LAST, FIRST = "channels_last", "channels_first"
ACTIVATIONS = sorted(
    name
    for name in dir(keras.activations)
    if not name.startswith("_") and name not in ("get", "serialize", "deserialize", "threshold")
)  # threshold requires arguments that a configuration cannot give


def stack(shape: tuple[int | None, ...], *layers: keras.Layer) -> keras.Model:
    """A Sequential model."""
    return keras.Sequential([L.Input(shape), *layers])


def every_activation() -> keras.Model:
    """Each function on the same input."""
    x = keras.Input((7, 8))
    return keras.Model(x, [L.Activation(name, name=f"a_{name}")(x) for name in ACTIVATIONS])


def transposed(padding: str) -> keras.Model:
    """Transposed convolutions of every size, stride and output padding."""
    x = keras.Input((5, 4, 3))
    options = [(k, s, o) for k, s, o in product((2, 3, 4), (1, 2, 3), (None, 1)) if o is None or o < s]
    return keras.Model(
        x, [L.Conv2DTranspose(2, k, strides=s, padding=padding, output_padding=o)(x) for k, s, o in options]
    )


def data_format_first() -> keras.Model:
    """Layers that take the channels first; what TensorFlow runs of them on the CPU."""
    x = keras.Input((3, 9, 8))
    y = L.MaxPooling2D(2, data_format=FIRST)(x)
    z = L.AveragePooling2D(3, padding="same", data_format=FIRST)(y)
    z = L.BatchNormalization(axis=1)(z)
    return keras.Model(
        x, [z, L.GlobalAveragePooling2D(data_format=FIRST)(y), L.GlobalMaxPooling2D(data_format=FIRST)(y)]
    )


def of_integers() -> keras.Model:
    """Layers that Keras computes on integers: in them, or in floating-point numbers of its choice."""
    rows, image = keras.Input((6, 4), dtype="int32"), keras.Input((8, 6, 4), dtype="int32")
    on_rows = [L.Activation(name) for name in ("relu", "relu6", "tanh", "exponential", "leaky_relu")]
    on_rows += [L.ReLU(negative_slope=0.2), L.LeakyReLU(), L.GlobalAveragePooling1D(), L.GlobalMaxPooling1D()]
    on_rows += [L.MaxPooling1D(2), L.AdaptiveMaxPooling1D(2)]
    on_images = [L.GlobalAveragePooling2D(keepdims=True), L.GlobalMaxPooling2D(), L.MaxPooling2D(2)]
    on_images += [L.AdaptiveMaxPooling2D(3), L.UpSampling2D(2, interpolation="bilinear")]
    masked = L.GlobalAveragePooling1D()(rows, mask=rows[..., 0] > 1)
    outputs = [*(layer(rows) for layer in on_rows), *(layer(image) for layer in on_images), masked]
    return keras.Model([rows, image], [*outputs, L.Average()([rows, rows])])


def own_input() -> keras.Model:
    """A model that gives back its own input, beside what it makes of it."""
    x = keras.Input((6, 4), name="x")
    return keras.Model(x, [x, L.Dense(2)(x), L.Dropout(0.1)(x), x])


MODELS: dict[str, Callable[[], keras.Model]] = {
    "activations": every_activation,
    "activation layers": lambda: stack(
        (7, 8),
        L.ReLU(max_value=2, negative_slope=0.1, threshold=0.5),
        L.LeakyReLU(0.2),
        L.ELU(0.5),
        L.ReLU(max_value=1.0),
        L.PReLU(shared_axes=[1]),
        L.PReLU(),
        L.Softmax(axis=1),
        L.Softmax(axis=[1, 2]),
    ),
    "dense": lambda: stack(
        (8,), L.Dense(7, activation="gelu"), L.Dense(5, use_bias=False), L.Dense(3, activation="softmax")
    ),
    "dense on a series": lambda: stack((None, 8), L.Dense(7, activation="silu"), L.Dense(5, use_bias=False)),
    "integers into weights": lambda: keras.Sequential([L.Input((3, 5), dtype="int32"), L.Dense(4)]),
    "integers into a matrix product": lambda: keras.Sequential([L.Input((5,), dtype="int64"), L.Dense(4)]),
    "integers into normalisation": lambda: keras.Sequential([L.Input((5,), dtype="int32"), L.BatchNormalization()]),
    "integers into a recurrent layer": lambda: keras.Sequential([L.Input((3, 5), dtype="int32"), L.LSTM(4)]),
    "spectral normalisation of integers": lambda: keras.Sequential(
        [L.Input((5,), dtype="int32"), L.SpectralNormalization(L.Dense(4))]
    ),
    "integers": of_integers,
    "its own input": own_input,
    "einsum": lambda: stack(
        (6, 8),
        L.EinsumDense("abc,cde->abde", output_shape=(None, 3, 4), bias_axes="de"),
        L.EinsumDense("abde,def->abf", output_shape=(None, 5)),
        L.EinsumDense("...x,xy->...y", output_shape=7, bias_axes="y", activation="relu"),
    ),
    "embedding": lambda: keras.Sequential([L.Input((None,), dtype="int32"), L.Embedding(6, 5), L.Dense(3)]),
    "convolution": lambda: stack(
        (9, 7, 3),
        L.Conv2D(4, 3, padding="same", strides=2, activation="relu"),
        L.BatchNormalization(),
        L.Conv2D(6, (2, 2), dilation_rate=2, activation="gelu"),
        L.Conv2D(4, 1, groups=2, use_bias=False),
    ),
    "convolution 1D": lambda: stack(
        (11, 3),
        L.Conv1D(4, 3, padding="causal", dilation_rate=2),
        L.SeparableConv1D(5, 3, padding="same", depth_multiplier=2),
        L.DepthwiseConv1D(3, strides=2),
        L.Conv1DTranspose(3, 4, strides=2),
        L.Dense(3, activation="softmax"),
    ),
    "convolution 3D": lambda: stack(
        (5, 6, 7, 2),
        L.Conv3D(4, 3, padding="same", strides=2, activation="selu"),
        L.MaxPooling3D(2, padding="same"),
        L.Conv3DTranspose(2, 3, strides=2, padding="same"),
        L.AveragePooling3D(2),
    ),
    "depthwise": lambda: stack(
        (9, 8, 3),
        L.SeparableConv2D(5, 3, depth_multiplier=2, padding="same"),
        L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"),
        L.MaxPooling2D(2),
        L.GlobalMaxPooling2D(keepdims=True),
    ),
    "open sides": lambda: stack(
        (None, None, 3),
        L.Conv2D(4, 3, padding="same", strides=2, activation="silu"),
        L.AveragePooling2D(3, 2, padding="same"),
        L.Conv2DTranspose(3, 3, strides=2, padding="same"),
        L.GlobalAveragePooling2D(),
        L.Dense(3, activation="sigmoid"),
    ),
    "transposed, same": partial(transposed, "same"),
    "transposed, valid": partial(transposed, "valid"),
    "channels first": data_format_first,
    "pooling 1D": lambda: stack(
        (12, 4), L.MaxPooling1D(2), L.AveragePooling1D(3, strides=1, padding="same"), L.GlobalAveragePooling1D()
    ),
    "global 3D": lambda: stack((4, 5, 6, 3), L.GlobalAveragePooling3D()),
    "adaptive": lambda: stack((9, 8, 3), L.AdaptiveAveragePooling2D((4, 3)), L.AdaptiveMaxPooling2D(2)),
    "adaptive 1D": lambda: stack((12, 3), L.AdaptiveAveragePooling1D(4), L.AdaptiveMaxPooling1D(3)),
    "adaptive 3D": lambda: stack((4, 5, 6, 2), L.AdaptiveMaxPooling3D((2, 3, 4)), L.AdaptiveAveragePooling3D(2)),
    "normalization": lambda: stack(
        (5, 4, 8),
        L.LayerNormalization(),
        L.GroupNormalization(4),
        L.Conv2D(6, 1),
        L.GroupNormalization(-1),
        L.LayerNormalization(axis=[1, 2, 3]),
        L.RMSNormalization(),
        L.UnitNormalization(axis=1),
        L.BatchNormalization(axis=1),
        L.LayerNormalization(axis=1),
        L.LayerNormalization(axis=(1, 3)),
    ),
    "normalization, other axes": lambda: stack(
        (6, 4, 8),
        L.GroupNormalization(3, axis=1),
        L.BatchNormalization(axis=2, scale=False),
        L.BatchNormalization(center=False),
        L.LayerNormalization(rms_scaling=True),
        L.LayerNormalization(center=False, scale=False),
    ),
    "batch normalization of vectors": lambda: stack((6,), L.Dense(5), L.BatchNormalization(), L.Dense(3)),
    "equalization": lambda: stack((9, 8, 3), L.Equalization(), L.Conv2D(2, 3)),
    "spectral": lambda: stack((9, 8, 3), L.SpectralNormalization(L.Conv2D(3, 3)), L.SpectralNormalization(L.Dense(4))),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["keras", "h5"])
def test_answers_are_those_of_keras(name: str, form: str, tmp_path: Path) -> None:
    """At batch 1 and 3, from either format."""
    agree(MODELS[name](), tmp_path, form=form)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (L.UnitNormalization(), "UnitNormalization layers on integers, which do not run in Keras either"),
        (L.LayerNormalization(), "LayerNormalization layers on integers, whose results Keras rounds towards zero"),
        (L.Activation("gelu"), "the activation gelu of integers, which does not run in Keras either"),
    ],
)
def test_integers_that_keras_does_not_compute_with_are_refused(layer: keras.Layer, reason: str, tmp_path: Path) -> None:
    """The sentence says so, and what to do."""
    with pytest.raises(NotConverted, match=reason):
        export_of(keras.Sequential([L.Input((6, 4), dtype="int32"), layer]), tmp_path)


def test_an_input_that_is_an_output_has_another_name(tmp_path: Path) -> None:
    """The same in the graph, in what the file is described as, and in Keras."""
    own_input().save(tmp_path / "m.keras")
    described = keras_file.describe(tmp_path / "m.keras").outputs
    names = [output.name for output in graph_of(read_file(tmp_path / "m.keras"), None).graph.output]
    assert names[0] == "x/output"
    assert list(described) == list(keras_model.load(tmp_path / "m.keras").outputs) == names


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_answers_in_half_precision(policy: str, tmp_path: Path) -> None:
    """Within the rounding of float16."""
    model = keras.Sequential(
        [
            L.Input((9, 8, 3)),
            L.Conv2D(4, 3, dtype=policy),
            L.BatchNormalization(dtype=policy),
            L.LayerNormalization(dtype=policy),
            L.Dense(3, dtype="float32" if policy == "mixed_float16" else policy),
        ]
    )
    agree(model, tmp_path, tolerance=1e-2)


def test_answers_in_float64(tmp_path: Path) -> None:
    """What onnxruntime has kernels for."""
    layers = [L.Dense(4, dtype="float64"), L.LayerNormalization(dtype="float64"), L.Softmax(dtype="float64")]
    agree(keras.Sequential([L.Input((5, 3), dtype="float64"), *layers]), tmp_path, tolerance=1e-7)


def _tokens() -> keras.Model:
    ids = keras.Input((5,), dtype="int32")
    tied, untied = L.ReversibleEmbedding(6, 4), L.ReversibleEmbedding(6, 4, tie_weights=False, logit_soft_cap=2.0)
    return keras.Model(ids, [L.Embedding(6, 3)(ids), tied(tied(ids), reverse=True), untied(untied(ids), reverse=True)])


QUANTISED: dict[str, Callable[[], keras.Model]] = {
    "dense": lambda: stack((8,), L.Dense(7, activation="relu")),
    "dense on a series": lambda: stack((None, 8), L.Dense(7, use_bias=False)),
    "einsum": lambda: stack((6, 8), L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de")),
    "einsum of two axes": lambda: stack((5, 2, 3), L.EinsumDense("abcd,cde->abe", output_shape=(None, 4))),
    "einsum in another order": lambda: stack((6, 8), L.EinsumDense("abc,bd->adc", output_shape=(4, 8))),
    "tokens": _tokens,
}


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("inputs", ["quantised", "as they are"])
def test_answers_of_quantised_layers(name: str, inputs: str, tmp_path: Path) -> None:
    """What `model.quantize` makes of it, with 8 bits for the weights in the file; inputs are rounded as Keras rounds them."""
    model = QUANTISED[name]()
    randomise(model)
    options = {} if inputs == "quantised" else {"activation_quantizer": None}
    model.quantize(config=keras.quantizers.Int8QuantizationConfig(**options))
    graph = agree(model, tmp_path, random_weights=False)
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.graph.initializer)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.parametrize("mode", ["int4", "float8"])
def test_other_quantised_weights_are_named(mode: str, tmp_path: Path) -> None:
    """They are left to Keras, and nothing is taken for what it is not."""
    model = stack((8,), L.Dense(6))
    model.quantize(mode)
    model.save(tmp_path / "model.keras")
    with pytest.raises((NotConverted, InputError), match=f"weights quantised by {mode}"):
        graph_of(read_file(tmp_path / "model.keras"), None)
