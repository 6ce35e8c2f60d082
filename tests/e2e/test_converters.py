"""The contract that every converter keeps, for each framework whose models it converts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from bnexport.exporter.protocols import CONVERTERS, Converter
from bnexport.frameworks.protocols import ReferenceModel, Want
from bnexport.frameworks.registry import FRAMEWORKS
from tests.e2e.test_frameworks import MARKS, SAMPLES, WANTS, X, expected

PAIRS = [
    pytest.param(name, framework, marks=MARKS.get(framework, []), id=f"{name} of {framework}")
    for name in CONVERTERS.names()
    for framework in sorted(CONVERTERS.open(name).frameworks)
    if framework in SAMPLES
]


@dataclass(frozen=True)
class Source:
    """A file of a framework."""

    framework: str
    path: Path

    @property
    def want(self) -> Want:
        return WANTS.get(self.framework, Want())

    @cached_property
    def model(self) -> ReferenceModel:
        return FRAMEWORKS.open(self.framework).load(self.path, self.want)


@pytest.mark.parametrize(("name", "framework"), PAIRS)
def test_a_converter_keeps_its_contract(name: str, framework: str, tmp_path: Path) -> None:
    """Its graph is valid, has the model's inputs and outputs with an open batch, and computes the model; the file stays as it was."""
    if not FRAMEWORKS.open(framework).about().version:
        pytest.skip(f"the library of {framework} is not installed")
    source = Source(framework, SAMPLES[framework][0](tmp_path))
    before = digest(source.path)
    converter = CONVERTERS.open(name)
    assert isinstance(converter, Converter)
    graph = converter.convert(source, None)
    onnx.checker.check_model(graph, full_check=True)
    [x], [y] = graph.graph.input, graph.graph.output
    for port, info in ((source.model.signature.inputs[0], x), (source.model.signature.outputs[0], y)):
        assert info.name == port.name
        batch, side = info.type.tensor_type.shape.dim
        assert not batch.HasField("dim_value")
        assert side.dim_value == port.shape[1]
        assert info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    evaluator = ReferenceEvaluator(graph)
    for batch_of in (X, X[:1]):
        np.testing.assert_allclose(evaluator.run(None, {x.name: batch_of})[0], expected(batch_of), atol=1e-6)
    assert digest(source.path) == before
    versions = converter.versions()
    assert all(versions.values())
    assert all(isinstance(word, str) for entry in versions.items() for word in entry)


def digest(path: Path) -> list[str]:
    """The hashes of a file, or of all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]


def test_every_converter_has_a_model_here() -> None:
    """Each one that bnexport brings converts a framework of which `test_frameworks.py` writes a file."""
    assert {value for pair in PAIRS for value in pair.values[:1]} >= set(CONVERTERS.own)
