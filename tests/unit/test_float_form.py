"""The float form of a quantised graph: with every site quantised it is the file, with none the float model, with noise within one step of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from bnexport.onnx_graph.float_form import float_form
from bnexport.onnx_graph.quantised_sites import FloatForm

STEP = np.float32(0.125)
X = np.linspace(-40, 40, 12, dtype=np.float32).reshape(4, 3)
"""Beyond what 8 bits hold at this step, on both sides."""


def graph(text: str, opset: int = 21, **stored: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items())
    onnx.checker.check_model(model)
    return model


def qdq(zero: np.generic | None, attribute: str = "") -> onnx.ModelProto:
    """A tensor that is quantised between two operators behind which no activation is removed."""
    zeros, given = ("", {}) if zero is None else (", z", {"z": np.asarray(zero)})
    return graph(
        f"""(float[N, 3] x) => (float[N, 3] y) {{
            t = Tanh(x)  u = Mul(x, one)  i = Identity(u)
            q = QuantizeLinear {attribute} (i, s{zeros})  d = DequantizeLinear(q, s{zeros})
            y = Add(d, t) }}""",
        s=STEP, one=np.float32(1), **given,
    )  # fmt: skip


def formed(model: onnx.ModelProto) -> FloatForm:
    form = float_form(model)
    assert form is not None
    return form


def outputs(form: FloatForm, quantise: float = 0.0, noise: float = 0.0, x: np.ndarray = X) -> np.ndarray:
    [y] = ReferenceEvaluator(form.graph).run(["y"], {"x": x, **form.gates(quantise, noise)})
    return y


def original(model: onnx.ModelProto, x: np.ndarray = X) -> np.ndarray:
    [y] = ReferenceEvaluator(model).run(["y"], {"x": x})
    return y


ZEROS = {
    "uint8": (np.uint8(100), "", -12.5, 19.375),
    "int8": (np.int8(-28), "", -12.5, 19.375),
    "no zero point": (None, "", 0.0, 31.875),
    "no zero point, int8": (None, "<output_dtype = 3>", -16.0, 15.875),
}


@pytest.mark.parametrize("case", ZEROS)
def test_an_activation_is_the_file_or_the_float_model(case: str) -> None:
    """The site has the step and the range of its integers; quantised it saturates as the file does, and otherwise nothing is cut off."""
    zero, attribute, low, high = ZEROS[case]
    model = qdq(zero, attribute)
    form = formed(model)
    [site] = form.sites
    assert (site.tensor, site.weight, site.scale) == ("i", False, STEP)
    assert (site.low, site.high) == (low, high)
    assert form.inputs == {0: "i"}
    np.testing.assert_allclose(outputs(form, quantise=1), original(model), atol=1e-6)
    np.testing.assert_allclose(outputs(form), X + np.tanh(X), atol=1e-6)
    apart = outputs(form, noise=1) - outputs(form)
    assert 0 < np.abs(apart).max() <= STEP / 2 + 1e-5


@pytest.mark.parametrize(
    ("step", "zero", "least", "most"),
    [(6 / 255, np.uint8(0), 0.0, 6.0), (0.125, np.uint8(0), 0.0, None), (0.125, np.int8(-128), 0.0, None), (0.125, np.uint8(1), None, None)],
)  # fmt: skip
def test_an_activation_that_the_quantiser_removed_is_put_back(
    step: float, zero: np.generic, least: float | None, most: float | None
) -> None:
    """A range that begins at 0 stands for a Relu, one that ends at 6, too, for a Relu6; any other range for nothing."""
    model = graph(
        """(float[N, 3] x) => (float[N, 3] y) {
            u = Mul(x, one)  q = QuantizeLinear(u, s, z)  y = DequantizeLinear(q, s, z) }""",
        s=np.float32(step), z=np.asarray(zero), one=np.float32(1),
    )  # fmt: skip
    np.testing.assert_array_equal(outputs(formed(model)), np.clip(X, least, most))


def test_the_reference_says_which_activation_was_removed() -> None:
    """Where the float graph has none behind the operator, none is put back, whatever the range."""
    text = "(float[N, 3] x) => (float[N, 3] y) { u = Mul(x, one)  q = QuantizeLinear(u, s, z)  y = DequantizeLinear(q, s, z) }"
    model = graph(text, s=STEP, z=np.uint8(0), one=np.float32(1))
    for reference, expected in (
        ("u = Mul(x, one)  y = Neg(u)", X),
        ("h = Mul(x, one)  u = Relu(h)  y = Neg(u)", np.maximum(X, 0)),
        ("h = Mul(x, one)  u = Clip(h, low, high)  y = Neg(u)", np.clip(X, -5, 7)),
        ("h = Mul(x, one)  u = Clip(h, low)  y = Neg(u)", np.maximum(X, -5)),
    ):
        theirs = graph(
            f"(float[N, 3] x) => (float[N, 3] y) {{ {reference} }}",
            one=np.float32(1), low=np.float32(-5), high=np.float32(7),
        )  # fmt: skip
        form = float_form(model, theirs)
        assert form is not None
        np.testing.assert_array_equal(outputs(form), expected)


def test_a_weight_keeps_its_values_and_gets_noise_of_its_step() -> None:
    """Each column of a matrix has its own step; the largest is the site's."""
    scales = np.float32([0.5, 0.25, 2])
    model = graph(
        "(float[N, 3] x) => (float[N, 3] y) { w = DequantizeLinear <axis = 1> (i, s, z)  y = MatMul(x, w) }",
        i=np.arange(9, dtype=np.int8).reshape(3, 3), s=scales, z=np.zeros(3, np.int8),
    )  # fmt: skip
    form = formed(model)
    [site] = form.sites
    assert (site.tensor, site.weight, site.scale) == ("i", True, 2.0)
    row = np.float32([[1, 0, 0]])
    for quantise in (0, 1):
        np.testing.assert_array_equal(outputs(form, quantise, x=row), original(model, row))
    apart = np.abs(outputs(form, noise=1, x=row) - original(model, row))
    assert ((apart > 0) & (apart <= scales / 2)).all()


