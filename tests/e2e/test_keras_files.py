"""Weights read from model files without Keras are those that Keras has, under the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.errors import InputError
from bnexport.keras_files.graph import network
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.read import read_file
from tests.exported import randomise

pytestmark = pytest.mark.keras

STEPS, IMAGE, VOLUME, FRAMES = (6, 4), (6, 6, 4), (4, 4, 4, 4), (3, 6, 6, 2)


def _cell(k: Any) -> Any:
    return k.RNN(k.StackedRNNCells([k.LSTMCell(3), k.GRUCell(4), k.LSTMCell(2), k.SimpleRNNCell(3)]))


def _pipeline(k: Any) -> Any:
    return k.Pipeline([k.Rescaling(2.0), k.Normalization(), k.Rescaling(0.5)])


def _adapted(k: Any) -> Any:
    layer = k.Normalization()
    layer.adapt(np.random.default_rng(0).normal(2, 3, (8, *STEPS)))
    return layer


LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "AdditiveAttention": (lambda k: k.AdditiveAttention(), STEPS),
    "Attention": (lambda k: k.Attention(use_scale=True, score_mode="concat"), STEPS),
    "BatchNormalization": (lambda k: k.BatchNormalization(), IMAGE),
    "BatchNormalization, no scale": (lambda k: k.BatchNormalization(scale=False), IMAGE),
    "BatchNormalization, no center": (lambda k: k.BatchNormalization(center=False), IMAGE),
    "BatchNormalization, statistics only": (lambda k: k.BatchNormalization(scale=False, center=False), IMAGE),
    "Bidirectional": (lambda k: k.Bidirectional(k.LSTM(3)), STEPS),
    "Bidirectional, two layers": (
        lambda k: k.Bidirectional(k.GRU(3), backward_layer=k.LSTM(3, go_backwards=True)),
        STEPS,
    ),
    "Bidirectional, RNN": (lambda k: k.Bidirectional(k.RNN(k.GRUCell(3))), STEPS),
    "Conv1D": (lambda k: k.Conv1D(3, 2), STEPS),
    "Conv1DTranspose": (lambda k: k.Conv1DTranspose(3, 2), STEPS),
    "Conv2D": (lambda k: k.Conv2D(3, 2), IMAGE),
    "Conv2D, no bias": (lambda k: k.Conv2D(3, 2, use_bias=False), IMAGE),
    "Conv2DTranspose": (lambda k: k.Conv2DTranspose(3, 2), IMAGE),
    "Conv3D": (lambda k: k.Conv3D(3, 2), VOLUME),
    "Conv3DTranspose": (lambda k: k.Conv3DTranspose(3, 2), VOLUME),
    "ConvLSTM1D": (lambda k: k.ConvLSTM1D(3, 2), (3, 6, 2)),
    "ConvLSTM2D": (lambda k: k.ConvLSTM2D(3, 2), FRAMES),
    "ConvLSTM3D": (lambda k: k.ConvLSTM3D(2, 2), (2, 4, 4, 4, 2)),
    "Dense": (lambda k: k.Dense(3), STEPS),
    "Dense, bfloat16": (lambda k: k.Dense(3, dtype="bfloat16"), STEPS),
    "DepthwiseConv1D": (lambda k: k.DepthwiseConv1D(2), STEPS),
    "DepthwiseConv2D": (lambda k: k.DepthwiseConv2D(2), IMAGE),
    "Dropout": (lambda k: k.Dropout(0.3, seed=1), STEPS),
    "EinsumDense": (lambda k: k.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"), STEPS),
    "EinsumDense, no bias": (lambda k: k.EinsumDense("abc,cd->abd", (None, 3)), STEPS),
    "Embedding": (lambda k: k.Embedding(9, 3), STEPS),
    "GRU": (lambda k: k.GRU(3), STEPS),
    "GRU, reset before": (lambda k: k.GRU(3, reset_after=False, use_bias=False), STEPS),
    "GRUCell": (lambda k: k.RNN(k.GRUCell(3)), STEPS),
    "GroupNormalization": (lambda k: k.GroupNormalization(2), IMAGE),
    "GroupNormalization, no scale": (lambda k: k.GroupNormalization(2, scale=False), IMAGE),
    "GroupQueryAttention": (lambda k: k.GroupQueryAttention(3, 4, 2), STEPS),
    "LSTM": (lambda k: k.LSTM(3), STEPS),
    "LSTM, no bias": (lambda k: k.LSTM(3, use_bias=False, dropout=0.2, recurrent_dropout=0.1), STEPS),
    "LSTMCell": (lambda k: k.RNN(k.LSTMCell(3)), STEPS),
    "LayerNormalization": (lambda k: k.LayerNormalization(), IMAGE),
    "LayerNormalization, no center": (lambda k: k.LayerNormalization(center=False), IMAGE),
    "MultiHeadAttention": (lambda k: k.MultiHeadAttention(2, 3), STEPS),
    "MultiHeadAttention, no bias": (lambda k: k.MultiHeadAttention(2, 3, use_bias=False, dropout=0.2), STEPS),
    "Normalization": (_adapted, STEPS),
    "Normalization, given": (lambda k: k.Normalization(mean=2.0, variance=3.0), STEPS),
    "PReLU": (lambda k: k.PReLU(shared_axes=[1]), IMAGE),
    "Pipeline": (_pipeline, STEPS),
    "RMSNormalization": (lambda k: k.RMSNormalization(), STEPS),
    "RNN": (lambda k: k.RNN(k.SimpleRNNCell(3, use_bias=False)), STEPS),
    "ReversibleEmbedding": (lambda k: k.ReversibleEmbedding(9, 3), STEPS),
    "ReversibleEmbedding, two matrices": (lambda k: k.ReversibleEmbedding(9, 3, tie_weights=False), STEPS),
    "STFTSpectrogram": (lambda k: k.STFTSpectrogram(frame_length=8, frame_step=4, fft_length=8), (32, 1)),
    "STFTSpectrogram, real": (lambda k: k.STFTSpectrogram("real", 8, 4, 8), (32, 1)),
    "SeparableConv1D": (lambda k: k.SeparableConv1D(3, 2), STEPS),
    "SeparableConv2D": (lambda k: k.SeparableConv2D(3, 2, use_bias=False), IMAGE),
    "SimpleRNN": (lambda k: k.SimpleRNN(3), STEPS),
    "SimpleRNNCell": (lambda k: k.RNN(k.SimpleRNNCell(3)), STEPS),
    "SpectralNormalization": (lambda k: k.SpectralNormalization(k.Conv2D(3, 2)), IMAGE),
    "StackedRNNCells": (_cell, STEPS),
    "TimeDistributed": (lambda k: k.TimeDistributed(k.BatchNormalization()), FRAMES),
    "TimeDistributed, Bidirectional": (lambda k: k.TimeDistributed(k.Bidirectional(k.LSTM(2))), (3, 6, 2)),
}
"""Every layer class of Keras with weights, in the forms in which they differ, and the shape of an input."""

WITHOUT_WEIGHTS = {
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "AugMix", "AutoContrast", "Average",
    "CategoryEncoding", "CenterCrop", "Concatenate", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix",
    "Discretization", "Dot", "ELU", "Equalization", "Flatten", "GaussianDropout", "GaussianNoise", "HashedCrossing",
    "Hashing", "Identity", "InputLayer", "IntegerLookup", "Lambda", "Layer", "LeakyReLU", "Masking",
    "MaxNumBoundingBoxes", "Maximum", "MelSpectrogram", "Minimum", "MixUp", "Multiply", "Permute", "RandAugment", "ReLU",
    "RepeatVector", "Rescaling", "Reshape", "Resizing", "Softmax", "Solarization", "StringLookup", "Subtract",
    "TextVectorization", "UnitNormalization", "Wrapper",
}  # fmt: skip
FAMILIES_WITHOUT_WEIGHTS = (
    "Adaptive", "AveragePooling", "AvgPool", "Cropping", "Global", "MaxPool", "Random", "SpatialDropout", "UpSampling",
    "ZeroPadding",
)  # fmt: skip
OTHER_FRAMEWORKS = {"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"}


def _model(make: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    """A model with a layer three times: trained, frozen and in a nested model."""
    import keras

    k = keras.layers
    integers = type(make(k)).__name__.endswith("Embedding")
    dtype = "int32" if integers else "float32"
    x, y = keras.Input(shape, dtype=dtype, name="x"), keras.Input(shape, dtype=dtype, name="y")
    frozen = make(k)
    frozen.trainable = False
    inner = keras.Model(y, _call(make(k), y), name="inner")
    return keras.Model(x, [_call(make(k), x), _call(frozen, x), keras.layers.Identity()(inner(x))])


def _call(layer: Any, x: Any) -> Any:
    kind = type(layer).__name__
    if kind in ("MultiHeadAttention", "GroupedQueryAttention"):
        return layer(x, x)
    return layer([x, x]) if kind.endswith("Attention") else layer(x)


def _inside(layer: Any, attribute: str) -> Any:
    """The layer that Keras keeps under an attribute, or under a place in a list ("cells/0")."""
    name, _, place = attribute.partition("/")
    inner = getattr(layer, name, None) or getattr(layer, f"_{name}")
    return inner[int(place)] if place else inner


def _member(model: Any, name: str) -> Any:
    """The layer of a model with this name; `get_layer` does not give the InputLayer of a Sequential one."""
    return next(layer for layer in model._layers if layer.name == name)


def _pairs(stored: StoredLayer, layer: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each weight's name with what was read and what Keras has."""
    import keras

    inside = {
        id(v) for inner in layer._layers for v in inner.variables
    }  # a wrapper may have a weight of its layer, too
    own = {v.name: v for v in (*layer._trainable_variables, *layer._non_trainable_variables) if id(v) not in inside}
    assert set(stored.weights) == set(own), stored.path
    for name, variable in own.items():
        yield f"{stored.path}/{name}", stored.weights[name], variable
    for key, part in stored.parts.items():
        yield from _pairs(part, _member(layer, key) if isinstance(layer, keras.Model) else _inside(layer, key))


