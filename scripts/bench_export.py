"""Exporters as whole processes, which a user starts, and in memory; and how exact the files are (see bench.py).

A whole process reads a .keras file and writes an ONNX file: `bnexport export FILE -o OUT`, a script that loads the file and calls
`tf2onnx.convert.from_keras`, and one that loads it and calls `model.export(format="onnx")`. In memory, what is imported before and
what was loaded before does not count: bnexport reads the file again, the others have the model.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NETS = [
    "ResNet50",
    "ResNet50V2",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "DenseNet121",
    "InceptionV3",
    "InceptionResNetV2",
    "Xception",
    "NASNetMobile",
    "ConvNeXtTiny",
]

FROM_KERAS = """
import sys, keras, tensorflow as tf, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
spec = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
tf2onnx.convert.from_keras(model, input_signature=spec, output_path=sys.argv[2])
"""
MODEL_EXPORT = """
import sys, keras
model = keras.models.load_model(sys.argv[1], compile=False)
model(keras.ops.zeros([1, *model.input_shape[1:]]))  # Keras exports no model that was never called
model.export(sys.argv[2], format="onnx", verbose=False)
"""
MODULES = """
import sys
from bnexport.cli import main
sys.argv = ["bnexport", "export", sys.argv[1], "-o", sys.argv[2], "-q"]
try:
    main()
finally:
    print("tensorflow" in sys.modules, file=sys.__stdout__, flush=True)
"""
"""`bnexport export`, and whether TensorFlow was imported."""


def save_net(name: str, path: Path) -> None:
    """A net with random weights and random moving statistics, so that a mistake in either would show; and what Keras answers."""
    import keras
    import numpy as np

    net = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    rng = np.random.default_rng(0)
    for layer in net._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    net.save(path)
    x = rng.random((2, *(side or 224 for side in net.input_shape[1:])), dtype=np.float32)
    np.savez(path.with_suffix(".npz"), x=x, y=net(x, training=False).numpy())


def run_process(command: Sequence[str]) -> tuple[float, int, str]:
    """Seconds, peak memory in bytes and output of a whole process."""
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[:3]} ended with {child.returncode}")
    return seconds, usage.ru_maxrss * 1024, output


def describe_file(path: Path, arrays: Path) -> dict[str, Any]:
    """How many nodes an ONNX file has, how many of them are BatchNormalization, and how far its answers are from Keras'."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    nodes = onnx.load(path).graph.node
    result: dict[str, Any] = {
        "nodes": len(nodes),
        "batch_normalization": sum(node.op_type == "BatchNormalization" for node in nodes),
    }
    recorded = np.load(arrays)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: recorded["x"]}
    try:
        actual = session.run(None, feeds)[0]
    except Exception as error:  # noqa: BLE001 - a file that does not run is a result
        return result | {"broken": str(error).splitlines()[0][:200]}
    result["max_rel"] = float(np.abs(actual - recorded["y"]).max() / np.abs(recorded["y"]).max())
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - begun)
    return result | {"run_seconds": sorted(times)[2]}


def measure_processes(name: str, folder: Path) -> dict[str, Any]:
    """The whole processes for one net, started one after the other from the same file."""
    model = folder / "net.keras"
    subprocess.run([sys.executable, __file__, "save", name, str(model)], check=True, capture_output=True)
    commands = {
        "bnexport": [str(Path(sys.executable).with_name("bnexport")), "export", str(model), "-q", "-o"],
        "from_keras": [sys.executable, "-c", FROM_KERAS, str(model)],
        "model.export": [sys.executable, "-c", MODEL_EXPORT, str(model)],
    }
    result: dict[str, Any] = {"net": name, "bytes": model.stat().st_size}
    for exporter, command in commands.items():
        out = folder / f"{exporter}.onnx"
        seconds, peak, _ = run_process([*command, str(out)])
        result[exporter] = {"seconds": seconds, "peak_bytes": peak} | describe_file(out, model.with_suffix(".npz"))
    _, _, output = run_process([sys.executable, "-c", MODULES, str(model), str(folder / "again.onnx")])
    result["imports_tensorflow"] = output.split()[-1] == "True"
    return result


