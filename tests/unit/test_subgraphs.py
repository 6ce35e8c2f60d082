"""Loops and branches: what they read from around them counts, and a BatchNormalization inside one is out of reach."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from bnexport.comparison.sides import has_training_mode
from bnexport.errors import InputError
from bnexport.onnx_graph import stages, subgraphs, weights
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.tensors import ranks
from bnexport.onnx_graph.training_mode import training_mode_graph
from bnexport.runtimes import ort_session

BRANCH = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N, 2] x, bool flag) => (float[N, 2] y)
<float[2] s = {1, 2}, float[2] b = {0, 1}, float[2] m = {3, 4}, float[2] v = {1, 2}, float[2] k = {5, 7},
 float[2] m2 = {0, 0}, float[2] v2 = {1, 1}>
{
    a = BatchNormalization(x, s, b, m, v)
    c = If (flag) <
        then_branch = t () => (float[N, 2] p) { p = Mul(a, k) },
        else_branch = e () => (float[N, 2] q) { q = INNER }>
    y = BatchNormalization(c, s, b, m2, v2)
}
"""


def graph(inner: str = "Add(a, k)") -> onnx.ModelProto:
    model = parser.parse_model(BRANCH.replace("INNER", inner))
    for node, name in zip(model.graph.node, ("first", "branch", "second"), strict=True):
        node.name = name
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model)


def test_a_node_reads_what_its_branches_capture() -> None:
    """Its own input first, then a tensor and a weight of the graph around it, each once; not what is made inside."""
    assert subgraphs.reads(graph().graph.node[1]) == ["flag", "a", "k"]


def test_renaming_reaches_into_branches() -> None:
    """A weight that only a branch reads stays connected when it gets another name."""
    model = graph()
    weights.attach(model, {})
    before = subgraphs.reads(model.graph.node[1])
    subgraphs.rename(model.graph.node[1], {"k": "kernel", "p": "never"})
    assert subgraphs.reads(model.graph.node[1]) == [{"k": "kernel"}.get(name, name) for name in before]
    assert "k" in {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_between_two_sites_stays_in_one_stage(flag: bool) -> None:
    """The stages, run one after the other, measure at the second site what the whole graph has there."""
    model = graph()
    plan = stages.stages(model, sites(model))
    x = np.random.default_rng(0).normal(3, 2, (8, 2)).astype("float32")
    live: dict[str, np.ndarray] = {"x": x, "flag": np.array(flag)}
    for stage in plan:
        part = stages.stage_model(model, stage, {}, ranks(model))
        outputs = [info.name for info in part.graph.output]
        if outputs:
            live |= ort_session.Session(serialise(part)).run({name: live[name] for name in stage.needs}, outputs)
    a = (x - [3, 4]) / np.sqrt(np.array([1, 2]) + 1e-5) * [1, 2] + [0, 1]
    expected = a * [5, 7] if flag else np.add(a, [5, 7])
    np.testing.assert_allclose(live["second/mean"], expected, rtol=1e-5)


def test_a_normalisation_inside_a_branch_is_refused_by_name() -> None:
    """Neither stages nor a training-mode graph are made of it: its input cannot be seen from outside."""
    model = graph("BatchNormalization(a, s, b, m, v)")
    assert not has_training_mode(model)
    assert has_training_mode(graph())
    with pytest.raises(InputError, match=r"BatchNormalization node q is inside a loop or a branch"):
        stages.stages(model, sites(model))
    with pytest.raises(InputError, match=r"BatchNormalization node q is inside a loop or a branch"):
        training_mode_graph(model)