def _same_weights(path: Path, model: Any) -> None:
    stored = read_file(path).model
    pairs = list(_pairs(stored, model))
    assert len(pairs) == len(model.weights)
    for name, weight, variable in pairs:
        right = np.asarray(variable.numpy() if hasattr(variable, "numpy") else variable)
        values = weight.read()
        assert weight.shape == values.shape == right.shape, name
        assert values.dtype == right.dtype, name
        assert weight.dtype == str(right.dtype), name
        assert values.tobytes() == right.tobytes(), name
    network(stored)


@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize("case", LAYERS)
def test_weights_are_those_of_keras(case: str, form: str, tmp_path: Path) -> None:
    model = _model(*LAYERS[case])
    randomise(model)
    path = tmp_path / f"model.{form}"
    model.save(path)
    if "bfloat16" in case and form == "h5":  # Keras cannot load what it has saved there
        with pytest.raises(InputError, match="weights as raw bytes"):
            read_file(path)
        return
    _same_weights(path, model)


def test_every_class_of_keras_is_in_the_table() -> None:
    """A class that Keras adds must be looked at. Other names of a class ("Convolution2D") are the same class."""
    import keras

    names = {
        kind.__name__
        for kind in vars(keras.layers).values()
        if isinstance(kind, type) and issubclass(kind, keras.layers.Layer)
    }
    # Keras shows "GroupQueryAttention" and calls the class "GroupedQueryAttention".
    expected = {name.replace("GroupedQuery", "GroupQuery") for name in names}
    tested = {case.split(",")[0] for case in LAYERS}
    rest = expected - tested - WITHOUT_WEIGHTS - OTHER_FRAMEWORKS
    assert {name for name in rest if not name.startswith(FAMILIES_WITHOUT_WEIGHTS)} == set()


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_trainable_is_effective(form: str, tmp_path: Path) -> None:
    """A frozen model freezes what is in it; moving statistics are never trained."""
    import keras

    k = keras.layers
    inner = keras.Sequential(
        [keras.Input((4,)), k.Dense(3, name="dense"), k.BatchNormalization(name="bn")], name="inner"
    )
    inner.trainable = False
    model = keras.Sequential([keras.Input((4,)), inner, k.BatchNormalization(name="outer")])
    path = tmp_path / f"model.{form}"
    model.save(path)
    layers = {layer.path: layer for layer in read_file(path).model.walk()}
    assert not layers["inner/dense"].trainable
    assert not layers["inner/bn"].trainable
    assert layers["outer"].trainable
    assert [layers["outer"].weights[n].trainable for n in ("gamma", "moving_mean")] == [True, False]
    _same_weights(path, model)