def measure_in_memory(model: Path) -> dict[str, float]:
    """Seconds of the exporters in this process; each exports a tiny model first, whose costs are not what is compared."""
    import keras
    import tensorflow as tf
    import tf2onnx

    from bnexport import export

    def from_keras(net: Any, _: Path, out: Path) -> None:
        spec = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in net.inputs]
        tf2onnx.convert.from_keras(net, input_signature=spec, output_path=str(out))

    exporters: dict[str, Callable[[Any, Path, Path], object]] = {
        "bnexport": lambda _, path, out: export(path, out),
        "from_keras": from_keras,
        "model.export": lambda net, _, out: net.export(out, format="onnx", verbose=False),
    }
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny_input = keras.Input((4,))
        tiny = keras.Model(tiny_input, keras.layers.Dense(2)(tiny_input))
        tiny.save(Path(folder, "tiny.keras"))
        net = keras.models.load_model(model, compile=False)
        for called in (tiny, net):  # Keras exports no model that was never called
            called(keras.ops.zeros([1, *called.input_shape[1:]]))
        for exporter, exported in exporters.items():
            exported(tiny, Path(folder, "tiny.keras"), Path(folder, "tiny.onnx"))
            begun = time.perf_counter()
            exported(net, model, Path(folder, "net.onnx"))
            seconds[exporter] = time.perf_counter() - begun
    return seconds


def mean_of(ratios: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def run(nets: list[str]) -> dict[str, Any]:
    """Prints the two tables net by net, and returns them."""
    columns = ("bnexport", "from_keras", "model.export")
    print(
        f"{'whole process':18} {columns[0]:>9} {columns[1]:>11} {'ratio':>6} {columns[2]:>13} {'ratio':>6}  peak/file"
        "  nodes            BN nodes left  largest relative difference to Keras"
    )
    rows: list[dict[str, Any]] = []
    for name in nets:
        with tempfile.TemporaryDirectory() as folder:
            row = measure_processes(name, Path(folder))
            entries = [row[column] for column in columns]
            done = subprocess.run(
                [sys.executable, __file__, "memory", str(Path(folder, "net.keras"))],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            )
            row["in_memory"] = json.loads(done.stdout.strip().splitlines()[-1])
        row["ratios"] = {c: row[c]["seconds"] / row["bnexport"]["seconds"] for c in columns[1:]}
        times = [f"{entry['seconds']:.2f} s" for entry in entries]
        nodes = "/".join(str(entry["nodes"]) for entry in entries)
        left = "/".join(str(entry["batch_normalization"]) for entry in entries)
        far = "  ".join(f"{entry['max_rel']:.1e}" if "max_rel" in entry else "broken" for entry in entries)
        print(
            f"{name:18} {times[0]:>9} {times[1]:>11} {row['ratios'][columns[1]]:>6.1f} {times[2]:>13} {row['ratios'][columns[2]]:>6.1f}"
            f"  {row['bnexport']['peak_bytes'] / row['bytes']:>9.1f}  {nodes:15}  {left:13}  {far}"
            f"{'  imports TensorFlow' if row['imports_tensorflow'] else ''}",
            flush=True,
        )
        rows.append(row)
    means = {c: mean_of([row["ratios"][c] for row in rows]) for c in columns[1:]}
    print(
        f"geometric means over {len(rows)} nets: from_keras {means[columns[1]]:.1f}, model.export {means[columns[2]]:.1f}"
    )
    print(f"\n{'in memory':18} {columns[0]:>9} {columns[1]:>11} {'ratio':>6} {columns[2]:>13} {'ratio':>6}")
    for row in rows:
        inside = row["in_memory"]
        print(
            f"{row['net']:18} {inside[columns[0]]:>7.2f} s {inside[columns[1]]:>9.2f} s {inside[columns[1]] / inside[columns[0]]:>6.1f}"
            f" {inside[columns[2]]:>11.2f} s {inside[columns[2]] / inside[columns[0]]:>6.1f}"
        )
    in_memory = {c: mean_of([row["in_memory"][c] / row["in_memory"]["bnexport"] for row in rows]) for c in columns[1:]}
    print(f"geometric means: from_keras {in_memory[columns[1]]:.1f}, model.export {in_memory[columns[2]]:.1f}")
    return {"nets": rows, "geometric_means": means, "geometric_means_in_memory": in_memory}


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save_net(sys.argv[2], Path(sys.argv[3]))
    else:
        print(json.dumps(measure_in_memory(Path(sys.argv[2]))))
