"""The `verify` benchmark: whole processes of `bnexport verify` against a bare onnxruntime script and against Polygraphy, on the demo's ResNet50. See bench.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).parent.parent

BARE = """
import sys
import numpy as np, onnxruntime as ort
model, data = sys.argv[1:]
with np.load(data) as stored:
    x, y = stored["x"], stored["y"]
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
[found] = session.run(None, {session.get_inputs()[0].name: x})
assert np.allclose(found, y, rtol=1e-4, atol=1e-5)
"""


def seconds_of(*command: str) -> float:
    """Of a whole process that succeeds, interpreter included."""
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return seconds


def _data(bundle: Path, folder: Path) -> tuple[Path, Path, Path]:
    """The bundle's own inputs and outputs as an .npz file for the bare script, and as Polygraphy stores them."""
    from polygraphy.comparator import IterationResult, RunResults
    from polygraphy.json import save_json

    def tensor(name: str) -> Any:
        return onnx.numpy_helper.to_array(onnx.load_tensor(bundle / "test_data_set_0" / name))

    x, y = tensor("input_0.pb"), tensor("output_0.pb")
    graph = onnx.load(bundle / "model.onnx").graph
    np.savez(folder / "data.npz", x=x, y=y)
    save_json([{graph.input[0].name: x}], str(folder / "inputs.json"))
    results = RunResults()
    results.append(("golden", [IterationResult({graph.output[0].name: y})]))
    results.save(str(folder / "outputs.json"))
    return folder / "data.npz", folder / "inputs.json", folder / "outputs.json"


def run(rounds: int) -> dict[str, Any]:
    """Times the three, one after the other in each round; the medians count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = folder / "bundle"
        command = [sys.executable, "-m", "bnexport"]
        print("making the model and the bundle (bnexport demo, bnexport pack)", flush=True)
        seconds_of(*command, "demo", name, "-q")
        seconds_of(*command, "pack", f"{name}/model.h5", f"{name}/images", "-o", str(bundle), "-q")
        data, inputs, outputs = _data(bundle, folder)
        model = str(bundle / "model.onnx")
        polygraphy = ["polygraphy", "run", "--onnxrt", model, "--load-inputs", str(inputs), "--load-outputs"]
        scripts = Path(sys.executable).parent
        rows = {
            "a bare script": [sys.executable, "-c", BARE, model, str(data)],
            "bnexport verify": [str(scripts / "bnexport"), "verify", str(bundle)],
            "polygraphy run --onnxrt --load-outputs": [str(scripts / polygraphy[0]), *polygraphy[1:], str(outputs)],
        }
        times: dict[str, list[float]] = {row: [] for row in rows}
        for nth in range(rounds + 1):
            for row, line in rows.items():
                seconds = seconds_of(*line)
                if nth:  # the first start reads everything from the disk
                    times[row].append(seconds)
    bare = times["a bare script"]
    ratios = {row: median(s / b for s, b in zip(found, bare, strict=True)) for row, found in times.items()}
    print("\n| | seconds | ratio |\n|---|---|---|")
    for row, found in times.items():
        print(f"| {row} | {median(found):.3f} | {ratios[row]:.2f} |")
    return {"seconds": times, "ratios": ratios}