@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize("kind", ["Dense", "EinsumDense", "Embedding", "ReversibleEmbedding, two matrices"])
def test_quantised_weights_are_those_of_keras(kind: str, form: str, tmp_path: Path) -> None:
    import keras

    make, shape = LAYERS[kind]
    x = keras.Input(shape, dtype="int32" if "Embedding" in kind else "float32")
    model = keras.Model(x, make(keras.layers)(x))
    randomise(model)
    model.layers[-1].quantize("int8")
    path = tmp_path / f"model.{form}"
    model.save(path)
    _same_weights(path, model)


@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize("calls", [1, 2])
def test_outputs_of_nested_models_are_read(calls: int, form: str, tmp_path: Path) -> None:
    """A functional model whose outputs are those of a functional model inside it."""
    import keras

    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    inner = keras.Model(y, keras.layers.Dense(4)(y), name="inner")
    outputs = [x]
    for _ in range(calls):
        outputs.append(inner(outputs[-1]))
    path = tmp_path / f"model.{form}"
    keras.Model(x, outputs[1:]).save(path)
    read = network(read_file(path).model)
    assert [(t.layer, t.index) for t in read.outputs] == [("inner", 0)] * calls
    assert [t.call for t in read.outputs] == [call.nth for call in read.calls]