@pytest.mark.parametrize("channels", [True, False])
def test_a_weight_of_zeros_gets_no_noise(channels: bool) -> None:
    """Its scale is arbitrary, 1 as onnxruntime's quantiser writes it: a bias or a channel of zeros is exact."""
    weights = np.int8([[0, 100], [0, -90]] if channels else [[0, 0], [0, 0]])
    scales = np.float32([1, 0.01]) if channels else np.float32(1)
    text = """(float[N, 2] x) => (float[N, 2] y) { w = DequantizeLinear<axis = 1>(q, s)  y = MatMul(x, w) }"""
    form = formed(graph(text, q=weights, s=scales))
    x = np.ones((4, 2), np.float32)
    moved = np.abs(outputs(form, noise=1.0, x=x) - outputs(form, x=x)).max(axis=0)
    assert moved[0] == 0
    assert (moved[1] > 0) == channels


@pytest.mark.parametrize("zero", [None, 3])
def test_dynamic_quantisation(zero: int | None) -> None:
    """DynamicQuantizeLinear with MatMulInteger: quantised it is the file; with nothing quantised the product with the stored weights."""
    weights = np.int8([[1, -2], [3, 40], [-5, 60]])
    given = {} if zero is None else {"wz": np.int8(zero)}
    model = graph(
        f"""(float[N, 3] x) => (float[N, 2] y) {{
            q, s, z = DynamicQuantizeLinear(x)
            m = MatMulInteger(q, w, z{", wz" if given else ""})  f = Cast <to = 1> (m)  y = Mul(f, s) }}""",
        w=weights, **given,
    )  # fmt: skip
    form = formed(model)
    assert [site.weight for site in form.sites] == [False, True]
    np.testing.assert_allclose(outputs(form, quantise=1), original(model), rtol=1e-5)
    np.testing.assert_allclose(outputs(form), X @ (weights.astype(np.float32) - (zero or 0)), rtol=1e-5, atol=1e-3)


def test_dynamic_convolutions() -> None:
    """The same with ConvInteger and its attributes."""
    model = graph(
        """(float[N, 3] x) => (float[N, 1, 3] y) {
            c = Unsqueeze(x, axes)  q, s, z = DynamicQuantizeLinear(c)
            m = ConvInteger <pads = [1, 1]> (q, w, z)  f = Cast <to = 1> (m)  y = Mul(f, s) }""",
        w=np.int8([[[1, -2, 5]]]), axes=np.int64([1]),
    )  # fmt: skip
    form = formed(model)
    np.testing.assert_allclose(outputs(form, quantise=1), original(model), rtol=1e-5)
    wide = np.pad(X, ((0, 0), (1, 1)))
    np.testing.assert_allclose(
        outputs(form)[:, 0], wide[:, :3] - 2 * wide[:, 1:4] + 5 * wide[:, 2:], rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize(
    "text",
    [
        "(float[N, 3] x, float s) => (float[N, 3] y) { q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }",
        "(float[N, 3] x) => (float[N, 3] y) { q = QuantizeLinear(x, three, zeros)  y = DequantizeLinear(q, three, zeros) }",
    ],
    ids=["a scale that is an input", "a scale for each channel of an activation"],
)
def test_what_has_no_float_form(text: str) -> None:
    """It is None, and nothing is made up."""
    assert float_form(graph(text, z=np.uint8(7), three=np.float32([1, 2, 3]), zeros=np.zeros(3, np.uint8))) is None
