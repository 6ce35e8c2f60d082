"""The files of a reduced difference: a model, its input, and a script that needs neither bnexport nor the model it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.onnx_graph.parts import node_title
from bnexport.onnx_graph.protobuf import serialise
from bnexport.results.text import plain
from bnexport.results.verdict import Finding
from bnexport.rules.catalogue import CATALOGUE
from bnexport.runtimes.environment import environment
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

_HEAD = '''"""{title}

Needs numpy and onnxruntime. Exit code 1 where the fault shows, 0 where it does not.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
inputs = dict(np.load(HERE / "inputs.npz"))


def run(level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


'''
_OPTIMISED = """actual = run(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
right = run(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
what = "optimised against unoptimised"
"""
_EXPECTED = """actual = run(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
right = dict(np.load(HERE / "expected.npz"))
what = "the graph against what the reference computes"
"""
_TAIL = """
error = max(float(np.abs(actual[n] - right[n]).max() / (np.abs(right[n]).max() or 1.0)) for n in right)
print(f"onnxruntime {ort.__version__}, numpy {np.__version__}: {what}: largest relative error {error:.3g}")
sys.exit(1 if not error <= LIMIT else 0)
"""


def write_reproduction(
    folder: Path,
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    finding: Finding,
    error: float,
) -> None:
    """Writes model.onnx, inputs.npz, expected.npz where there is anything expected, repro.py and README.md.

    Args:
        folder: where.
        model: the part of the graph.
        inputs: what it is run on.
        expected: what it ought to compute; empty where it is compared with itself without optimisations.
        finding: what it shows.
        error: how large it is.
    """
    (folder / "model.onnx").write_bytes(serialise(model))
    np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type] # NumPy's stub takes the names for its own options
    if expected:
        np.savez(folder / "expected.npz", **expected)  # type: ignore[arg-type]
    title = plain(CATALOGUE[finding.code].title).replace("\\", "").replace('"', "'")
    script = _HEAD.format(title=f"{finding.code}: {title}.") + (_EXPECTED if expected else _OPTIMISED)
    (folder / "repro.py").write_text(script + _TAIL.replace("LIMIT", f"{error / 10:.1e}"), encoding="utf-8")
    nodes = "\n".join(f"* {plain(node_title(node))}" for node in model.graph.node)
    versions = "\n".join(f"* {name} {version}" for name, version in environment({}).items() if isinstance(version, str))
    (folder / "README.md").write_text(
        f"# {finding.code}: {title}\n\n{plain(finding.message)}\n\nRun `python repro.py`. The part has these nodes:\n\n{nodes}\n\n"
        f"It was written on:\n\n{versions}\n",
        encoding="utf-8",
    )
