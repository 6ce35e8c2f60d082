"""Folding: which patterns each tool folds, on the graphs of tests/unit/fold_graphs.py, and whether what comes out is right (see bench.py).

F: nothing of the BatchNormalization (or of the Mul and Add pair) is left as a node of its own. part: fewer nodes than before. -: nothing was folded.
WRONG: by the reference evaluator the result is off by more than 1e-5 from the original in float64. x: the tool failed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.unit.fold_graphs import TABLE, in_float64, model, ungrouped

ELEMENTWISE = {"BatchNormalization", "Mul", "Add", "Sub", "Div"}
Tool = Callable[[onnx.ModelProto], onnx.ModelProto]


def tools() -> tuple[dict[str, Tool], list[str]]:
    """The tools that are installed, and what is missing."""
    found: dict[str, Tool] = {"bnexport": ours, "onnxruntime": onnxruntime_extended}
    missing = []
    for name, tool in (
        ("onnxoptimizer", optimizer),
        ("onnxsim", simplifier),
        ("onnxslim", slimmer),
        ("onnxscript", script),
    ):
        try:
            __import__(name)
        except ImportError:
            missing.append(f"without {name}: no column for it")
        else:
            found[name] = tool
    return found, missing


def ours(original: onnx.ModelProto) -> onnx.ModelProto:
    """The folding of `bnexport fold`."""
    from bnexport.folding.transform import fold

    return fold(original).model


def onnxruntime_extended(original: onnx.ModelProto) -> onnx.ModelProto:
    """The graph that onnxruntime runs after its extended optimisations (the layouts of the last level are another matter)."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder, "o.onnx"))
        options.log_severity_level = 4
        ort.InferenceSession(original.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def optimizer(original: onnx.ModelProto) -> onnx.ModelProto:
    """Onnxoptimizer with its fuse and elimination passes."""
    import onnxoptimizer

    return onnxoptimizer.optimize(original, onnxoptimizer.get_fuse_and_elimination_passes())


def simplifier(original: onnx.ModelProto) -> onnx.ModelProto:
    """Onnxsim with its defaults."""
    import onnxsim

    return onnxsim.simplify(original)[0]


def slimmer(original: onnx.ModelProto) -> onnx.ModelProto:
    """Onnxslim with its defaults."""
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(original)
    return onnxslim.slim(copy)


def script(original: onnx.ModelProto) -> onnx.ModelProto:
    """onnxscript.optimizer.optimize and its BatchNormalization rewrite rules."""
    import onnxscript.optimizer
    import onnxscript.rewriter

    return onnxscript.rewriter.rewrite(onnxscript.optimizer.optimize(original))


def left(graph: onnx.ModelProto) -> int:
    """How many elementwise nodes there are; the Add after a MatMul, also behind a Reshape, is where its bias belongs."""
    maker: dict[str, str] = {}
    for node in graph.graph.node:
        moved = maker.get(node.input[0], "") if node.op_type == "Reshape" else node.op_type
        maker.update(dict.fromkeys(node.output, moved))
    moving, count = {info.name for info in graph.graph.input}, 0
    for node in graph.graph.node:
        if not moving & set(node.input):
            continue  # arithmetic on weights alone (onnxoptimizer leaves it for a constant folder)
        moving |= set(node.output)
        bias = node.op_type == "Add" and any(maker.get(name) == "MatMul" for name in node.input)
        count += node.op_type in ELEMENTWISE and not bias
    return count


def error(made: onnx.ModelProto, original: onnx.ModelProto, shape: tuple[int, ...]) -> float:
    """The largest difference of the result, in the graph's own precision, to the original in float64; relative to its size."""
    x = np.random.default_rng(1).normal(size=shape)
    reference = ReferenceEvaluator(in_float64(ungrouped(original))).run(None, {"x": x})[0]
    actual = ReferenceEvaluator(ungrouped(made)).run(None, {"x": x.astype(np.float32)})[0]
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


def verdict(tool: Tool, original: onnx.ModelProto, shape: tuple[int, ...]) -> str:
    """What one tool does with one graph."""
    try:
        made = tool(original)
    except Exception as problem:  # noqa: BLE001 - a tool that fails on a graph is a result
        return f"x ({type(problem).__name__})"
    before, after = left(original), left(made)
    if after == before:
        return "-"
    if any(node.domain for node in made.graph.node):
        return "F" if after == 0 else "part"  # its own operators: the reference evaluator has none of them
    far = error(made, original, shape)
    if not far < 1e-5:
        return f"WRONG ({far:.0e})"
    return "F" if after == 0 else "part"


def speed() -> dict[str, Any]:
    """ResNet50 as exported, which onnxruntime folds itself when it loads it, and folded by bnexport: images per second in turns, and nodes left."""
    from bench_recalibrate import Timed, pictures

    from bnexport.exporter import tf2onnx_convert
    from bnexport.exporter.conversion import graph_of
    from bnexport.frameworks.keras import model as keras_model
    from bnexport.onnx_graph.protobuf import serialise
    from bnexport.runtimes.ort_session import Session
    from bnexport.system.files import Format

    keras_model.load_framework()
    tf2onnx_convert.load_framework()
    import keras

    net = keras.applications.ResNet50(weights=None, input_shape=(197, 197, 1), classes=3)
    loaded = keras_model.describe(net, Path("net.keras"), Format.KERAS, "0" * 64)
    graph = graph_of(loaded, None)
    folded = ours(graph)
    feeds, outputs = {loaded.inputs[0].name: pictures(16)}, list(loaded.outputs)
    sessions = {"as exported": Session(serialise(graph)), "folded by bnexport": Session(serialise(folded))}
    ways = {name: (lambda session=session: session.run(feeds, outputs)) for name, session in sessions.items()}
    Timed(16, 1)(ways)
    rates = Timed(16, 25)(ways)
    nodes = sum(node.op_type == "BatchNormalization" for node in folded.graph.node)
    ratio = rates["folded by bnexport"] / rates["as exported"]
    print(
        f"ResNet50 folded: {nodes} BatchNormalization nodes left; onnxruntime runs it {ratio:.2f} times as fast as what it folds itself"
    )
    return {"images_per_second": rates, "batch_normalization": nodes}


def run() -> dict[str, Any]:
    """Prints the table and returns it."""
    found, missing = tools()
    width = max(map(len, TABLE)) + 8
    print(" " * width + " ".join(f"{name:>13}" for name in found))
    rows = {}
    for dtype in (np.float32, np.float16):
        for name, (shape, build) in TABLE.items():
            if dtype == np.float16 and name != "Conv 2d":
                continue
            original = model(shape, *build(), dtype=dtype)
            label = name if dtype == np.float32 else f"{name}, float16"
            if dtype == np.float16:
                row = {tool: "F" if left(make(original)) < left(original) else "-" for tool, make in found.items()}
            else:
                row = {tool: verdict(make, original, shape) for tool, make in found.items()}
            rows[label] = row
            print(f"{label:{width}}" + " ".join(f"{row[tool]:>13}" for tool in found), flush=True)
    for note in missing:
        print(note)
    return {"rows": rows, "resnet50": speed(), "notes": missing}
