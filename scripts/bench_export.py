"""Exporters: seconds from the model in memory to the written ONNX file, and how exact that file is; and whole processes (see bench.py).

A whole process is what a user starts: `bnexport export FILE -o OUT`, and a script that imports what it needs, loads the
same file and calls `tf2onnx.convert.from_keras`. Importing TensorFlow and loading the model are in both.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETS = [
    "ResNet50",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "DenseNet121",
    "InceptionV3",
    "Xception",
    "ResNet50V2",
    "InceptionResNetV2",
    "NASNetMobile",
]


def measure_export(name: str) -> dict[str, Any]:
    """One net, three exporters, in this process."""
    from bnexport.exporter import tf2onnx_convert
    from bnexport.frameworks import keras_model

    keras_model.load_framework()
    tf2onnx_convert.load_framework()
    import keras
    import numpy as np
    import onnx
    import onnxruntime as ort
    import tensorflow as tf
    import tf2onnx

    from bnexport.exporter.conversion import graph_of
    from bnexport.onnx_graph.protobuf import serialise
    from bnexport.system.files import Format, write_bytes

    def ours(model: Any, path: Path) -> None:
        loaded = keras_model.describe(model, Path("net.keras"), Format.KERAS, "0" * 64)
        write_bytes(path, serialise(graph_of(loaded, None)))

    def from_keras(model: Any, path: Path) -> None:
        spec = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
        tf2onnx.convert.from_keras(model, input_signature=spec, output_path=str(path))

    def keras_own(model: Any, path: Path) -> None:
        model.export(path, format="onnx", verbose=False)

    exporters: dict[str, Callable[[Any, Path], None]] = {
        "bnexport": ours,
        "from_keras": from_keras,
        "model.export": keras_own,
    }
    tiny_input = keras.Input((4,))
    tiny = keras.Model(tiny_input, keras.layers.Dense(2)(tiny_input))
    net = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    rng = np.random.default_rng(0)
    for layer in net._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    x = rng.random((2, *(side or 224 for side in net.input_shape[1:])), dtype=np.float32)
    reference = net(x, training=False).numpy()
    result: dict[str, Any] = {"net": name}
    with tempfile.TemporaryDirectory() as folder:
        for exporter, export in exporters.items():
            export(tiny, Path(folder, "tiny.onnx"))  # each one's first-time costs are not what is compared
            path = Path(folder, f"{exporter}.onnx")
            begun = time.perf_counter()
            export(net, path)
            seconds = time.perf_counter() - begun
            left = sum(node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node)
            result[exporter] = {"seconds": seconds, "batch_normalization": left}
            session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
            try:
                actual = session.run(None, {session.get_inputs()[0].name: x})[0]
            except Exception as error:  # noqa: BLE001 - a file that does not run is a result
                result[exporter]["broken"] = str(error).splitlines()[0][:200]
            else:
                result[exporter]["max_rel"] = float(np.abs(actual - reference).max() / np.abs(reference).max())
    return result


def in_own_process(name: str) -> dict[str, Any]:
    """The measurement of one net, in a fresh process; its last line of output is the result."""
    done = subprocess.run([sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


SCRIPT = """
import sys, keras, tensorflow as tf, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
spec = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
tf2onnx.convert.from_keras(model, input_signature=spec, output_path=sys.argv[2])
"""
SAVE = """
import sys, keras
getattr(keras.applications, sys.argv[1])(weights=None, classifier_activation=None).save(sys.argv[2])
"""


def measure_processes(name: str) -> dict[str, float]:
    """Seconds of the two whole processes for one net, started one after the other from the same file."""
    with tempfile.TemporaryDirectory() as folder:
        model, out = str(Path(folder, "net.keras")), str(Path(folder, "net.onnx"))
        commands = {
            "bnexport": [str(Path(sys.executable).with_name("bnexport")), "export", model, "-o", out, "-q"],
            "from_keras": [sys.executable, "-c", SCRIPT, model, out],
        }
        subprocess.run([sys.executable, "-c", SAVE, name, model], check=True, capture_output=True)
        seconds = {}
        for exporter, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[exporter] = time.perf_counter() - begun
            Path(out).unlink()
    return seconds


def run(nets: list[str]) -> dict[str, Any]:
    """Prints the table of exporters net by net, and returns it."""
    print(
        f"{'net':18} {'bnexport':>9} {'from_keras':>11} {'ratio':>6} {'model.export':>13} {'ratio':>6}   BN nodes left   largest relative difference to Keras"
    )
    rows, ratios, wholes = [], [], []
    for name in nets:
        row = in_own_process(name)
        ours, theirs, keras_own = (row[key] for key in ("bnexport", "from_keras", "model.export"))

        def cell(entry: dict[str, Any], key: str, form: str) -> str:
            return form.format(entry[key]) if key in entry else "broken"

        def ratio(entry: dict[str, Any], own: dict[str, Any] = ours) -> str:
            return f"{entry['seconds'] / own['seconds']:.1f}"

        ratios.append(theirs["seconds"] / ours["seconds"])
        entries = (ours, theirs, keras_own)
        seconds = [cell(entry, "seconds", "{:.2f} s") for entry in entries]
        left = "/".join(cell(entry, "batch_normalization", "{}") for entry in entries)
        far = "  ".join(cell(entry, "max_rel", "{:.1e}") for entry in entries)
        print(
            f"{name:18} {seconds[0]:>9} {seconds[1]:>11} {ratio(theirs):>6} {seconds[2]:>13} {ratio(keras_own):>6}   {left:15} {far}",
            flush=True,
        )
        row["whole_process"] = whole = measure_processes(name)
        wholes.append(whole["from_keras"] / whole["bnexport"])
        print(
            f"{'  whole process':18} {whole['bnexport']:>7.2f} s {whole['from_keras']:>9.2f} s {wholes[-1]:>6.1f}",
            flush=True,
        )
        rows.append(row)
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean of from_keras / bnexport over {len(ratios)} nets: {mean:.1f}")
    whole_mean = math.exp(sum(map(math.log, wholes)) / len(wholes))
    print(f"geometric mean of the whole processes: {whole_mean:.1f}")
    return {"nets": rows, "geometric_mean_ratio": mean, "geometric_mean_ratio_whole_process": whole_mean}


if __name__ == "__main__":
    print(json.dumps(measure_export(sys.argv[1])))
