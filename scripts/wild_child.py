"""One attempt on one model in a child process, for scripts/wild.py: plain Keras 3, two exporters, tf_keras, bnexport's own loader.

    python -P scripts/wild_child.py keras|from_keras|model_export|keras2|load MODEL ARRAYS.npz FOLDER [EXPORT.onnx]

Prints one line of JSON: {"ok": true, "difference": of the outputs relative to their size, or null} or {"ok": false, "error": "..."}.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


def fed(arrays: Arrays, names: Sequence[str], dtypes: Sequence[str]) -> list[Any]:
    """The arrays in the order of a model's inputs, in their dtypes."""
    ordered = list(arrays.values()) if len(arrays) == 1 else [arrays[name] for name in names]
    return [x if dtype == "string" else x.astype(dtype) for x, dtype in zip(ordered, dtypes, strict=True)]


def compute(model: Any, arrays: Arrays, flatten: Callable[[Any], list[Any]]) -> list[np.ndarray[Any, Any]]:
    """The outputs of a model of Keras 2 or 3 in inference mode."""
    given = fed(arrays, [t.name.split(":")[0] for t in model.inputs], [dtype_name(t.dtype) for t in model.inputs])
    outputs = model(given[0] if len(given) == 1 else given, training=False)
    return [np.asarray(value) for value in flatten(outputs)]


def dtype_name(dtype: Any) -> str:
    """The name of a dtype, which is a string in Keras 3 and an object in TensorFlow."""
    return dtype if isinstance(dtype, str) else dtype.name


def by_onnx(path: Path, arrays: Arrays) -> list[np.ndarray[Any, Any]]:
    """The outputs of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    kinds = {
        "tensor(float)": "float32",
        "tensor(double)": "float64",
        "tensor(int32)": "int32",
        "tensor(int64)": "int64",
    }
    given = fed(arrays, [i.name for i in inputs], [kinds.get(i.type, "string") for i in inputs])
    count = len(session.get_outputs())
    found = session.run(None, {i.name: x for i, x in zip(inputs, given, strict=True)})
    return list(found[:count])


def sizes(path: Path) -> list[float]:
    """The least size of each output of an ONNX file: 1 for what ends in softmax or sigmoid, else 0."""
    import onnx

    from bnexport.onnx_graph import outputs

    model = onnx.load(path)
    squashed = outputs.squashing_functions(model)
    return [1.0 if info.name in squashed else 0.0 for info in model.graph.output]


def difference(actual: Sequence[Any], reference: Sequence[Any], least: Sequence[float]) -> float:
    """The largest difference of all outputs, each relative to its reference's size; infinite for other shapes.

    The size is the largest value, and at least 1 for probabilities, which are exact to so much only.
    """
    worst = 0.0
    if len(actual) != len(reference):
        return float("inf")
    for one, other, smallest in zip(actual, reference, least, strict=True):
        if one.shape != other.shape:
            return float("inf")
        wide = other.astype(np.float64)
        distance = float(np.abs(one.astype(np.float64) - wide).max(initial=0.0))
        size = max(float(np.abs(wide).max(initial=0.0)), smallest)
        worst = max(worst, distance / size if size else distance)
    return worst


def load_keras(path: Path) -> Any:
    """The model by plain Keras 3, without code of the file's own."""
    import keras

    return keras.models.load_model(path, compile=False, safe_mode=True)


def keras(path: Path, arrays: Arrays, folder: Path) -> float | None:
    """Whether plain Keras 3 loads the file."""
    del arrays, folder
    load_keras(path)
    return None


def from_keras(path: Path, arrays: Arrays, folder: Path) -> float | None:
    """Whether tf2onnx exports what plain Keras loads."""
    import keras as framework
    import onnx
    import tf2onnx

    model = load_keras(path)
    exported, _ = tf2onnx.convert.from_keras(model)
    onnx.save(exported, folder / "out.onnx")
    if not arrays:
        return None
    return difference(
        by_onnx(folder / "out.onnx", arrays), compute(model, arrays, framework.tree.flatten), sizes(folder / "out.onnx")
    )


def model_export(path: Path, arrays: Arrays, folder: Path) -> float | None:
    """Whether Keras itself exports what it loads."""
    import keras as framework

    model = load_keras(path)
    outputs = compute(model, arrays, framework.tree.flatten) if arrays else []  # a model of an .h5 file wants a call
    model.export(folder / "out.onnx", format="onnx", verbose=False)
    return difference(by_onnx(folder / "out.onnx", arrays), outputs, sizes(folder / "out.onnx")) if arrays else None


def keras2(path: Path, arrays: Arrays, folder: Path, exported: Path) -> float | None:
    """How far bnexport's export is from what the file computes in Keras 2."""
    del folder
    from bnexport.frameworks.keras import keras2 as witness
    from bnexport.system import files

    model = witness.Model(path, files.sha256(path))  # which inspects the file before tf_keras sees it
    names, _, dtypes = zip(*model.interface.inputs, strict=True)
    found = model.run(fed(arrays, names, dtypes))
    return difference(by_onnx(exported, arrays), [found[name] for name, *_ in model.interface.outputs], sizes(exported))


def load(path: Path, arrays: Arrays, folder: Path) -> float | None:
    """Whether bnexport reads the file, whatever becomes of it then."""
    del arrays, folder
    from bnexport.comparison.subject import read_onnx
    from bnexport.frameworks.keras import model as keras_model
    from bnexport.frameworks.saved_model import model as saved_model
    from bnexport.system import files

    match files.model_format(path):
        case files.Format.ONNX:
            read_onnx(path)
        case files.Format.SAVED_MODEL:
            saved_model.load(path)
        case _:
            keras_model.load(path)
    return None


ATTEMPTS: dict[str, Callable[..., float | None]] = {
    "keras": keras,
    "from_keras": from_keras,
    "model_export": model_export,
    "keras2": keras2,
    "load": load,
}


def main(attempt: str, model: str, arrays: str, folder: str, *exported: str) -> None:
    """Makes one attempt, and prints what came of it."""
    warnings.simplefilter("ignore")
    try:
        given = dict(np.load(arrays, allow_pickle=False)) if Path(arrays).exists() else {}
        given.pop("labels", None)
        result = ATTEMPTS[attempt](Path(model), given, Path(folder), *(Path(path) for path in exported))
    except Exception as error:  # noqa: BLE001 - whatever a library says of the file is the answer
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        print("\n" + json.dumps({"ok": False, "error": f"{type(error).__name__}: {line[:300]}"}))
        return
    print("\n" + json.dumps({"ok": True, "difference": result}))


if __name__ == "__main__":
    main(*sys.argv[1:])
