"""The passes of a Keras model (tensorflow and keras).

Two passes, neither of which changes the model:

* inference: `model(x, training=False)`, what `predict` computes;
* training: the same, but every BatchNormalization layer that is not frozen normalises by the batch's own statistics.
  Dropout and other random layers stay off, so that the difference between the passes is BatchNormalization's alone.

`model(x, training=True)` would do neither: it moves the moving statistics at every call and turns dropout on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bnexport.runtimes.keras_model import LoadedModel

Mode = Literal["inference", "training"]
Array = NDArray[Any]


class Passes:
    """The passes of a loaded model. Tracing happens at the first run of each mode; any batch size goes through the same trace."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._traced: dict[Mode, Any] = {}
        self._names: dict[Mode, list[str]] = {}

    def run(self, mode: Mode, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One pass over one batch.

        Args:
            mode: "inference" or "training".
            feeds: every input of the model by name, shape (N, ...).

        Returns:
            Every output by name, and `OUTPUT/logits` for each that ends in softmax or sigmoid; shape (N, ...).
        """
        import tensorflow as tf

        if mode not in self._traced:
            self._traced[mode] = self._trace(mode)
        tensors = [tf.constant(feeds[t.name], dtype=t.dtype) for t in self._loaded.inputs]
        return {
            name: np.asarray(value) for name, value in zip(self._names[mode], self._traced[mode](*tensors), strict=True)
        }

    def _trace(self, mode: Mode) -> Any:
        import keras
        import tensorflow as tf

        model, names = self._loaded.keras, self._names.setdefault(mode, [])

        def forward(*x: Any) -> list[Any]:
            structure = getattr(model, "_inputs_struct", None)
            packed = keras.tree.pack_sequence_as(structure, list(x)) if structure is not None else x[0]
            train, fixed = (
                [v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)
            )
            with _batch_statistics(enabled=mode == "training"):
                y, _ = model.stateless_call(train, fixed, packed, training=False)
            outputs = dict(zip(self._loaded.outputs, keras.tree.flatten(y), strict=True))
            # Keras keeps what it fed to softmax or sigmoid (keras.activations.softmax).
            logits = {f"{n}/logits": t._keras_logits for n, t in outputs.items() if hasattr(t, "_keras_logits")}
            names[:] = [*outputs, *logits]
            return [*outputs.values(), *logits.values()]

        signature = [tf.TensorSpec(t.shape, t.dtype) for t in model.inputs]
        traced = tf.function(forward, input_signature=signature, autograph=False)
        traced.get_concrete_function()
        return traced


@contextmanager
def _batch_statistics(*, enabled: bool) -> Iterator[None]:
    """While open, BatchNormalization layers run in training mode; frozen ones do not, as in Keras itself."""
    from keras.layers import BatchNormalization

    original = BatchNormalization.call

    def call(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ARG001 - Keras' signature
        return original(layer, inputs, training=True, mask=mask)

    if enabled:
        BatchNormalization.call = call
    try:
        yield
    finally:
        BatchNormalization.call = original
