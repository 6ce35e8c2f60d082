"""The process in which Keras 2 runs (tensorflow and tf_keras): `bnexport.frameworks.keras.keras2` starts it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexport.errors import UsageError
from bnexport.frameworks.keras.custom_modules import import_module
from bnexport.system.child_server import Compute, serve

if TYPE_CHECKING:
    import tf_keras

    from bnexport.types import Array


def main(path: str, trust: str, *modules: str) -> None:
    """Serves the model in a file.

    Args:
        path: an .h5 or .keras file that was inspected.
        trust: "trust" to run code of the file's own; anything else refuses it.
        modules: those that register classes with Keras.
    """

    def open_model() -> tuple[Mapping[str, object], Compute]:
        import tf_keras

        known = len(tf_keras.saving.get_custom_objects())
        for module in modules:
            import_module(module)
        try:
            model = tf_keras.models.load_model(path, compile=False, safe_mode=trust != "trust")
        except Exception as error:
            if not modules or len(tf_keras.saving.get_custom_objects()) > known:
                raise
            raise UsageError(
                f"{', '.join(modules)} registers no class with Keras 2, which cannot read the model without them",
                fix="write from tensorflow import keras in the module: this is Keras 2 where Keras 2 runs",
            ) from error
        return _describe(model), lambda arrays, _: _compute(model, arrays)

    serve(open_model)


def _describe(model: tf_keras.Model) -> dict[str, object]:
    if not getattr(model, "inputs", None):
        raise ValueError("the inputs of the model are not recorded in the file")
    return {
        "inputs": [(t.name, list(t.shape), t.dtype.name) for t in model.inputs],
        "outputs": [
            (name, list(t.shape), t.dtype.name) for name, t in zip(model.output_names, model.outputs, strict=True)
        ],
        "parameters": int(model.count_params()),
    }


def _compute(model: tf_keras.Model, arrays: Sequence[Array]) -> dict[str, Any]:
    import tensorflow as tf

    given = [tf.constant(x, dtype=t.dtype) for x, t in zip(arrays, model.inputs, strict=True)]
    outputs = tf.nest.flatten(model(given[0] if len(given) == 1 else given, training=False))
    named = dict(zip(model.output_names, outputs, strict=True))
    # As in Keras 3: what was fed to softmax or sigmoid (tf_keras.activations.softmax).
    logits = {f"{name}/logits": t._keras_logits for name, t in named.items() if hasattr(t, "_keras_logits")}
    return {name: np.asarray(value) for name, value in {**named, **logits}.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
