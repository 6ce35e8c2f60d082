"""The process in which a Keras model is converted to .tflite (tensorflow; keras, through `keras.reference`): `frameworks.keras.tflite` starts it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnexport.errors import BnexportError, reason
from bnexport.frameworks.keras.custom_modules import import_modules
from bnexport.frameworks.keras.reference import Keras
from bnexport.frameworks.protocols import Want
from bnexport.system.child_server import Compute, serve


def convert(path: Path, want: Want, target: Path) -> Mapping[str, object]:
    """Writes the model in a file as .tflite, as TFLiteConverter does by default, and says with which version.

    A model that is refused with an open batch axis, as recurrent ones are, is converted with a batch size of 1 if it is taken so.

    Returns:
        The version; where the converter refuses the model also why, and the operators that it names.
    """
    model = Keras().load(path, want).loaded.keras
    import tensorflow as tf

    content, error = convert_model(model)
    if error is not None:
        content, still = convert_model(model, fixed=True)
        if still is not None:
            refused, operators = main_sentence(error), operators_named(str(error))
            return {"version": tf.__version__, "refused": refused, "operators": operators}
    target.write_bytes(content)
    return {"version": tf.__version__, "refused": ""}


def convert_model(model: Any, *, fixed: bool = False) -> tuple[bytes, Exception | None]:
    """The .tflite file that the converter makes of a Keras model, or what it raises; with `fixed` of the model with a batch size of 1."""
    import keras
    import tensorflow as tf

    try:
        if fixed:
            inputs = [keras.Input(batch_shape=(1, *x.shape[1:]), dtype=x.dtype, name=x.name) for x in model.inputs]
            model = keras.Model(inputs, model(inputs if len(inputs) > 1 else inputs[0]))
        return tf.lite.TFLiteConverter.from_keras_model(model).convert(), None
    except (BnexportError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - of many classes: the converter's own, MLIR's, those of layers that it traces
        return b"", error


def operators_named(text: str) -> list[str]:
    """The operators of TensorFlow that the converter's text says TFLite lacks."""
    lists = re.findall(r"^(?:Custom|Flex) ops: (.+)$", text, re.MULTILINE)
    names = [name.strip() for each in lists for name in each.split(",")]
    return sorted({name.removeprefix("Flex") for name in names if name})


def main_sentence(error: Exception) -> str:
    """The line of the converter's text that says what is wrong."""
    lines = [re.sub(r"^<unknown>:0: error: ", "", line.strip()) for line in str(error).splitlines()]
    about_operators = [line for line in lines if "op is neither" in line or line.startswith("Some ops")]
    line = next(iter(about_operators), "") or reason(error)
    return line.rsplit("): ", 1)[-1][:200]


def main(path: str, trust: str, architecture: str, target: str, *modules: str) -> None:
    """Converts the model in a file.

    Args:
        path: a Keras file.
        trust: "trust" to run code of the file's own; anything else refuses it.
        architecture: of a file that has weights only.
        target: the file that is written.
        modules: those that register classes with Keras.
    """

    def open_model() -> tuple[Mapping[str, object], Compute]:
        if modules:
            import_modules(modules, trust=trust == "trust")
        want = Want(trust=trust == "trust", architecture=architecture)
        return convert(Path(path), want, Path(target)), lambda _arrays, _question: {}

    serve(open_model)


if __name__ == "__main__":
    main(*sys.argv[1:])
