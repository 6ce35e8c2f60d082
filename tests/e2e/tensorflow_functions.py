"""Writes a model of TensorFlow functions with tf_keras, which is Keras 2, and what it computes: a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def write(folder: Path) -> None:
    import tensorflow as tf
    import tf_keras as keras

    x, i = keras.Input((6, 4), name="x"), keras.Input((5,), dtype="int32", name="i")
    y = tf.reduce_mean(x, axis=1)[:, None, :]
    outputs = [
        y, x * 2.0 + y - tf.nn.relu(x), tf.concat([x[:, 1:, :2], x[:, :-1, 2:]], axis=-1), tf.reshape(x, (-1, 24)),
        tf.reshape(x, [tf.shape(x)[0], 12, 2]), tf.reshape(x, [tf.shape(x)[0], -1, 2]), tf.expand_dims(x, 1),
        tf.cast(i, tf.float32) / 3.0, tf.matmul(x, x, transpose_b=True), tf.math.squared_difference(x, y),
        tf.transpose(x, [0, 2, 1]), tf.stack([x, x], axis=1), *tf.split(x, 2, axis=-1), *tf.split(x, [1, 3], axis=-1),
        tf.gather(x, [0, 2], axis=1), tf.where(x > 0, x, 0.5), tf.one_hot(i, 4), tf.nn.softmax(x, axis=-1),
        tf.clip_by_value(x, -0.5, 0.5), tf.tile(x, [1, 2, 1]), tf.image.resize(x[:, :, :, None], (3, 8)), tf.sigmoid(x),
        tf.math.l2_normalize(x, axis=-1), 1.0 - x, tf.abs(x), x**2, tf.pad(x, [[0, 0], [1, 1], [0, 0]]),
        x @ tf.ones((4, 2)), tf.ones_like(x), tf.nn.leaky_relu(x), tf.nn.gelu(x), tf.argmax(x, axis=-1), tf.cumsum(x, axis=1),
        tf.reduce_max(x, axis=[1, 2]), tf.reduce_any(x > 1, axis=1), tf.reverse(x, axis=[1]), tf.unstack(x, axis=1)[2],
        tf.squeeze(y, axis=1), tf.repeat(x, 2, axis=1), i % 3, i // 2, tf.logical_and(x > 0, x < 1), tf.math.rsqrt(tf.exp(x)),
    ]  # fmt: skip
    model = keras.Model([x, i], outputs)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(3, 6, 4)).astype(np.float32), "i": rng.integers(0, 5, (3, 5)).astype(np.int32)}
    for suffix in (".h5", ".keras"):
        model.save(folder / f"functions{suffix}")
    wanted = {f"output_{nth}": np.asarray(value) for nth, value in enumerate(model([feeds["x"], feeds["i"]]))}
    np.savez(folder / "functions.npz", **feeds, **wanted)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
