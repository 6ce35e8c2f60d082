"""Whether the bnexport that is installed works without anything beside it: no source, no framework.

    python scripts/try_install.py

Writes a small ONNX model and images into a temporary folder and runs check, pack, verify, recalibrate, fold and doctor there, as
processes, with the exit codes that they promise. `.ci/run` runs it with the wheel that is made of the sdist.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from PIL import Image


def write_model(path: Path) -> None:
    """A convolution with stale BatchNormalization statistics, and a classifier of 3 classes on 16x16 grey images."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(4, 1, 3, 3)),
        "scale": np.ones(4),
        "bias": np.zeros(4),
        "mean": np.zeros(4),
        "var": np.ones(4),
        "head": rng.normal(size=(4, 3)),
    }
    graph = """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N,1,16,16] x) => (float[N,3] y) {
            c = Conv<pads=[1,1,1,1]>(x, kernel)
            b = BatchNormalization(c, scale, bias, mean, var)
            r = Relu(b)
            p = GlobalAveragePool(r)
            f = Flatten(p)
            l = MatMul(f, head)
            y = Softmax(l)
        }
    """
    model = onnx.parser.parse_model(graph)
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    model.graph.initializer.extend(stored)
    onnx.save(model, path)


def write_images(folder: Path) -> None:
    """Twelve different ones."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for nth in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{nth:02}.png")


def run(folder: Path, *arguments: str, exits_with: int) -> str:
    """The stdout of a command.

    Raises:
        SystemExit: another exit code.
    """
    command = [sys.executable, "-P", "-m", "bnexport", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    print(f"bnexport {' '.join(arguments)}: exit code {ended.returncode}")
    if ended.returncode != exits_with or "Traceback" in ended.stderr:
        raise SystemExit(f"expected {exits_with}\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout


def main() -> None:
    """Runs the commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model.onnx")
        write_images(folder / "images")
        print(run(folder, "--version", exits_with=0).strip())
        run(folder, "doctor", exits_with=0)
        report = json.loads(run(folder, "check", "model.onnx", "images", "--format", "json", "-q", exits_with=0))
        if report["model"]["batch_normalization"]["layers"] != 1:
            raise SystemExit(f"the report does not describe the model: {report['model']}")
        run(folder, "pack", "model.onnx", "images", "-o", "bundle", "-q", exits_with=0)
        run(folder, "verify", "bundle", "-q", exits_with=0)
        run(folder, "recalibrate", "model.onnx", "images", "-o", "new.onnx", "--force", "-q", exits_with=0)
        run(folder, "fold", "new.onnx", "-o", "folded.onnx", "-q", exits_with=0)
        run(folder, "explain", "BN001", exits_with=0)
        run(folder, "check", "nothing.onnx", "images", exits_with=2)


if __name__ == "__main__":
    main()
