"""Small Keras models of many families, with random weights and data (keras)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

ITEMS = 4
"""So many items the data have; no axis of a model has the same size."""


def recurrent() -> keras.Model:
    """Every recurrent layer, behind a mask, over an axis of open length."""
    from keras import Input, Model, layers as k

    x = Input((None,), dtype="int32", name="x")
    y = k.Embedding(20, 5, mask_zero=True, name="embedding")(x)
    y = k.LSTM(6, return_sequences=True, name="lstm")(y)
    y = k.Bidirectional(k.GRU(3, return_sequences=True, reset_after=False), name="both")(y)
    y = k.RNN([k.LSTMCell(5), k.GRUCell(6), k.SimpleRNNCell(5)], return_sequences=True, name="cells")(y)
    y = k.TimeDistributed(k.Dense(3, activation="tanh"), name="each")(y)
    y = k.SimpleRNN(6, return_sequences=True, name="simple")(y)
    y = k.GRU(5, name="gru")(y)
    return Model(x, k.Dense(3, activation="softmax", name="p")(y))


def convolved() -> keras.Model:
    """ConvLSTM, and a nested model with BatchNormalization at each step."""
    from keras import Input, Model, layers as k

    inner_x = Input((6, 6, 2))
    inner = Model(inner_x, k.BatchNormalization(name="norm")(k.Conv2D(3, 3, name="conv")(inner_x)), name="inner")
    x = Input((5, 6, 6, 2), name="x")
    y = k.TimeDistributed(inner, name="each")(x)
    y = k.ConvLSTM2D(2, 3, name="loop")(y)
    y = k.BatchNormalization(name="last")(y)
    return Model(x, k.Dense(3, activation="softmax", name="p")(k.Flatten(name="flat")(y)))


def attentive() -> keras.Model:
    """Every layer of attention, and operations of keras.ops on the input itself."""
    import keras
    from keras import Input, Model, layers as k

    x = Input((7, 8), name="x")
    grouped = getattr(k, "GroupedQueryAttention", None) or k.GroupQueryAttention
    own = keras.ops.softmax(keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))) / 8, axis=-1)
    y = k.MultiHeadAttention(2, 4, dropout=0.1, name="heads")(x, x, use_causal_mask=True)
    y = k.LayerNormalization(name="norm")(k.Add(name="add")([keras.ops.matmul(own, x), y]))
    y = grouped(4, 4, 2, name="grouped")(y, y)
    y = k.Attention(use_scale=True, name="attention")([y, k.Dense(8, name="keys")(y)])
    y = k.AdditiveAttention(name="additive")([y, x])
    y = k.GaussianNoise(0.2, name="noise")(k.GlobalAveragePooling1D(name="pool")(y))
    return Model(x, k.Dense(3, activation="softmax", name="p")(y))


def several() -> keras.Model:
    """Three inputs, three outputs and states, of which one net reads another's."""
    from keras import Input, Model, layers as k

    a, b, c = Input((6, 5), name="a"), Input((None, 5), name="b"), Input((6,), dtype="int32", name="c")
    read, h, state = k.LSTM(5, return_sequences=True, return_state=True, name="read")(a)
    written = k.LSTM(5, return_sequences=True, name="write")(b, initial_state=[h, state])
    y = k.Concatenate(name="both")([k.Flatten(name="flat")(read), k.Flatten(name="codes")(k.Embedding(9, 3)(c))])
    named = {"p": k.Dense(3, activation="sigmoid", name="p")(k.BatchNormalization(name="bn")(y)), "state": state}
    return Model({"a": a, "b": b, "c": c}, {**named, "steps": k.TimeDistributed(k.Dense(2), name="steps")(written)})


def quantised() -> keras.Model:
    """Weights in int8, with inputs that are rounded to int8 for each product."""
    from keras import Input, Model, layers as k

    x = Input((9,), dtype="int32", name="x")
    y = k.EinsumDense("abc,cd->abd", output_shape=(None, 6), name="einsum")(k.Embedding(20, 8, name="embedding")(x))
    y = k.Dense(8, activation="relu", name="dense")(k.GlobalAveragePooling1D(name="pool")(y))
    model = Model(x, k.Dense(3, activation="softmax", name="p")(y))
    model.quantize("int8", filters=["embedding", "einsum", "dense", "^p$"])
    return model


def mixed(policy: str) -> Callable[[], keras.Model]:
    """Layers in a mixed precision of Keras, with an output in float32."""

    def make() -> keras.Model:
        from keras import Input, Model, layers as k

        x = Input((7, 8), name="x")
        y = k.Conv1D(8, 3, padding="same", dtype=policy, name="conv")(x)
        y = k.BatchNormalization(dtype=policy, name="norm")(y)
        y = k.MultiHeadAttention(2, 4, dtype=policy, name="heads")(y, y)
        y = k.GRU(5, dtype=policy, name="gru")(y)
        return Model(x, k.Dense(3, activation="softmax", name="p")(y))

    return make


FAMILIES: dict[str, Callable[[], keras.Model]] = {
    "recurrent": recurrent,
    "convolved": convolved,
    "attentive": attentive,
    "several": several,
    "quantised": quantised,
    "float16": mixed("mixed_float16"),
    "bfloat16": mixed("mixed_bfloat16"),
}


def write(name: str, folder: Path) -> Path:
    """Writes a model and its data, NAME.keras and NAME.npz, and returns the model's path."""
    import keras

    keras.utils.set_random_seed(3)
    model, rng = FAMILIES[name](), np.random.default_rng(0)
    for variable in [] if name == "quantised" else model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    arrays = {}
    for tensor in model.inputs:
        shape = (ITEMS, *(side or 7 for side in tensor.shape[1:]))
        whole = tensor.dtype == "int32"
        arrays[tensor.name] = rng.integers(1, 9, shape).astype("int32") if whole else rng.normal(1, 1, shape)
    if name == "recurrent":
        arrays["x"][1:, 3:] = 0
    model.save(folder / f"{name}.keras")
    np.savez(
        folder / f"{name}.npz", **{key: x if x.dtype == np.int32 else x.astype(np.float32) for key, x in arrays.items()}
    )
    return folder / f"{name}.keras"


def run_on(backend: str, script: str, *arguments: str) -> dict[str, Any]:
    """What a script prints in a process whose Keras runs on a backend; it succeeds, and says nothing on stderr."""
    completed = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert not completed.stderr
    printed: dict[str, Any] = json.loads(completed.stdout)
    return printed
