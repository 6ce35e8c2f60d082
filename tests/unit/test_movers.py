"""Which axis of a tensor becomes which one behind an operator that moves values, read off values that say where they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from bnexport.onnx_graph.movers import axis_after, axis_before
from bnexport.onnx_graph.patterns import View

SHAPE = (2, 3, 5, 1)
NODES = {
    "Identity": "y = Identity(x)",
    "Transpose": "y = Transpose <perm = [0, 2, 3, 1]> (x)",
    "Transpose without perm": "y = Transpose(x)",
    "Squeeze": "y = Squeeze(x, last)",
    "Unsqueeze": "y = Unsqueeze(x, first)",
    "Reshape that splits nothing": "y = Reshape(x, apart)",
    "Reshape that joins two axes": "y = Reshape(x, joined)",
    "Flatten": "y = Flatten <axis = 2> (x)",
    "Slice": "y = Slice(x, start, stop, third)",
}
STORED = {
    "last": [3], "first": [1], "apart": [2, 3, 1, 5], "joined": [6, 5], "start": [1], "stop": [4], "third": [2],
}  # fmt: skip


def graph(node: str) -> onnx.ModelProto:
    shape = ", ".join(map(str, SHAPE))
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[{shape}] x) => (float[?] y) {{ {node} }}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, values in STORED.items():
        if name in model.graph.node[0].input:
            model.graph.initializer.append(numpy_helper.from_array(np.int64(values), name))
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def is_axis(model: onnx.ModelProto, axis: int, after: int) -> bool:
    """Whether values that count along an axis of the input do so along that axis of the output, and along no other."""
    x = np.broadcast_to(np.arange(SHAPE[axis]).reshape([-1 if a == axis else 1 for a in range(4)]), SHAPE)
    [y] = ReferenceEvaluator(model).run(["y"], {"x": np.ascontiguousarray(x, np.float32)})
    counts = np.arange(y.shape[after]).reshape([-1 if a == after else 1 for a in range(y.ndim)])
    return y.shape[after] == SHAPE[axis] and bool((y == counts).all())


@pytest.mark.parametrize("name", NODES)
def test_an_axis_is_where_its_values_are(name: str) -> None:
    """Both directions say so, and they are each other's inverse; what an axis is joined to has none."""
    model = graph(NODES[name])
    view, [node] = View(model), model.graph.node
    rank = len(view.shape["y"])
    for axis in range(3):  # the last has one value
        after = axis_after(view, node, axis)
        if after is None:
            assert not any(is_axis(model, axis, each) for each in range(rank))
            assert axis not in [axis_before(view, node, each) for each in range(rank)]
        else:
            assert is_axis(model, axis, after)
            assert axis_before(view, node, after) == axis


@pytest.mark.parametrize("name", NODES)
def test_no_axis_and_every_axis(name: str) -> None:
    """-1 stands for every axis and stays so; beyond the last axis there is none."""
    model = graph(NODES[name])
    view, [node] = View(model), model.graph.node
    assert axis_before(view, node, -1) == axis_after(view, node, -1) == -1
    assert axis_before(view, node, len(view.shape["y"])) is None
    assert axis_after(view, node, 4) is None
