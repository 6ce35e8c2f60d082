"""The `check` benchmark: a cold check of the demo's ResNet50 against the same work done by hand, and a second check from the cache. See bench.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent

# The least that anybody has to do to know whether both modes and onnxruntime agree: import, load, both passes once, onnxruntime once.
BY_HAND = """
import glob, json, os, sys, time
begun = time.perf_counter()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow
from PIL import Image
parts = {"import TensorFlow": time.perf_counter() - begun}
folder = sys.argv[1]
net = keras.models.load_model(folder + "/model.h5", compile=False)
files = sorted(glob.glob(folder + "/images/*.png"))
x = np.stack([np.asarray(Image.open(f).convert("L").resize((197, 197), Image.LANCZOS), np.float32)[..., None] for f in files])
parts["load the model"] = time.perf_counter() - begun - sum(parts.values())
predicted = net.predict(x, verbose=0)
parts["inference pass"] = time.perf_counter() - begun - sum(parts.values())
trained = np.asarray(net(x, training=True))
parts["training pass"] = time.perf_counter() - begun - sum(parts.values())
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
found = session.run(None, {session.get_inputs()[0].name: x})[0]
parts["onnxruntime"] = time.perf_counter() - begun - sum(parts.values())
assert np.abs(found - predicted).max() < 1e-3
print(json.dumps(parts))
"""

CHECK = """
import json, sys, time
begun = time.perf_counter()
from pathlib import Path
from bnexport.system.cache import Cache
from bnexport.checking.check import check
from bnexport.progress import Progress

class Stages(Progress):
    def __init__(self):
        self.parts, self.name, self.since = {}, "start", begun
    def stage(self, text):
        now = time.perf_counter()
        self.parts[self.name] = self.parts.get(self.name, 0.0) + now - self.since
        self.name, self.since = text, now
    def start(self, text, total):
        self.stage(text)

stages = Stages()
report = check(sys.argv[1] + "/model.h5", sys.argv[1] + "/images", store=Cache(Path(sys.argv[2])), progress=stages)
stages.stage("end")
assert not report and {f.code for f in report.findings} >= {"BN001", "BN005"}
print(json.dumps({"parts": stages.parts, "tensorflow": "tensorflow" in sys.modules}))
"""


def _timed(code: str, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process, interpreter included, and what it printed."""
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain, cwd=ROOT)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seconds, told


def _table(title: str, parts: list[dict[str, float]]) -> None:
    print(f"\n{title}")
    for name in parts[0]:
        print(f"  {median(part.get(name, 0.0) for part in parts):6.2f} s  {name}")


def run(rounds: int) -> dict[str, Any]:
    """Times the three, one after the other in each round, and prints where the time goes; the medians count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("making the model (bnexport demo)", flush=True)
        subprocess.run(
            [sys.executable, "-m", "bnexport", "demo", name, "-q"], check=True, capture_output=True, cwd=ROOT
        )
        hand: list[tuple[float, dict[str, Any]]] = []
        cold, again = list(hand), list(hand)
        _timed(BY_HAND, name)  # the first start reads everything from the disk
        for nth in range(rounds):
            hand.append(_timed(BY_HAND, name))
            cold.append(_timed(CHECK, name, str(folder / f"cache{nth}")))
            again.append(_timed(CHECK, name, str(folder / f"cache{nth}")))
    if any(told["tensorflow"] for _, told in again):
        raise SystemExit("the second check imported TensorFlow: the cache did not hold everything")
    seconds = {what: median(s for s, _ in times) for what, times in (("hand", hand), ("cold", cold), ("again", again))}
    ratio = median(c / h for (c, _), (h, _) in zip(cold, hand, strict=True))
    second = median(a / c for (a, _), (c, _) in zip(again, cold, strict=True))
    print("\n| | seconds | ratio |\n|---|---|---|")
    print(f"| by hand: import, load, both passes, onnxruntime | {seconds['hand']:.1f} | 1 |")
    print(f"| bnexport check, nothing in the cache | {seconds['cold']:.1f} | {ratio:.2f} |")
    print(f"| bnexport check again, without TensorFlow | {seconds['again']:.1f} | {second:.3f} of the first |")
    _table("by hand", [told for _, told in hand])
    _table("check", [told["parts"] for _, told in cold])
    _table("check again", [told["parts"] for _, told in again])
    return {"seconds": seconds, "ratio": ratio, "second": second, "cold": [told["parts"] for _, told in cold]}
