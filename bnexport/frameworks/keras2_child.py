"""The process in which Keras 2 runs (tensorflow and tf_keras): `bnexport.frameworks.keras2` starts it, and sends it files of arrays.

It loads the model, writes one line of JSON about it to stdout, and then answers each line of stdin, a pair of paths, with a line: the
arrays in the first file were run, and the outputs are in the second. It ends with its stdin.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tf_keras

    from bnexport.types import Array


def main(path: str, trust: str) -> None:
    """Serves the model in a file.

    Args:
        path: an .h5 or .keras file that was inspected.
        trust: "trust" to run code of the file's own; anything else refuses it.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    _limit()
    warnings.simplefilter("ignore")

    def answer(values: Mapping[str, object]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        import tf_keras

        model = tf_keras.models.load_model(path, compile=False, safe_mode=trust != "trust")
        answer(_describe(model))
    except Exception as error:  # noqa: BLE001 - whatever Keras says of the file is the answer
        answer({"error": _reason(error)})
        return
    for line in sys.stdin:
        given, out = json.loads(line)
        try:
            with np.load(given, allow_pickle=False) as file:
                arrays = [file[str(number)] for number in range(len(file.files))]
            np.savez(out, **_compute(model, arrays))
            answer({})
        except Exception as error:  # noqa: BLE001 - as above
            answer({"error": _reason(error)})


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows has none
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, least))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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


def _reason(error: Exception) -> str:
    text = str(error).rsplit("Exception encountered:", maxsplit=1)[-1]
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line[:200]


if __name__ == "__main__":
    main(*sys.argv[1:])
