"""The `check` benchmark: a cold check of the demo's ResNet50 against the same work done by hand, and a second check from the cache. See bench.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent

FAILED = 1
"""The model's moving statistics are wrong, and the check says so."""

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

# Whether the command needs TensorFlow: it ends without Python's own clean-up, so that nobody can look into it.
IMPORTS = """
import json, sys
from pathlib import Path
from bnexport.checking.check import check
from bnexport.system.cache import Cache
check(sys.argv[1] + "/model.h5", sys.argv[1] + "/images", store=Cache(Path(sys.argv[2])))
print(json.dumps({"tensorflow": float("tensorflow" in sys.modules)}))
"""


def _timed(command: Sequence[str], cache: Path | None = None) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Seconds of a whole process, interpreter included, and how it ended."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    if cache is not None:
        environment["BNEXPORT_CACHE_DIR"] = str(cache)
    begun = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    return time.perf_counter() - begun, ended


def _by_script(code: str, *arguments: str) -> tuple[float, dict[str, float]]:
    """Seconds of a script, and what it printed."""
    seconds, ended = _timed(["-c", code, *arguments])
    if ended.returncode:
        raise SystemExit(ended.stderr)
    printed: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return seconds, printed


def _by_command(folder: str, cache: Path) -> tuple[float, dict[str, float]]:
    """Seconds of `bnexport check`, and of its stages, which run beside each other."""
    seconds, ended = _timed(["-m", "bnexport", "check", f"{folder}/model.h5", f"{folder}/images", "-v"], cache)
    if ended.returncode != FAILED or any(code not in ended.stdout for code in ("BN001", "BN005")):
        raise SystemExit(f"the check did not fail with BN001 and BN005:\n{ended.stdout}{ended.stderr}")
    stages = re.search(r"stages: (.*); [\d.]+ s in all", ended.stdout + ended.stderr)
    if stages is None:
        raise SystemExit("the check did not say how long its stages take")
    return seconds, {name: float(took) for name, took in re.findall(r"([^,]+?) ([\d.]+) s(?:, |$)", stages[1])}


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
        hand: list[tuple[float, dict[str, float]]] = []
        cold, again = list(hand), list(hand)
        _by_script(BY_HAND, name)  # the first start reads everything from the disk
        for nth in range(rounds):
            hand.append(_by_script(BY_HAND, name))
            cold.append(_by_command(name, folder / f"cache{nth}"))
            again.append(_by_command(name, folder / f"cache{nth}"))
        if _by_script(IMPORTS, name, str(folder / "cache0"))[1]["tensorflow"]:
            raise SystemExit("a second check imports TensorFlow: the cache does not hold everything")
    seconds = {what: median(s for s, _ in times) for what, times in (("hand", hand), ("cold", cold), ("again", again))}
    ratio = median(c / h for (c, _), (h, _) in zip(cold, hand, strict=True))
    second = median(a / c for (a, _), (c, _) in zip(again, cold, strict=True))
    print("\n| | seconds | ratio |\n|---|---|---|")
    print(f"| by hand: import, load, both passes, onnxruntime | {seconds['hand']:.1f} | 1 |")
    print(f"| bnexport check, nothing in the cache | {seconds['cold']:.1f} | {ratio:.2f} |")
    print(f"| bnexport check again, without TensorFlow | {seconds['again']:.1f} | {second:.3f} of the first |")
    _table("by hand", [parts for _, parts in hand])
    _table("bnexport check, whose stages run beside each other", [parts for _, parts in cold])
    _table("bnexport check again", [parts for _, parts in again])
    return {"seconds": seconds, "ratio": ratio, "second": second, "cold": [parts for _, parts in cold]}
