"""A graph that takes pixels computes what it computes of images that were prepared outside of it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import parser

from bnexport.datasets.preprocess import preprocess
from bnexport.onnx_graph.image_input import take_pixels
from bnexport.results.preprocessing import Layout, Order, Preprocessing, Scaling

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
"""Two pictures of 3x4 pixels."""

SPECS = [
    Preprocessing(
        (3, 4),
        3,
        scaling=scaling,
        layout=layout,
        order=order,
        **({"mean": (0.4, 0.5, 0.6), "std": (0.2,)} if own else {}),
    )
    for layout in Layout
    for order in Order
    for scaling in Scaling
    for own in [scaling == Scaling.MEAN_STD]
    if not (order == Order.BGR and scaling == Scaling.CAFFE)
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.layout}-{spec.order}-{spec.scaling}")
def test_pixels_are_prepared_inside_as_outside(spec: Preprocessing) -> None:
    """To the last bit, but for a mean and a deviation of one's own, which are float64 outside."""
    shape = ", ".join(map(str, spec.shape))
    model = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, {shape}] image, float[1] pixels) => (float[N, {shape}] y) {{ y = Add(image, pixels) }}""")
    assert take_pixels(model, "image", spec) == "pixels_0"  # one has its name already
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = PIXELS if spec.layout == Layout.NHWC else np.moveaxis(PIXELS, -1, 1)
    [y] = session.run(None, {"pixels_0": x, "pixels": np.zeros(1, np.float32)})
    expected = np.stack([preprocess(image, spec) for image in PIXELS])
    if spec.scaling == Scaling.MEAN_STD:
        np.testing.assert_allclose(y, expected, rtol=3e-7, atol=3e-7)
    else:
        np.testing.assert_array_equal(y, expected)
