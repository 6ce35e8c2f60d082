"""In what precision a graph is stored, as its operators and tensors say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from bnexport.onnx_graph.precision import stored_precision
from bnexport.results.runs import Precision

NODES = {
    "y = Relu(x)": Precision.FLOAT32,
    "h = Cast <to = 10> (x)  y = Cast <to = 1> (h)": Precision.FLOAT16,
    "h = Cast <to = 16> (x)  y = Cast <to = 1> (h)": Precision.BFLOAT16,
    "q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z)": Precision.QDQ,
    "q = QuantizeLinear(s, s, z)  d = DequantizeLinear(q, s, z)  y = Mul(x, d)": Precision.QUANTIZED,
    "d = DequantizeLinear(i, s, z)  y = Mul(x, d)": Precision.WEIGHT_ONLY,
    "y = com.microsoft.MatMulNBits <K = 4, N = 3, bits = 4, block_size = 16> (x, i, s)": Precision.WEIGHT_ONLY,
    "q, a, b = DynamicQuantizeLinear(x)  y = Cast <to = 1> (q)": Precision.DYNAMIC,
    "y = com.microsoft.DynamicQuantizeMatMul(x, i, s)": Precision.DYNAMIC,
    "m = ConvInteger(i, i)  c = Cast <to = 1> (m)  y = Mul(x, c)": Precision.DYNAMIC,
    "q = QLinearConv(i, s, z, i, s, z, s, z)  y = DequantizeLinear(q, s, z)": Precision.QOPERATOR,
    "q = com.microsoft.QGemm(i, s, z, i, s, z, , s, z)  y = DequantizeLinear(q, s, z)": Precision.QOPERATOR,
    "q, a, b = DynamicQuantizeLinear(x)  r = QuantizeLinear(x, s, z)  d = DequantizeLinear(r, s, z)  y = Identity(d)": Precision.MIXED,
    "h = Cast <to = 10> (x)  k = Cast <to = 16> (h)  y = Cast <to = 1> (k)": Precision.MIXED,
}  # fmt: skip


@pytest.mark.parametrize("nodes", NODES)
def test_the_precision_is_what_the_nodes_say(nodes: str) -> None:
    """One form, or several of them; values that are quantised while a file is loaded are no activations."""
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]> g (float[N, 4] x) => (float[N, 4] y) {{ {nodes} }}'
    )
    stored = {"s": np.float32(0.5), "z": np.uint8(1), "i": np.ones((1, 1, 2, 2), np.uint8)}
    for name, value in stored.items():
        if any(name in node.input for node in model.graph.node):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    assert stored_precision(model).precision == NODES[nodes]


def test_weights_in_16_bits_are_counted_beside_the_others() -> None:
    """A file of which one of two weights is float16 says so."""
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }'
    )
    model.graph.initializer.extend(
        [helper.make_tensor("h", onnx.TensorProto.FLOAT16, [1], [1.0]), numpy_helper.from_array(np.float32([1]), "f")]
    )
    found = stored_precision(model)
    assert found.precision == Precision.FLOAT16
    assert found.described == "float16: 1 tensors in float16, 1 weights in float32"
