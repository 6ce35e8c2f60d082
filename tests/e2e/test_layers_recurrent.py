"""Recurrent layers exported from the file alone compute what Keras computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.errors import ExportError
from tests.exported import agree, export_of

pytestmark = pytest.mark.keras

MASKS = {
    1: np.array([[True, False, True, True, False, False, True]]),
    3: np.array(
        [
            [False, False, True, False, True, True, False],
            [True, True, True, False, False, False, False],
            [False, False, False, False, False, False, False],
        ]
    ),
}
"""Masks with holes, with all steps at the front, and with none."""


def _plain(shape: tuple[int | None, ...], *layers: Callable[[Any], Any]) -> Any:
    """Each layer on the same input: what they give is the model's output."""
    import keras

    x = keras.Input(shape, name="x")
    return keras.Model(x, [y for make in layers for y in keras.tree.flatten(make(keras.layers)(x))])


def _both(**options: Any) -> list[Callable[[Any], Any]]:
    """The layers that have a node, with the same options, for the output of every step and for the last one."""
    kinds = [
        lambda k, more: k.SimpleRNN(4, **options, **more),
        lambda k, more: k.LSTM(4, **options, **more),
        lambda k, more: k.GRU(4, **options, **more),
        lambda k, more: k.GRU(4, reset_after=False, **options, **more),
    ]
    ways: list[dict[str, Any]] = [{"return_sequences": True}, {"return_state": True}]
    return [lambda k, kind=kind, way=way: kind(k, way) for kind in kinds for way in ways]


def _activations(*names: str) -> list[Callable[[Any], Any]]:
    made: list[Callable[[Any], Any]] = []
    for name in names:
        made += [
            lambda k, name=name: k.SimpleRNN(3, activation=name, return_sequences=True),
            lambda k, name=name: k.LSTM(3, activation=name),
            lambda k, name=name: k.LSTM(3, recurrent_activation=name),
            lambda k, name=name: k.GRU(3, activation="tanh", recurrent_activation=name),
        ]
    return made


def _stacked(k: Any, **options: Any) -> Any:
    return k.RNN([k.LSTMCell(4), k.GRUCell(3), k.SimpleRNNCell(5), k.GRUCell(2, reset_after=False)], **options)


def _own_activation(k: Any) -> Any:
    return k.GRU(4, activation=k.LeakyReLU(negative_slope=0.3))


CELLS: list[Callable[[Any], Any]] = [
    lambda k: k.RNN(k.LSTMCell(4), return_sequences=True, return_state=True),
    lambda k: k.RNN(k.GRUCell(4, reset_after=False, use_bias=False)),
    lambda k: k.RNN(k.SimpleRNNCell(4, activation="gelu"), return_sequences=True, go_backwards=True),
    lambda k: _stacked(k),
    lambda k: _stacked(k, return_sequences=True, return_state=True, go_backwards=True),
]


def _states() -> Any:
    """An encoder whose states a decoder begins with, in every kind of layer."""
    import keras

    k = keras.layers
    x, later = keras.Input((None, 5), name="x"), keras.Input((4, 3), name="later")
    outputs = []
    for make in (
        lambda **more: k.SimpleRNN(4, **more),
        lambda **more: k.LSTM(4, **more),
        lambda **more: k.GRU(4, **more),
        lambda **more: k.LSTM(4, activation="gelu", **more),
        lambda **more: k.RNN([k.LSTMCell(4), k.GRUCell(3)], **more),
    ):
        _, *states = make(return_state=True)(x)
        outputs += keras.tree.flatten(make(return_sequences=True, return_state=True)(later, initial_state=states))
    return keras.Model([x, later], outputs)


def _called_cell() -> Any:
    import keras

    x, h, c = keras.Input((5,), name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, (new_h, new_c) = keras.layers.LSTMCell(4)(x, [h, c])
    return keras.Model([x, h, c], [y, new_h, new_c])


def _images(rank: int, **options: Any) -> Any:
    import keras

    first = options.get("data_format") == "channels_first"
    sides = (7, 6, 5)[:rank]
    kind = getattr(keras.layers, f"ConvLSTM{rank}D")
    x = keras.Input((3, 2, *sides) if first else (3, *sides, 2), name="x")
    y = kind(4, 3, return_sequences=True, **options)(x)
    return keras.Model(x, [y, *kind(3, 2, return_state=True, go_backwards=True, padding="same")(y)] if not first else y)


def _image_states() -> Any:
    import keras

    x = keras.Input((None, 6, 5, 2), name="x")
    kind = keras.layers.ConvLSTM2D
    y, h, c = kind(4, 3, padding="same", return_sequences=True, return_state=True, recurrent_activation="hard_sigmoid")(
        x
    )
    return keras.Model(x, [kind(4, 3, padding="same")(x, initial_state=[h, c]), keras.layers.ReLU()(y), h])


UNMASKED: dict[str, Callable[[], Any]] = {
    "plain": lambda: _plain((None, 5), *_both()),
    "known length": lambda: _plain((6, 5), *_both(use_bias=False), *_both(unroll=True)),
    "backwards": lambda: _plain((None, 5), *_both(go_backwards=True)),
    "activations": lambda: _plain((None, 5), *_activations("relu", "linear", "hard_sigmoid")),
    "activations in a loop": lambda: _plain(
        (None, 5), *_activations("gelu", "selu"), *_activations("softmax")[:2], _own_activation
    ),
    "cells": lambda: _plain((None, 5), *CELLS),
    "states": _states,
    "cell by itself": _called_cell,
    "images 1": lambda: _images(1),
    "images 2": lambda: _images(2, strides=2, padding="same", use_bias=False),
    "images 3": lambda: _images(3, dilation_rate=2),
    "images, channels first": lambda: _images(2, data_format="channels_first") if _on_gpu() else _images(2),
    "states of images": _image_states,
}


def _on_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


@pytest.mark.parametrize("name", UNMASKED)
def test_series(name: str, tmp_path: Path) -> None:
    """Every layer with every option, at two batch sizes."""
    agree(UNMASKED[name](), tmp_path)


def _masked(*makes: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 5)) -> Any:
    import keras

    x, mask = keras.Input(shape, name="x"), keras.Input((shape[0],), dtype="bool", name="mask")
    return keras.Model([x, mask], [y for make in makes for y in keras.tree.flatten(make(keras.layers)(x, mask=mask))])


