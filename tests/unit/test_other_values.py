"""Whether weights of a graph are other ones, where nothing but the weights can differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport.onnx_graph.other_values import find_other_values

TEXT = """g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
    a = Conv<kernel_shape = [1, 1]>(x, left, left_bias)  n = BatchNormalization(a, gamma, beta, mean, variance)
    r = Relu(n)  b = Conv<kernel_shape = [1, 1]>(x, right, right_bias)  s = Add(r, b)  y = Add(s, mask) }"""


def graph(text: str = TEXT) -> onnx.ModelProto:
    """Two branches with weights of one shape, and a constant."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    values = {name: rng.normal(size=(4, 4, 1, 1)) for name in ("left", "right")}
    values |= {name: rng.normal(size=4) for name in ("left_bias", "right_bias", "beta", "mean")}
    values |= {"gamma": np.array([1.0, 2, 0, 3]), "variance": rng.uniform(1, 2, 4), "mask": np.full(1, -1e9)}
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


def change(model: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    [tensor] = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor).copy()), name))


def added(value: float, place: int) -> Callable[[np.ndarray], np.ndarray]:
    """One value of an array moved."""

    def edit(x: np.ndarray) -> np.ndarray:
        x.flat[place] += value
        return x

    return edit


@pytest.mark.parametrize("name", ["left", "left_bias", "right_bias", "gamma", "beta", "mean", "variance"])
def test_a_changed_weight_is_named(name: str) -> None:
    """With how far it is off, also where other names are in the other graph."""
    model = graph()
    change(model, name, added(0.5, 1))
    for tensor in [*model.graph.initializer]:
        for node in model.graph.node:
            node.input[:] = [f"w_{i}" if i == tensor.name else i for i in node.input]
        tensor.name = f"w_{tensor.name}"
    [other] = find_other_values(model, graph())
    assert (other.name, round(other.apart, 6)) == (name, 0.5)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("left", lambda x: x.astype(np.float16).astype(np.float32)),  # rounded once more
        ("mask", lambda x: x * np.float32(10)),  # large enough in both
        ("mean", added(5, 2)),  # of a channel that is multiplied by zero
    ],
)
def test_what_does_not_matter_is_left_out(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    model = graph()
    change(model, name, edit)
    assert not find_other_values(model, graph())


def test_graphs_that_are_built_otherwise_say_nothing() -> None:
    """Branches in another order, other operators, other edges, other attributes: weights may be anywhere."""
    swapped = {"left": "right", "left_bias": "right_bias", "right": "left", "right_bias": "left_bias"}
    model = graph()
    for node in model.graph.node:
        node.input[:] = [swapped.get(name, name) for name in node.input]
    assert not find_other_values(model, graph())  # every weight is there
    for old, new in (
        ("Relu(n)", "Abs(n)"),
        ("Conv<kernel_shape = [1, 1]>(x, right", "Conv<kernel_shape = [1, 1]>(a, right"),
    ):
        assert old in TEXT
        model = graph(TEXT.replace(old, new))
        change(model, "left", added(0.5, 1))
        assert not find_other_values(model, graph())
    model = graph(TEXT.replace("BatchNormalization(", "BatchNormalization<epsilon = 0.1>("))
    change(model, "left", added(0.5, 1))
    assert not find_other_values(
        model, graph(TEXT.replace("BatchNormalization(", "BatchNormalization<epsilon = 0.2>("))
    )
