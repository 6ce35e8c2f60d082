"""The smallest graph that tells whether a runtime computes: one convolution, and what it must give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IMAGE = np.random.default_rng(0).uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)
KERNEL = np.random.default_rng(1).uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32)

TOLERANCE = 27 * 27 * 2.0**-24
"""27 products are added: each rounding is at most half an eps of a sum of at most 27."""


def convolution() -> bytes:
    """A graph with the input x, shape (1, 3, 16, 16), and the output y, shape (1, 4, 14, 14), serialised."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="convolution")],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 14, 14])],
        [numpy_helper.from_array(KERNEL, "w")],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()
    return content


def expected_output() -> NDArray[np.float64]:
    """What y must be, by the definition of a convolution in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE.astype(np.float64), (3, 3), axis=(2, 3))
    return np.asarray(np.einsum("nchwij,kcij->nkhw", windows, KERNEL.astype(np.float64)))
