"""The `pair` benchmark: whole processes of `bnexport check A.onnx DATA --deployed B.onnx` against two bare onnxruntime scripts. See bench.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from bench_verify import seconds_of
from PIL import Image

BARE = """
import sys
import numpy as np, onnxruntime as ort
model, data, out = sys.argv[1:]
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
with np.load(data) as stored:
    x = stored[name]
outputs = [session.run(None, {name: x[i : i + 32]}) for i in range(0, len(x), 32)]
np.savez(out, *[np.concatenate(each) for each in zip(*outputs)])
"""


def _variants(folder: Path, count: int) -> np.ndarray:
    """The demo's images, moved and a little noisy: (count, 197, 197, 1)."""
    rng = np.random.default_rng(0)
    images = [np.asarray(Image.open(path).convert("L").resize((197, 197)), np.float32) for path in folder.glob("*.png")]
    moved = (np.roll(images[n % len(images)], rng.integers(-9, 10, 2), (0, 1)) for n in range(count))
    return np.stack([x + rng.normal(0, 2, x.shape).astype(np.float32) for x in moved])[..., None]


def run(images: int, rounds: int) -> dict[str, Any]:
    """Times both, one after the other in each round; the medians count."""
    import onnxsim

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("making the model (bnexport demo)", flush=True)
        command = [sys.executable, "-m", "bnexport"]
        seconds_of(*command, "demo", name, "-q")
        one, other, data = folder / "repaired.onnx", folder / "simplified.onnx", folder / "data.npz"
        model = onnx.load(one)
        simplified, _ = onnxsim.simplify(model)
        onnx.save(simplified, other)
        np.savez(data, **{model.graph.input[0].name: _variants(folder / "images", images)})
        check = [*command, "check", str(one), str(data), "--deployed", str(other), "-q", "--no-cache"]
        bare: list[float] = []
        ours: list[float] = []
        for nth in range(rounds + 1):
            plain = sum(seconds_of(sys.executable, "-c", BARE, str(m), str(data), f"{m}.npz") for m in (one, other))
            whole = seconds_of(*check)
            if nth:  # the first start reads everything from the disk
                bare.append(plain)
                ours.append(whole)
    ratio = median(b / a for a, b in zip(bare, ours, strict=True))
    print(f"\n| {images} images | seconds | ratio |\n|---|---|---|")
    print(f"| two bare scripts, one for each file | {median(bare):.1f} | 1 |")
    print(f"| `bnexport check A.onnx DATA --deployed B.onnx` | {median(ours):.1f} | {ratio:.2f} |")
    return {"seconds": {"bare": bare, "bnexport": ours}, "ratio": ratio}
