"""A graph without its large weights, and a session that reads them where they are: it computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bnexport.onnx_graph.sites import sites
from bnexport.onnx_graph.weights import set_apart
from bnexport.runtimes.ort_session import WITHOUT_SPINNING, Session

MODELS = ["tiny_residual.onnx", "torch_residual.onnx"]


@pytest.mark.parametrize("name", MODELS)
def test_weights_that_are_apart_give_the_same_bits(name: str, models: Path) -> None:
    """Held against plain onnxruntime on the file as it is, with the same number of threads; the original does not change."""
    model = onnx.load(models / name)
    before = model.SerializeToString()
    decided = {site.mean for site in sites(model)}
    bare, apart = set_apart(model, decided)
    assert model.SerializeToString() == before
    assert apart
    assert not decided & apart.keys()
    assert len(bare.SerializeToString()) < len(before) - sum(value.nbytes for value in apart.values()) + 200 * len(
        apart
    )
    session = Session(bare.SerializeToString(), settings=WITHOUT_SPINNING, weights=apart)
    [info] = model.graph.input
    shape = [side.dim_value or 3 for side in info.type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    outputs = [output.name for output in model.graph.output]
    plain = onnxruntime.InferenceSession(before, providers=["CPUExecutionProvider"])
    for output, expected in zip(outputs, plain.run(outputs, {info.name: x}), strict=True):
        assert session.run({info.name: x}, [output])[output].tobytes() == expected.tobytes()


def test_what_is_small_or_no_float_or_an_input_stays() -> None:
    """Operators read shapes and axes when a session is made, and what a caller may replace is his."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> g (float[N, 400] x, float[400] given) => (float[N, 400] y) '
        "{ a = Add(x, given)  b = Add(a, large)  y = Add(b, small) }"
    )
    for name, values in (
        ("given", np.zeros(400, np.float32)),
        ("large", np.ones(400, np.float32)),
        ("small", np.ones(1, np.float32)),
        ("numbers", np.zeros(400, np.int64)),
    ):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    bare, apart = set_apart(model, ())
    assert list(apart) == ["large"]
    np.testing.assert_array_equal(apart["large"], np.ones(400, np.float32))
    places = {tensor.name: tensor.data_location for tensor in bare.graph.initializer}
    assert places == {"given": 0, "large": onnx.TensorProto.EXTERNAL, "small": 0, "numbers": 0}
