"""Whether a graph may normalise by the batch, in every form in which ONNX states the axes of a reduction."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from bnexport.onnx_graph.reductions import normalises_by_batch

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2")


def reduction(kind: str, axes: tuple[int, ...] | None, form: str) -> onnx.ModelProto:
    """A reduction of a tensor of rank 4, with its axes as an attribute, an initializer, a Constant node, or left out."""
    opset = 13 if form == "attribute" and kind != "ReduceSum" else 11 if form == "attribute" else 18
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N, 2, 4, 4] x) => (float[A, B, C, D] y) {{ y = {kind} <keepdims = 1> (x) }}""")
    [node] = model.graph.node
    if axes is None:
        return model
    tensor = numpy_helper.from_array(np.int64(axes), "axes")
    if form == "attribute":
        node.attribute.append(helper.make_attribute("axes", axes))
    else:
        node.input.append("axes")
    if form == "initializer":
        model.graph.initializer.append(tensor)
    elif form == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["axes"], value=tensor))
    elif form == "input":
        model.graph.input.append(helper.make_tensor_value_info("axes", 7, [len(axes)]))
    return model


@pytest.mark.parametrize("form", ["attribute", "initializer", "constant"])
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_a_reduction_over_the_first_axis_is_one(kind: str, form: str) -> None:
    """Also where the axis is counted from the end; one over other axes is none."""
    for axes, by_batch in {(0, 2, 3): True, (-4,): True, (2, 3): False, (-2, -1): False, (1,): False}.items():
        model = reduction(kind, axes, form)
        onnx.checker.check_model(model)
        assert normalises_by_batch(model) is by_batch, axes


def test_a_reduction_without_axes_is_over_all_of_them() -> None:
    """And one whose axes an input of the graph states may be."""
    assert normalises_by_batch(reduction("ReduceMean", None, "none"))
    assert normalises_by_batch(reduction("ReduceMean", (1,), "input"))
    assert not normalises_by_batch(reduction("ReduceMax", None, "none"))


@pytest.mark.parametrize(
    ("training", "by_batch"), [("", False), ("<training_mode = 0>", False), ("<training_mode = 1>", True)]
)
def test_batch_normalization_in_training_mode_is_one(training: str, by_batch: bool) -> None:
    """In inference mode it uses what it stored."""
    outputs = "y, m, v" if by_batch else "y"
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 15]>
        g (float[N, 2, 4, 4] x, float[2] s, float[2] b, float[2] mean, float[2] var) => (float[N, 2, 4, 4] y)
        {{ {outputs} = BatchNormalization {training} (x, s, b, mean, var) }}""")
    assert normalises_by_batch(model) is by_batch
