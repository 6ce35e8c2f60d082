"""The float32 form of a graph in 16 bits: without noise it is the same function, with noise each rounding moves a value as far as half a step."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from bnexport.onnx_graph.half_form import as_if_half, half_form
from bnexport.onnx_graph.quantised_sites import NOISE, FloatForm
from bnexport.onnx_graph.tensors import describe

X = np.linspace(-3, 3, 2000, dtype=np.float32).reshape(1000, 2)
HALVES = {"float16": (10, 2.0**-11, 2.0**-25), "bfloat16": (16, 2.0**-8, 0.0)}
"""ONNX' number of the type, half a step relative to a value, and half the smallest step."""


def graph(kind: str = "float") -> onnx.ModelProto:
    """A product, an operator that is exact, and a sum."""
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g ({kind}[N, 2] x) => ({kind}[N, 2] y) {{ p = Mul(x, w)  r = Relu(p)  y = Add(r, x) }}""")
    weights = numpy_helper.from_array(np.float32([1.5, -0.75]), "w")
    if kind != "float":
        number = HALVES[kind][0]
        weights = helper.make_tensor("w", number, [2], [1.5, -0.75])
    model.graph.initializer.append(weights)
    return model


def outputs(form: FloatForm, noise: np.ndarray | float = 0.0) -> np.ndarray:
    [y] = ReferenceEvaluator(form.graph).run(["y"], {"x": X, **form.gates(noise=noise)})
    return y


EXACT = np.maximum(X * np.float32([1.5, -0.75]), 0) + X


def one(form: FloatForm, tensor: str) -> np.ndarray:
    """Noise at one tensor alone."""
    return np.float32([site.tensor == tensor for site in form.sites])


@pytest.mark.parametrize("kind", HALVES)
def test_each_rounding_is_half_a_step(kind: str) -> None:
    """Noise at the output lies within half a step of the value there and fills that range; behind a product, of the product."""
    _, relative, absolute = HALVES[kind]
    form = as_if_half(graph(), kind)
    assert sorted(site.tensor for site in form.sites) == ["p", "w", "x", "y"]  # a Relu rounds nothing
    assert [site.tensor for site in form.sites if site.weight] == ["w"]
    np.testing.assert_array_equal(outputs(form), EXACT)
    product = X * np.float32([1.5, -0.75])
    for tensor, value, seen in (("y", EXACT, np.ones_like(X, bool)), ("p", product, product > 0.01)):
        apart = np.abs(outputs(form, one(form, tensor)) - EXACT)
        reach = relative * np.abs(value) + absolute
        slack = 2.0**-22 * (np.abs(value) + 3)  # float32 rounding of the sums
        assert (apart[seen] <= reach[seen] + slack[seen]).all()
        assert (apart[seen] / reach[seen]).max() > 0.97
        assert not apart[~seen & (product < -0.01)].any()


@pytest.mark.parametrize("kind", HALVES)
def test_a_graph_in_16_bits_is_widened(kind: str) -> None:
    """Everything is float32, the values are those that are stored, and each tensor in 16 bits has its site."""
    model = graph(kind)
    describe(model)
    form = half_form(model)
    assert form is not None
    types = {info.type.tensor_type.elem_type for info in [*form.graph.graph.input, *form.graph.graph.output]}
    assert types == {1}
    assert {site.tensor for site in form.sites} >= {"w", "x", "y"}
    np.testing.assert_array_equal(outputs(form), EXACT)


def test_casts_inside_are_widened() -> None:
    """Also those in the branches of an If; 16384 has the bits of 2.0 in float16."""
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x, bool c) => (float[N, 2] y) {
            h = Cast <to = 10> (x)
            b = If (c) <then_branch = t () => (float16[N, 2] k) { two = Constant <value = float16 {16384}> ()  k = Mul(h, two) },
                        else_branch = e () => (float16[N, 2] m) { f = Cast <to = 1> (h)  m = Cast <to = 10> (f) }>
            y = Cast <to = 1> (b) }""")
    describe(model)
    form = half_form(model)
    assert form is not None
    for condition, expected in ((True, 2 * X), (False, X)):
        feeds = {"x": X, "c": np.array(condition), **form.gates()}
        np.testing.assert_array_equal(ReferenceEvaluator(form.graph).run(["y"], feeds)[0], expected)


def test_a_graph_in_float32_has_no_half_form() -> None:
    """Nothing in it is rounded to 16 bits."""
    assert half_form(graph()) is None
    assert NOISE not in {info.name for info in graph().graph.input}
