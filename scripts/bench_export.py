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

EXPORTERS = ("bnexport", "from_keras", "model.export")

FROM_KERAS = """
import sys, keras, tensorflow as tf, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
spec = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
tf2onnx.convert.from_keras(model, input_signature=spec, output_path=sys.argv[2])
"""
MODEL_EXPORT = """
import sys, keras
model = keras.models.load_model(sys.argv[1], compile=False)
model(keras.ops.zeros([1, *(side or 224 for side in model.input_shape[1:])]))  # Keras exports no model that was never called
model.export(sys.argv[2], format="onnx", verbose=False)
"""
TRACED = """
import sys, onnx
from pathlib import Path
from bnexport.exporter.conversion import graph_of
from bnexport.frameworks.keras import model as keras_model
onnx.save(graph_of(keras_model.load(Path(sys.argv[1])), None), sys.argv[2])
"""
"""The graph that bnexport traces where a model has a layer of a class of its own."""

MODULES = """
import sys
from bnexport.cli import main
sys.argv = ["bnexport", "export", sys.argv[1], "-o", sys.argv[2], "-q"]
try:
    main()
finally:
    print("tensorflow" in sys.modules, file=sys.__stdout__, flush=True)  # after everything else
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


def run_process(command: Sequence[str]) -> dict[str, Any]:
    """Seconds, peak memory in bytes, exit code, and the end of the output of a whole process.

    It is started by a process without packages: the system counts the memory that a process has when it starts another.
    """
    child = subprocess.run([sys.executable, __file__, "time", *command], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(child.stdout))


def time_process(command: Sequence[str]) -> dict[str, Any]:
    """As `run_process`, as a child of this process."""
    with tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        output = child.stdout.read() if child.stdout else ""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            output = errors.read()
    last = (output.strip().splitlines() or [""])[-1]
    return {"seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024, "exit_code": child.returncode, "last_line": last}


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
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        feeds = {session.get_inputs()[0].name: recorded["x"]}
        actual = session.run(None, feeds)[0]
    except Exception as error:  # noqa: BLE001 - a file that does not run is a result
        return result | {"broken": str(error).splitlines()[0][:200]}
    result["max_rel"] = float(np.abs(actual - recorded["y"]).max() / np.abs(recorded["y"]).max())
    return result


def time_runs(files: dict[str, Path], arrays: Path) -> dict[str, float]:
    """Seconds of a batch of 2 in onnxruntime with its default optimisations: the shortest of 15, the files taking turns."""
    import numpy as np
    import onnxruntime as ort

    x = np.load(arrays)["x"]
    sessions = {name: ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for name, path in files.items()}
    seconds = dict.fromkeys(sessions, math.inf)
    for _ in range(15):
        for name, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: x})
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    return seconds


def measure_processes(name: str, folder: Path, *, everything: bool) -> dict[str, Any]:
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
        entry = run_process([*command, str(out)])
        if entry["exit_code"]:
            entry["broken"] = entry["last_line"]
        else:
            entry |= describe_file(out, model.with_suffix(".npz"))
        result[exporter] = entry
    graphs = [*EXPORTERS]
    if everything:
        traced = folder / "traced.onnx"
        run_process([sys.executable, "-c", TRACED, str(model), str(traced)])
        result["traced"] = describe_file(traced, model.with_suffix(".npz"))
        graphs.append("traced")
    works = {name: folder / f"{name}.onnx" for name in graphs if "broken" not in result[name]}
    for name, seconds in time_runs(works, model.with_suffix(".npz")).items():
        result[name]["run_seconds"] = seconds
    modules = run_process([sys.executable, "-c", MODULES, str(model), str(folder / "again.onnx")])
    result["imports_tensorflow"] = modules["last_line"] == "True"
    return result


def measure_in_memory(model: Path) -> dict[str, Any]:
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
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny_input = keras.Input((4,))
        tiny = keras.Model(tiny_input, keras.layers.Dense(2)(tiny_input))
        tiny.save(Path(folder, "tiny.keras"))
        net = keras.models.load_model(model, compile=False)
        for called in (tiny, net):  # Keras exports no model that was never called
            called(keras.ops.zeros([1, *(side or 224 for side in called.input_shape[1:])]))
        for exporter, write in exporters.items():
            write(tiny, Path(folder, "tiny.keras"), Path(folder, "tiny.onnx"))
            begun = time.perf_counter()
            try:
                write(net, model, Path(folder, "net.onnx"))
            except Exception as error:  # noqa: BLE001 - an exporter that fails is a result
                result[exporter] = {"broken": str(error)[:200]}
            else:
                result[exporter] = {"seconds": time.perf_counter() - begun}
    return result


def mean_of(ratios: Sequence[float]) -> float:
    """The geometric mean; NaN of nothing."""
    return math.nan if not ratios else math.exp(sum(map(math.log, ratios)) / len(ratios))


def ratio(row: dict[str, Any], exporter: str, quantity: str) -> float | None:
    """How many times bnexport's figure another exporter's is; None where it has none."""
    if "broken" in row[exporter] or quantity not in row[exporter]:
        return None
    return float(row[exporter][quantity] / row["bnexport"][quantity])


def spell(value: float | None, form: str) -> str:
    """A figure of a table, or that there is none."""
    return "broken" if value is None else format(value, form)


def run(nets: list[str], *, everything: bool) -> dict[str, Any]:
    """Prints the tables net by net, and returns them; without `everything` only the first one, and nothing is traced."""
    others = EXPORTERS[1:]
    print(
        f"{'whole process':18} {'bnexport':>9} {'from_keras':>11} {'ratio':>6} {'model.export':>13} {'ratio':>6}  peak/file"
        "  nodes                BN nodes left  largest relative difference to Keras        run time of from_keras, model.export and traced over bnexport's"
    )
    rows: list[dict[str, Any]] = []
    for name in nets:
        with tempfile.TemporaryDirectory() as folder:
            row = measure_processes(name, Path(folder), everything=everything)
            inside = everything and run_process([sys.executable, __file__, "memory", str(Path(folder, "net.keras"))])
            if inside:
                if inside["exit_code"]:
                    raise SystemExit(f"the exporters in memory: {inside['last_line']}")
                row["in_memory"] = json.loads(inside["last_line"])
        entries = [row[exporter] for exporter in EXPORTERS]
        row["ratios"] = {exporter: ratio(row, exporter, "seconds") for exporter in others}
        row["run_ratios"] = {name: ratio(row, name, "run_seconds") for name in (*others, "traced") if name in row}
        times = [f"{entry['seconds']:.2f} s" for entry in entries]
        nodes = "/".join(str(entry.get("nodes", "-")) for entry in [*entries, row.get("traced", {})])
        left = "/".join(str(entry.get("batch_normalization", "-")) for entry in entries)
        far = "  ".join(spell(entry.get("max_rel"), ".1e") for entry in entries)
        ratios = [spell(row["ratios"][exporter], ".1f") for exporter in others]
        runs = " ".join(spell(value, ".2f") for value in row["run_ratios"].values())
        print(
            f"{name:18} {times[0]:>9} {times[1]:>11} {ratios[0]:>6} {times[2]:>13} {ratios[1]:>6}"
            f"  {row['bnexport']['peak_bytes'] / row['bytes']:>9.1f}  {nodes:19}  {left:13}  {far:42}  {runs}"
            f"{'  imports TensorFlow' if row['imports_tensorflow'] else ''}",
            flush=True,
        )
        rows.append(row)
    means = {e: mean_of([row["ratios"][e] for row in rows if row["ratios"][e] is not None]) for e in others}
    print(
        f"geometric means over {len(rows)} nets: from_keras {means[others[0]]:.1f}, model.export {means[others[1]]:.1f}"
    )
    if not everything:
        return {"nets": rows, "geometric_means": means}
    print(f"\n{'in memory':18} {'bnexport':>9} {'from_keras':>11} {'ratio':>6} {'model.export':>13} {'ratio':>6}")
    in_memory: dict[str, list[float]] = {exporter: [] for exporter in others}
    for row in rows:
        inside = row["in_memory"]
        cells = [f"{inside['bnexport']['seconds']:>7.2f} s"]
        for exporter, width in zip(others, (9, 11), strict=True):
            value = ratio(inside, exporter, "seconds")
            cells += [f"{spell(inside[exporter].get('seconds'), '.2f'):>{width}} s", f"{spell(value, '.1f'):>6}"]
            in_memory[exporter] += [] if value is None else [value]
        print(f"{row['net']:18} {' '.join(cells)}")
    inside_means = {exporter: mean_of(values) for exporter, values in in_memory.items()}
    print(f"geometric means: from_keras {inside_means[others[0]]:.1f}, model.export {inside_means[others[1]]:.1f}")
    return {"nets": rows, "geometric_means": means, "geometric_means_in_memory": inside_means}


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save_net(sys.argv[2], Path(sys.argv[3]))
    elif sys.argv[1] == "time":
        print(json.dumps(time_process(sys.argv[2:])))
    else:
        print(json.dumps(measure_in_memory(Path(sys.argv[2]))))
