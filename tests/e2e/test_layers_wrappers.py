"""Bidirectional and TimeDistributed exported from the file alone compute what Keras computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexport.exporter.protocols import NotConverted
from tests.e2e.test_layers_recurrent import MASKS
from tests.exported import agree, export_of

pytestmark = pytest.mark.keras

MODES = ("concat", "sum", "ave", "mul", None)

Make = Callable[..., Any]


def _kinds(k: Any) -> Sequence[Make]:
    return (k.SimpleRNN, k.LSTM, k.GRU)


def _in_every_mode(*, masked: bool = False, **options: Any) -> Any:
    """Each kind of layer with each way of merging, for all steps and for the last one."""
    import keras

    k = keras.layers
    x, mask = keras.Input((None, 5), name="x"), keras.Input((None,), dtype="bool", name="mask")
    outputs = []
    for nth, mode in enumerate(MODES):
        for way in ({"return_sequences": True}, {"return_state": True}):
            kind = _kinds(k)[(nth + len(outputs)) % 3]
            layer = k.Bidirectional(kind(4, **way, **options), merge_mode=mode)
            outputs += keras.tree.flatten(layer(x, mask=mask) if masked else layer(x))
    return keras.Model([x, mask] if masked else x, outputs)


def _halves(*, masked: bool = False) -> Any:
    """Backward layers of their own: another width, another kind, other activations, a loop, reversed roles."""
    import keras

    k = keras.layers
    x, mask = keras.Input((None, 5), name="x"), keras.Input((None,), dtype="bool", name="mask")
    back = {"go_backwards": True}
    pairs = [
        (k.LSTM(4), k.LSTM(3, **back), "concat"),
        (k.LSTM(4, activation="relu"), k.LSTM(4, use_bias=False, recurrent_activation="hard_sigmoid", **back), "sum"),
        (k.GRU(4), k.GRU(4, reset_after=False, **back), "ave"),
        (k.GRU(4), k.SimpleRNN(4, **back), "mul"),
        (k.LSTM(4), k.LSTM(4, activation="gelu", **back), None),
        (k.RNN(k.GRUCell(4)), k.RNN(k.GRUCell(4), **back), "concat"),
        (k.GRU(3, **back), k.GRU(3), "concat"),
    ]
    outputs = []
    for sequences in (False, True):
        for forward, backward, mode in pairs:
            pair = []
            for layer in (forward, backward):
                config = {**layer.get_config(), "return_sequences": sequences}
                pair.append(type(layer).from_config({**config, "name": f"{layer.name}_{sequences}"}))
            layer = k.Bidirectional(pair[0], merge_mode=mode, backward_layer=pair[1])
            outputs += keras.tree.flatten(layer(x, mask=mask) if masked else layer(x))
    return keras.Model([x, mask] if masked else x, outputs)


def _states() -> Any:
    import keras

    k = keras.layers
    x = keras.Input((None, 5), name="x")
    outputs = []
    for kind, options in ((k.LSTM, {}), (k.GRU, {}), (k.LSTM, {"activation": "gelu"})):
        _, *states = k.Bidirectional(kind(4, return_state=True, **options))(x)
        layer = k.Bidirectional(kind(4, return_state=True, return_sequences=True, **options))
        outputs += keras.tree.flatten(layer(x, initial_state=states))
    return keras.Model(x, outputs)


def _images() -> Any:
    import keras

    k = keras.layers
    x = keras.Input((3, 5, 4, 2), name="x")
    layers = [k.Bidirectional(k.ConvLSTM2D(3, 2, return_sequences=True), merge_mode=mode) for mode in ("concat", "sum")]
    return keras.Model(x, [layer(x) for layer in layers])


UNMASKED: dict[str, Callable[[], Any]] = {
    "every mode": _in_every_mode,
    "without bias": lambda: _in_every_mode(use_bias=False, recurrent_dropout=0.2, unroll=False),
    "halves": _halves,
    "states": _states,
    "images": _images,
}


@pytest.mark.parametrize("name", UNMASKED)
def test_both_directions(name: str, tmp_path: Path) -> None:
    """Every kind of layer, every way of merging, halves that differ, and states that are given."""
    agree(UNMASKED[name](), tmp_path)


def _feeds() -> Mapping[int, Mapping[str, Any]]:
    rng = np.random.default_rng(3)
    return {n: {"x": rng.normal(size=(n, 7, 5)).astype("float32"), "mask": mask} for n, mask in MASKS.items()}


@pytest.mark.parametrize("build", [_in_every_mode, _halves])
def test_both_directions_of_masked_series(build: Callable[..., Any], tmp_path: Path) -> None:
    """A mask with holes: steps that are left out give zeros where all steps are given."""
    agree(build(masked=True), tmp_path, inputs=_feeds())


def test_masked_layers_behind_each_other(tmp_path: Path) -> None:
    """The kept steps stay at the front from layer to layer, and a mask ends with the last output."""
    import keras

    k = keras.layers
    words = keras.Input((None,), dtype="int32", name="words")
    x = k.Embedding(9, 4, mask_zero=True)(words)
    x = k.Bidirectional(k.LSTM(3, return_sequences=True))(x)
    x = k.Bidirectional(k.GRU(3, return_sequences=True), merge_mode="ave")(x)
    y = k.TimeDistributed(k.Dense(5, activation="softmax"))(x)
    left, right = k.Bidirectional(k.LSTM(3, return_sequences=True), merge_mode=None)(y)
    model = keras.Model(words, [y, k.GRU(3)(left), k.GRU(3)(right), k.Bidirectional(k.LSTM(3))(y)])
    rng = np.random.default_rng(3)
    feeds = {n: {"words": rng.integers(0, 9, mask.shape).astype("int32") * mask} for n, mask in MASKS.items()}
    graph = agree(model, tmp_path, inputs=feeds)
    assert [node.op_type for node in graph.graph.node].count("TopK") == 2  # one for each direction


def test_one_node_holds_both_directions(tmp_path: Path) -> None:
    """Layers of one kind and width become one node, others two."""
    graph = agree(_in_every_mode(), tmp_path)
    directions = [a.s for node in graph.graph.node for a in node.attribute if a.name == "direction"]
    assert directions == [b"bidirectional"] * 10


def _inner() -> Any:
    import keras

    k = keras.layers
    return keras.Sequential([keras.Input((6, 5, 2), name="image"), k.Conv2D(3, 2), k.BatchNormalization(), k.ReLU()])


def _each_step(steps: int | None) -> Any:
    import keras

    k = keras.layers
    x, images = keras.Input((steps, 5), name="x"), keras.Input((steps, 6, 5, 2), name="images")
    td = k.TimeDistributed
    y = td(k.Conv2D(3, 3, padding="same", activation="relu"))(images)
    y = td(k.MaxPooling2D())(td(k.BatchNormalization())(y))
    outputs = [
        y,
        td(_inner())(images),
        td(k.GlobalAveragePooling2D())(y),
        k.LSTM(3)(td(k.Flatten())(y)) if steps else td(k.GlobalMaxPooling2D())(y),
        td(k.LayerNormalization())(x),
        td(k.Dense(4, activation="gelu"))(x),
        td(k.Activation("softmax"))(x),
        td(td(k.Dense(3)))(images),
        td(k.Bidirectional(k.LSTM(3)))(td(k.Reshape((5, 12)))(images)) if steps else td(k.Dropout(0.1))(x),
    ]
    return keras.Model([x, images], outputs)


@pytest.mark.parametrize("steps", [4, None])
def test_layers_on_every_step(steps: int | None, tmp_path: Path) -> None:
    """Layers and models on every step, of series of known and of open length."""
    model = _each_step(steps)
    rng = np.random.default_rng(5)
    feeds = {
        n: {
            "x": rng.normal(size=(n, 4, 5)).astype("float32"),
            "images": rng.normal(size=(n, 4, 6, 5, 2)).astype("float32"),
        }
        for n in (1, 3)
    }
    agree(model, tmp_path, inputs=feeds)


def test_steps_stay_examples_between_layers(tmp_path: Path) -> None:
    """Layers on every step behind each other need no Reshape and no Transpose between them."""
    import keras

    k = keras.layers
    td = k.TimeDistributed
    net = [td(k.Conv2D(3, 2)), td(k.BatchNormalization()), td(k.MaxPooling2D()), td(k.GlobalAveragePooling2D())]
    graph = agree(keras.Sequential([keras.Input((None, 6, 5, 2), name="x"), *net]), tmp_path)
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("Transpose") == 1
    assert kinds.count("Reshape") == 2


def test_a_mask_given_to_a_step_is_named(tmp_path: Path) -> None:
    """A layer inside that would read the mask is left to another converter."""
    import keras

    k = keras.layers
    x = keras.Input((4, 5), name="x")
    inner = keras.Sequential([keras.Input((5,), name="step"), k.Dense(3), k.Softmax()])
    model = keras.Model(x, k.TimeDistributed(inner, name="each")(k.Masking()(x)))
    with pytest.raises(NotConverted, match="the layer each, which gives masks to the layer"):
        export_of(model, tmp_path)
