"""Writes small models with tf_keras, which is Keras 2, and what it computes: run in a process of its own, with the folder as argument."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def write(folder: Path) -> None:
    import tf_keras as keras

    k, rng = keras.layers, np.random.default_rng(0)
    nets = {}
    x = keras.Input((3, 6, 6, 1))
    y = k.BatchNormalization()(k.ConvLSTM2D(2, 3)(x))
    nets["convlstm"] = keras.Model(x, k.Dense(2, activation="hard_sigmoid")(k.Flatten()(y)))
    nets["lstm"] = keras.Sequential(
        [keras.Input((5, 3)), k.LSTM(4, recurrent_activation="hard_sigmoid"), k.Dense(3), k.Activation("hard_sigmoid")]
    )
    nets["gru"] = keras.Sequential(
        [keras.Input((5, 3)), k.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid"), k.Dense(2)]
    )
    a = keras.Input((4,))
    base = keras.Model(a, k.BatchNormalization()(k.Dense(4, activation="relu")(a)), name="base")
    head = keras.Sequential([keras.Input((4,)), k.Dense(3)], name="head")
    b = keras.Input((4,))
    nets["nested"] = keras.Model(b, head(k.Add()([base(b), base(k.ReLU()(b))])))
    nets["transfer"] = keras.Model(b, k.Dense(2)(base(b)))
    nets["wrapped"] = keras.Sequential(
        [
            keras.Input((3, 6, 6, 1)),
            k.TimeDistributed(k.Conv2D(2, 3)),
            k.TimeDistributed(k.Flatten()),
            k.Bidirectional(k.LSTM(2)),
        ]
    )
    nets["groups"] = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            k.Conv2DTranspose(2, 3),
            k.SeparableConv2D(3, 3),
            k.Reshape((16, 3)),
            k.Conv1DTranspose(2, 3),
            k.SeparableConv1D(2, 3),
            k.DepthwiseConv1D(3),
        ]
    )
    nets["dense"] = keras.Sequential([k.Dense(3, input_shape=(4,)), k.Dropout(0.5), k.Dense(2), k.Dense(2)])
    for name, net in nets.items():
        # Large weights drive the activations to where the two formulas differ.
        net.set_weights([np.abs(w) if w.ndim == 1 else rng.normal(size=w.shape) for w in net.get_weights()])
        x = rng.normal(size=(4, *net.input_shape[1:])).astype(np.float32)
        net.compile("adam", "mse", run_eagerly=True)
        if name == "dense":
            net.fit(x, net(x).numpy(), verbose=0, batch_size=2)
        np.savez(folder / f"{name}.npz", x=x, y=net(x, training=False).numpy())
        for suffix in (".h5", ".keras"):
            net.save(folder / f"{name}{suffix}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
