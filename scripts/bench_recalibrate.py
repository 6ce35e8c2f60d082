"""Recalibration: throughput, and the distance to the self-consistent statistics (see bench.py).

One ResNet50 (197x197x1, 3 classes, random weights) in Keras, in ONNX, and rebuilt in PyTorch with the same weights under the same layer names.
The self-consistent statistics are those of one training-mode pass over all images in a single batch, which PyTorch computes in float64
(without torch: Keras in float32, which is itself off by some 1e-4). Distances are the largest over all channels of |mean - mean*| / std* and
|ln(std / std*)|, epsilon included.
"""

from __future__ import annotations

import json
import statistics as middle
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDE, BATCH, EPSILON = 197, 16, 1.001e-5
Statistics = dict[str, tuple[np.ndarray, np.ndarray]]


def pictures(count: int) -> np.ndarray:
    """Crops of two photographs, grey, float32, shape (count, 197, 197, 1)."""
    from sklearn.datasets import load_sample_images

    photographs = [photo.mean(axis=2) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    crops = []
    for i in range(count):
        photo = photographs[i % 2]
        top, left = (int(rng.integers(0, side - SIDE)) for side in photo.shape)
        crops.append(photo[top : top + SIDE, left : left + SIDE, None])
    return np.stack(crops).astype(np.float32)


class Timed:
    """Images per second of several ways, taken in turns, so that a slow minute of the machine hits all of them."""

    def __init__(self, count: int, rounds: int) -> None:
        self._count, self._rounds = count, rounds

    def __call__(self, ways: dict[str, Callable[[], object]]) -> dict[str, float]:
        """The median of each."""
        speed: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self._rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                way()
                speed[name].append(self._count / (time.perf_counter() - begun))
        return {name: middle.median(values) for name, values in speed.items()}


def batches(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The images in batches of `size`, the last one possibly smaller."""
    return (x[i : i + size] for i in range(0, len(x), size))


def run(count: int, rounds: int) -> dict[str, Any]:
    """Prints both tables and returns the figures."""
    from bnexport.exporter import tf2onnx_convert
    from bnexport.frameworks.keras import model as keras_model

    keras_model.load_framework()
    tf2onnx_convert.load_framework()
    import keras

    from bnexport.exporter.conversion import graph_of
    from bnexport.frameworks.keras.passes import Passes
    from bnexport.onnx_graph.protobuf import serialise
    from bnexport.onnx_graph.sites import sites
    from bnexport.progress import Progress
    from bnexport.recalibration import staged
    from bnexport.recalibration.live import live_tensors
    from bnexport.runtimes.ort_session import Session
    from bnexport.system.files import Format

    keras.utils.set_random_seed(0)
    net = keras.applications.ResNet50(weights=None, input_shape=(SIDE, SIDE, 1), classes=3)
    loaded = keras_model.describe(net, Path("net.keras"), Format.KERAS, "0" * 64)
    graph = graph_of(loaded, None)
    name, x = loaded.inputs[0].name, pictures(count)

    def recalibrated(size: int) -> Statistics:
        with live_tensors(None, 1 << 40) as live:
            feeds = ({name: part} for part in batches(x, size))
            found = staged.measure(graph, feeds, count, live, "cpu", Progress()).moments
        return {site: (m.mean, m.var) for site, m in found.items()}

    session, passes = Session(serialise(graph)), Passes(loaded)
    ways: dict[str, Callable[[], object]] = {
        "onnxruntime, plain inference": lambda: [
            session.run({name: b}, list(loaded.outputs)) for b in batches(x, BATCH)
        ],
        "bnexport, staged recalibration": lambda: recalibrated(BATCH),
        "Keras, training pass": lambda: [passes.run("training", {name: b}) for b in batches(x, BATCH)],
    }
    layers = [site.name for site in sites(graph)]
    found: dict[str, Callable[[int], Statistics]] = {"bnexport, staged recalibration": recalibrated}
    missing = []
    try:
        import bench_torch

        twin = bench_torch.Twin(net, layers)
    except ImportError as error:
        missing.append(
            f"without {error.name}: no rows for PyTorch, and the self-consistent statistics are from Keras in float32"
        )
        exact = keras_statistics(net, x)
    else:
        exact = twin.full_batch(x)
        updates = twin.updates()
        missing += twin.missing
        ways |= {label: (lambda update=update: update(x, BATCH)) for label, update in updates.items()}
        found |= {label: (lambda size, update=update: update(x, size)) for label, update in updates.items()}
    ways["onnxruntime, plain inference"]()  # tracing and first allocations are not what is compared
    ways["Keras, training pass"]()
    speed = Timed(count, rounds)(ways)
    print(f"images per second, {count} images of {SIDE}x{SIDE} in batches of {BATCH}; share of plain inference")
    plain = speed["onnxruntime, plain inference"]
    for label, value in speed.items():
        print(f"  {label:32} {value:6.1f}  {value / plain:.2f}", flush=True)
    print("largest distance to the self-consistent statistics (in standard deviations), at batch size 1, 8, 32")
    far = {label: {size: distance(way(size), exact) for size in (1, 8, 32)} for label, way in found.items()}
    for label, row in far.items():
        print(f"  {label:32} " + "  ".join(f"{value:8.1e}" for value in row.values()), flush=True)
    share = shares(graph, x[:BATCH], exact)
    print(
        "where onnxruntime's time in the stages goes: "
        + ", ".join(f"{n} {v:.0%}" for n, v in share.items() if v > 0.015)
    )
    for note in missing:
        print(note)
    return {"images": count, "share_of_operators": share, "images_per_second": speed, "distance": far, "notes": missing}


def shares(graph: Any, x: np.ndarray, known: Statistics) -> dict[str, float]:
    """The share of each operator in the time that onnxruntime spends in the stages, one image at a time as in `staged.measure`."""
    import onnxruntime as ort

    from bnexport.numerics.moments import Moments
    from bnexport.onnx_graph import stages, statistics, tensors
    from bnexport.onnx_graph.protobuf import serialise
    from bnexport.onnx_graph.sites import sites

    found = {name: Moments(1, mean, var) for name, (mean, var) in known.items()}
    values, rank = statistics.by_initializer(found, graph), tensors.ranks(graph)
    live = [{graph.graph.input[0].name: image[None]} for image in x]
    spent: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages.stages(graph, sites(graph))[:-1]:
            part = stages.stage_model(graph, stage, values, rank)
            options = ort.SessionOptions()
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
            session = ort.InferenceSession(serialise(part), options, providers=["CPUExecutionProvider"])
            outputs = [info.name for info in part.graph.output]
            for tensors_of_one in live:
                given = {name: tensors_of_one[name] for name in stage.needs}
                tensors_of_one |= dict(zip(outputs, session.run(outputs, given), strict=True))
            for event in json.loads(Path(session.end_profiling()).read_text()):
                if event["name"].endswith("kernel_time"):
                    spent[event["args"]["op_name"]] += event["dur"]
    return {name: time / spent.total() for name, time in spent.most_common()}


def keras_statistics(net: Any, x: np.ndarray) -> Statistics:
    """What one Keras training-mode pass over all images leaves at momentum 0."""
    import keras

    norms = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
    kept = net.get_weights()
    for layer in norms:
        layer.momentum = 0.0
    net(x, training=True)
    found = {layer.name: (layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in norms}
    net.set_weights(kept)
    for layer in norms:
        layer.momentum = 0.99
    return found


def distance(actual: Statistics, exact: Statistics) -> float:
    """The largest over all channels, in standard deviations."""
    worst = 0.0
    for name, (mean, var) in exact.items():
        std = np.sqrt(var + EPSILON)
        z = np.abs(actual[name][0] - mean) / std
        ratio = np.abs(0.5 * np.log((actual[name][1] + EPSILON) / (var + EPSILON)))
        worst = max(worst, float(z.max()), float(ratio.max()))
    return worst