def _feeds(shape: tuple[int, ...] = (7, 5)) -> Mapping[int, Mapping[str, Any]]:
    rng = np.random.default_rng(3)
    return {n: {"x": rng.normal(size=(n, *shape)).astype("float32"), "mask": mask} for n, mask in MASKS.items()}


ZERO: list[Callable[[Any], Any]] = [
    lambda k: k.LSTM(4, zero_output_for_mask=True, return_sequences=True),
    lambda k: k.GRU(4, zero_output_for_mask=True, return_sequences=True, go_backwards=True),
    lambda k: k.SimpleRNN(4, zero_output_for_mask=True),
    lambda k: k.GRU(4, zero_output_for_mask=True, go_backwards=True),
    lambda k: k.LSTM(4, zero_output_for_mask=True, activation="gelu", go_backwards=True),
    lambda k: k.LSTM(4, zero_output_for_mask=True, activation="gelu", return_sequences=True),
]

MASKED: dict[str, Callable[[], Any]] = {
    "plain": lambda: _masked(*_both()),
    "backwards": lambda: _masked(*_both(go_backwards=True)),
    "zeros": lambda: _masked(*ZERO),
    "zeros, unrolled": lambda: _masked(
        lambda k: k.LSTM(4, zero_output_for_mask=True, return_sequences=True, unroll=True),
        lambda k: k.LSTM(4, unroll=True, go_backwards=True),
        shape=(7, 5),
    ),
    "loops": lambda: _masked(*CELLS, *_activations("gelu")),
}


@pytest.mark.parametrize("name", MASKED)
def test_masks(name: str, tmp_path: Path) -> None:
    """Steps that a mask leaves out change no state, wherever they are; an output repeats the one before, or is zero."""
    agree(MASKED[name](), tmp_path, inputs=_feeds())


def test_masks_of_images(tmp_path: Path) -> None:
    """The same for series of images."""
    model = _masked(
        lambda k: k.ConvLSTM2D(3, 2, return_sequences=True, return_state=True),
        lambda k: k.ConvLSTM2D(3, 2, go_backwards=True, zero_output_for_mask=True),
        shape=(None, 4, 3, 2),
    )
    agree(model, tmp_path, inputs=_feeds((7, 4, 3, 2)))


def _masks_passed_on() -> Any:
    """Masks of an Embedding and a Masking layer go through stacked layers and end behind the last output."""
    import keras

    k = keras.layers
    words = keras.Input((None,), dtype="int32", name="words")
    x = k.Embedding(9, 4, mask_zero=True)(words)
    y = k.LSTM(4, return_sequences=True)(x)
    z = k.GRU(4, return_sequences=True, go_backwards=True)(y)
    last, h = k.GRU(4, return_state=True)(z)
    again = k.SimpleRNN(3, return_sequences=True)(k.Dropout(0.5)(y))
    # with initial states Keras does not read the mask of the series, but hands it on
    given = k.GRU(4, return_sequences=True)(x, initial_state=h)
    masked = k.LSTM(3)(k.Masking(mask_value=0.5)(k.Rescaling(0.5)(k.Dense(3)(given))))
    return keras.Model(words, [y, z, last, again, given, k.SimpleRNN(3)(given), masked])


def test_masks_are_passed_on(tmp_path: Path) -> None:
    """A mask goes where Keras hands it, and with it the steps that were left out."""
    rng = np.random.default_rng(3)
    words = {n: {"words": rng.integers(0, 9, mask.shape).astype("int32") * mask} for n, mask in MASKS.items()}
    agree(_masks_passed_on(), tmp_path, inputs=words)


def test_layers_behind_each_other_share_no_transpose(tmp_path: Path) -> None:
    """Between stacked layers the steps stay first: one Transpose before the first layer, none between, one behind the last."""
    import keras

    k = keras.layers
    net = keras.Sequential(
        [
            keras.Input((None, 5), name="x"),
            k.LSTM(4, return_sequences=True),
            k.Bidirectional(k.GRU(4, return_sequences=True), merge_mode="sum"),
            k.Dropout(0.3),
            k.SimpleRNN(3, return_sequences=True),
        ]
    )
    graph = agree(net, tmp_path)
    assert [node.op_type for node in graph.graph.node].count("Transpose") == 2


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_dtypes(policy: str, tmp_path: Path) -> None:
    """Half precision within what it rounds, float64 in a loop."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = _plain((None, 5), *_both())
    finally:
        keras.config.set_dtype_policy(before)
    agree(model, tmp_path, tolerance=1e-2 if policy == "mixed_float16" else 1e-12)


def test_stateful_layers_are_refused(tmp_path: Path) -> None:
    """A layer that keeps its states is named."""
    import keras

    x = keras.Input(batch_shape=(2, 6, 5))
    for layer in (
        keras.layers.LSTM(4, stateful=True, name="remembers"),
        keras.layers.Bidirectional(keras.layers.LSTM(4, stateful=True, name="remembers")),
    ):
        with pytest.raises(ExportError, match=r"EX002: the layer (forward_)?remembers is stateful"):
            export_of(keras.Model(x, layer(x)), tmp_path)
