"""Every installed runtime on 20 small nets: how far each is from Keras, as a share of the limit that a check sets.

    python scripts/sweep_runtimes.py [--target NAME ...] [--net NAME ...]

Each net is exported by bnexport and checked as a user would check it. A cell is the error in noise floors, with the share of the limit
in brackets: healthy runtimes stand below half of it, known defects above four times.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np

import bnexport
from bnexport.results.tolerance import FLOORS, LEAST
from bnexport.results.verdict import CheckReport
from bnexport.runtimes.protocols import open_runtime, runtime_names

HEALTHY, DEFECT = 0.5, 4.0
"""Shares of the limit below which a healthy runtime stands, and above which a defect."""

LARGE = 1000
"""From so many noise floors on, nothing behind the point is shown."""

NOT_SWEPT = {"onnxruntime", "onnx-reference", "keras", "command", "server"}

SWEPT_RUNS = ("onnx-inference@", "tflite-inference@")
"""What the ids of the runs in the table begin with."""

Net = Callable[[Any], tuple[Any, tuple[int, ...]]]
"""The layers of a sequential net and the shape of its input; or a model and the shape."""


def _attention(keras: Any) -> Any:
    x = keras.Input((12, 16), name="x")
    k = keras.layers
    y = k.LayerNormalization()(k.Add()([x, k.MultiHeadAttention(4, 8)(x, x)]))
    return keras.Model(x, k.Dense(5)(y))


def _residual(keras: Any) -> Any:
    k = keras.layers
    x = keras.Input((24, 24, 3), name="x")
    y = k.BatchNormalization()(k.Conv2D(16, 3, padding="same")(x))
    z = k.BatchNormalization()(k.Conv2D(16, 3, padding="same")(k.ReLU()(y)))
    return keras.Model(x, k.Dense(4)(k.GlobalAveragePooling2D()(k.ReLU()(k.Add()([y, z])))))


def _application(name: str, size: int) -> Net:
    def build(keras: Any) -> tuple[Any, tuple[int, ...]]:
        make = getattr(keras.applications, name)
        net = make(weights=None, classes=10, classifier_activation=None, input_shape=(size, size, 3))
        return net, (size, size, 3)

    return build


NETS: dict[str, Net] = {
    "dense": lambda k: ([k.layers.Dense(32, "relu"), k.layers.Dense(32, "tanh"), k.layers.Dense(4)], (24,)),
    "activations": lambda k: (
        [k.layers.Dense(32, a) for a in ("gelu", "silu", "elu", "selu", "softplus", "hard_sigmoid", "mish")]
        + [k.layers.LeakyReLU(), k.layers.Dense(4)],
        (64,),
    ),
    "conv1d": lambda k: (
        [
            k.layers.Conv1D(16, 5, padding="causal", dilation_rate=2),
            k.layers.BatchNormalization(),
            k.layers.ReLU(),
            k.layers.MaxPooling1D(2),
            k.layers.GlobalAveragePooling1D(),
            k.layers.Dense(4),
        ],
        (64, 8),
    ),
    "residual": lambda k: (_residual(k), (24, 24, 3)),
    "average_pooling": lambda k: (
        [k.layers.AveragePooling2D(3, 2, padding="same"), k.layers.Conv2D(4, 1)],
        (15, 17, 4),
    ),
    "max_pooling_of_negatives": lambda k: (
        [
            k.layers.Rescaling(1.0, offset=-9.0),
            k.layers.ZeroPadding2D(1),
            k.layers.MaxPooling2D(3, 2),
            k.layers.Conv2D(4, 1),
            k.layers.MaxPooling2D(3, 2, padding="same"),
        ],
        (15, 17, 4),
    ),
    "upsampling": lambda k: (
        [
            k.layers.UpSampling2D(2, interpolation="bilinear"),
            k.layers.Conv2D(4, 3),
            k.layers.UpSampling2D(3),
            k.layers.Conv2D(4, 1),
        ],
        (7, 9, 4),
    ),
    "transposed": lambda k: (
        [
            k.layers.Conv2DTranspose(6, 3, 2, padding="same"),
            k.layers.BatchNormalization(),
            k.layers.Conv2DTranspose(4, 4, 2, padding="same"),
        ],
        (7, 9, 4),
    ),
    "separable": lambda k: (
        [
            k.layers.SeparableConv2D(8, 3, padding="same", depth_multiplier=2),
            k.layers.DepthwiseConv2D(5, 2, padding="same"),
            k.layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
        ],
        (16, 16, 4),
    ),
    "norms": lambda k: (
        [
            k.layers.Rescaling(1.0, offset=400.0),
            k.layers.LayerNormalization(),
            k.layers.GroupNormalization(4),
            k.layers.UnitNormalization(),
            k.layers.Conv2D(4, 1),
        ],
        (8, 8, 16),
    ),
    "attention": lambda k: (_attention(k), (12, 16)),
    "conv3d": lambda k: (
        [
            k.layers.Conv3D(4, 3, padding="same"),
            k.layers.BatchNormalization(),
            k.layers.Conv3D(4, 2, 2),
            k.layers.GlobalAveragePooling3D(),
            k.layers.Dense(3),
        ],
        (8, 8, 8, 2),
    ),
    "large_mean": lambda k: (
        [
            k.layers.Conv2D(16, 3, bias_initializer=k.initializers.Constant(1200)),
            k.layers.BatchNormalization(epsilon=1e-5),
            k.layers.ReLU(),
            k.layers.Conv2D(4, 3),
        ],
        (8, 8, 8),
    ),
    "huge": lambda k: (
        [
            k.layers.Dense(32),
            k.layers.Rescaling(1000.0),
            k.layers.Dense(32),
            k.layers.Rescaling(1000.0),
            k.layers.Dense(4),
        ],
        (32,),
    ),
    "lstm": lambda k: ([k.layers.LSTM(16, return_sequences=True), k.layers.LSTM(8), k.layers.Dense(4)], (20, 8)),
    "gru": lambda k: ([k.layers.GRU(16, return_sequences=True), k.layers.GRU(8), k.layers.Dense(4)], (20, 8)),
    "wide_convolution": lambda k: (
        [
            k.layers.Conv2D(64, 3, padding="same"),
            k.layers.Conv2D(64, 3, padding="same"),
            k.layers.ReLU(),
            k.layers.GlobalAveragePooling2D(),
            k.layers.Dense(4),
        ],
        (28, 28, 64),
    ),
    "MobileNetV2": _application("MobileNetV2", 96),
    "EfficientNetB0": _application("EfficientNetB0", 64),
    "ResNet50V2": _application("ResNet50V2", 64),
}


def build(keras: Any, name: str, items: int = 8) -> tuple[Any, np.ndarray]:
    """A net with the moving statistics of the batch, and the batch: as many items as noise floors are measured on."""
    keras.utils.set_random_seed(5)
    made, shape = NETS[name](keras)
    net = keras.Sequential([keras.Input(shape, name="x"), *made]) if isinstance(made, list) else made
    x = np.random.default_rng(7).normal(size=(items, *shape)).astype(np.float32)
    normalisations = [layer for layer in net._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    if normalisations:
        net(x, training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
    return net, x


def cells(report: CheckReport) -> dict[str, tuple[str, float]]:
    """By run: the error in noise floors in words, and as a share of the limit; infinite where it does not run."""
    shares: dict[str, tuple[str, float]] = {}
    for comparison in report.comparisons:
        run = comparison.actual
        if not run.startswith(SWEPT_RUNS) or "one by one" in comparison.reference:
            continue
        share = comparison.difference.max_rel / max(FLOORS * (comparison.noise_floor or 0.0), LEAST)
        if share >= shares.get(run, ("", -1.0))[1]:
            floors = comparison.noise_floors
            shares[run] = (_number(floors) if floors is not None else f"{comparison.difference.max_rel:.1e}", share)
    for finding in report.findings:
        if finding.code in ("RT015", "RT016"):
            shares[finding.evidence["side"]] = ("ends" if finding.code == "RT015" else "refused", float("inf"))
    return shares


def main() -> int:
    """Prints the table; 1 where a run stands between the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="default: every runtime that is installed")
    parser.add_argument("--net", action="append", choices=NETS, help="default: all")
    arguments = parser.parse_args()
    import keras

    targets = arguments.target or [
        name for name in runtime_names() if name not in NOT_SWEPT and not open_runtime(name).about().unavailable
    ]
    table: dict[str, dict[str, tuple[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.net or NETS:
            net, x = build(keras, name)
            path = Path(folder) / f"{name}.keras"
            net.save(path)
            report = bnexport.check(path, x, targets=targets)
            table[name] = cells(report)
            print(name, dict(table[name]), file=sys.stderr, flush=True)
            for finding in report.findings:
                if finding.code.startswith("RT"):
                    print(f"  {finding.code} {finding.message[:300]}", file=sys.stderr, flush=True)
    runs = list(dict.fromkeys(run for row in table.values() for run in row))
    print("| net |", " | ".join(run.partition("@")[2] for run in runs), "|")
    print("|---" * (len(runs) + 1) + "|")
    for name, row in table.items():
        print(f"| {name} |", " | ".join(_cell(*row[run]) if run in row else "" for run in runs), "|")
    between = [
        f"{name} on {run}: {share:.2g} of the limit"
        for name, row in table.items()
        for run, (_, share) in row.items()
        if HEALTHY < share < DEFECT
    ]
    print("\nbetween half of the limit and four times it:", "; ".join(between) or "none")
    return bool(between)


def _number(floors: float) -> str:
    return f"{floors:,.0f}" if floors >= LARGE else f"{floors:.1f}"


def _cell(text: str, share: float) -> str:
    shown = (
        text
        if share == float("inf")
        else f"{text} ({share:,.0f})"
        if share >= LARGE / FLOORS
        else f"{text} ({share:.2f})"
    )
    return f"**{shown}**" if share > HEALTHY else shown


if __name__ == "__main__":
    sys.exit(main())
