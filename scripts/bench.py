"""Speed and exactness as ratios, measured in one run against the real alternatives. Needs the `bench` extra.

    python scripts/bench.py export [--nets ResNet50,MobileNetV2] [--processes]
    python scripts/bench.py recalibrate [--images 64]
    python scripts/bench.py fold
    python scripts/bench.py check [--rounds 5]
    python scripts/bench.py verify [--rounds 15]
    python scripts/bench.py pair [--images 256] [--rounds 3]
    python scripts/bench.py batch [--images 64]

Each takes --json FILE to keep the figures.

export: whole processes from a .keras file to an ONNX file, by bnexport, `tf2onnx.convert.from_keras` and `model.export(format="onnx")`: seconds,
bnexport's peak memory as a multiple of the file, whether it imports TensorFlow, nodes, the BatchNormalization nodes that are left, and the largest
difference between the file in onnxruntime (default optimisations) and Keras' inference pass, relative to the size of the output before the softmax.
The moving statistics are random, so that a mistake in them would show. A second table has the seconds in memory.

recalibrate: images per second of staged recalibration, of plain onnxruntime inference of the same graph, of Keras' training pass, and of
fvcore's `update_bn_stats` and PyTorch's `update_bn` on the same ResNet50 with the same weights in PyTorch; and how far the statistics that
each arrives at are from the self-consistent ones, at batch size 1, 8 and 32. Where torch or fvcore is absent their rows are left out, and it says so.

fold: which patterns around BatchNormalization bnexport, onnxruntime, onnxoptimizer, onnxsim, onnxslim and onnxscript fold, and whether the result is
right by onnx' reference evaluator in float64.

check: seconds of a cold check of the demo's ResNet50 (whole processes) against the least anybody has to do by hand, where they go, and of a second check from the cache.

verify: seconds of `bnexport verify` (whole processes: hash, decode, run, compare) against a bare script that imports onnxruntime, loads, runs and calls allclose, and
against `polygraphy run --onnxrt --load-outputs` on the same model and data.

pair: seconds of a check of two ONNX files, the demo's repaired model and what onnxsim makes of it, without a cache, against two bare scripts that
load one of them each and run it on the same arrays.

batch: images per second of one ONNX side of a check, from JPEG files to comparison, against the bare runtime on decoded arrays, with the most that the CPU time of decoding leaves;
where the time goes; the peak memory of whole checks by the number of images; the first batch out of a manifest of a million lines; and small models with one job and with two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "bnexport",
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime-gpu",
    "numpy",
    "torch",
    "fvcore",
    "onnxoptimizer",
    "onnxsim",
    "onnxslim",
    "onnxscript",
    "polygraphy",
)


def environment() -> dict[str, Any]:
    """What the figures were measured with; None for a package that is absent."""

    def found(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **{package: found(package) for package in PACKAGES},
    }


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """The result of the benchmark that was asked for; it prints its table on the way."""
    if arguments.what == "export":
        import bench_export

        nets = arguments.nets.split(",") if arguments.nets else bench_export.NETS
        return bench_export.run(nets, everything=not arguments.processes)
    if arguments.what == "recalibrate":
        import bench_recalibrate

        return bench_recalibrate.run(arguments.images, arguments.rounds)
    if arguments.what == "check":
        import bench_check

        return bench_check.run(arguments.rounds)
    if arguments.what == "verify":
        import bench_verify

        return bench_verify.run(arguments.rounds)
    if arguments.what == "pair":
        import bench_pair

        return bench_pair.run(arguments.images, arguments.rounds)
    if arguments.what == "batch":
        import bench_batch

        return bench_batch.run(arguments.images, arguments.rounds)
    import bench_fold

    return bench_fold.run()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["export", "recalibrate", "fold", "check", "verify", "pair", "batch"])
    parser.add_argument("--nets", help="export: names from keras.applications, separated by commas")
    parser.add_argument(
        "--processes",
        action="store_true",
        help="export: only whole processes, without the traced graph, in half the time",
    )
    parser.add_argument("--images", type=int, default=64, help="recalibrate, pair, batch: how many images")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="recalibrate, check, verify, pair, batch: how often each is timed; the median counts",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    result = {"what": arguments.what, "environment": environment(), **measured(arguments)}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
