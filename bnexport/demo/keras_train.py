"""Overfitting a keras.applications net on a few images (tensorflow and keras)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnexport.demo.options import TrainingOptions
from bnexport.errors import UsageError, reason
from bnexport.results.outcomes import Epoch

if TYPE_CHECKING:
    import keras


UNTRACED_STEPS = 10
"""So many steps are not worth tracing: that takes as long as about 20 steps of a ResNet50 on three images."""


def architectures() -> list[str]:
    """The names of the nets in keras.applications."""
    import keras

    return sorted(
        name for name in dir(keras.applications) if name[0].isupper() and callable(getattr(keras.applications, name))
    )


def overfit(
    path: Path,
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    how: TrainingOptions,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Trains a net without pretrained weights and saves it, optimizer included, at `path`.

    Adam, categorical cross-entropy, shuffling, as in the question this tool grew from.

    Args:
        path: .h5 or .keras.
        x: shape (N, H, W, C).
        labels: the class of each image, shape (N,).
        classes: how many classes there are.
        how: the net, by a name from `architectures`, and the training.
        on_epoch: called after each epoch.

    Raises:
        UsageError: there is no such architecture, or it cannot take this input.
    """
    import keras

    names = architectures()
    if how.arch not in names:
        raise UsageError(f"keras.applications of this Keras has no network {how.arch}", expected=", ".join(names))
    keras.utils.set_random_seed(how.seed)
    try:
        model = getattr(keras.applications, how.arch)(input_shape=x.shape[1:], classes=classes, weights=None)
    except ValueError as error:
        raise UsageError(f"{how.arch} does not accept images of shape {x.shape[1:]} ({reason(error)})") from error
    if how.momentum is not None:
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = how.momentum
    model.compile(
        optimizer=keras.optimizers.Adam(how.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        run_eagerly=-(-len(x) // how.batch_size) * how.epochs <= UNTRACED_STEPS,
    )
    history: list[Epoch] = []

    class Tell(keras.callbacks.Callback):  # type: ignore[misc] # Keras is untyped
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            history.append(Epoch(epoch + 1, float(logs["loss"]), float(logs["accuracy"])))
            on_epoch(history[-1])

    y = keras.utils.to_categorical(labels, classes)
    target = how.epochs
    while len(history) < target:
        model.fit(
            x, y, batch_size=how.batch_size, initial_epoch=len(history), epochs=target, verbose=0, callbacks=[Tell()]
        )
        if target < how.extend_to and (
            history[-1].accuracy < 1 or _training_accuracy(model, x, labels, how.batch_size) < 1
        ):
            target += 1
    model.save(path)
    return history


def _training_accuracy(model: keras.Model, x: NDArray[np.float32], labels: NDArray[np.int64], batch_size: int) -> float:
    """The share of images that training mode gets right now: `fit` reports each step from before its update."""
    train, fixed = ([v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables))
    right = 0
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        scores, _ = model.stateless_call(train, fixed, x[rows], training=True)  # leaves the moving statistics alone
        right += int(np.count_nonzero(np.argmax(scores, axis=1) == labels[rows]))
    return right / len(x)
