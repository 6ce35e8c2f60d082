"""Preprocessing inside of a file: an input of uint8 pixels in front of the one that takes prepared images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnexport.results.preprocessing import Arithmetic, Layout, Preprocessing

if TYPE_CHECKING:
    import onnx

PIXELS = "pixels"
"""What the input is called, with a number behind it where a tensor has that name."""


def take_pixels(model: onnx.ModelProto, image: str, spec: Preprocessing) -> str:
    """Lets a graph take the pixels of images, which it scales itself, in place. The tensors that it has keep their names.

    Args:
        model: the graph.
        image: its input of prepared images: float32, shape (N, H, W, C) or (N, C, H, W) as the layout of `spec` says.
        spec: how images are prepared for it. Its size and kernel are not put into the graph.

    Returns:
        The name of the new input: uint8, of the same shape, channels R G B.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    used = {name for node in graph.node for name in [*node.input, *node.output]} | {info.name for info in graph.input}
    pixels = next(name for name in [PIXELS, *(f"{PIXELS}_{nth}" for nth in range(len(used)))] if name not in used)
    channels = 3 if spec.layout == Layout.NHWC else 1
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, constant: np.ndarray | None = None, axis: int | None = None, to: int | None = None) -> None:
        name = f"{pixels}/{len(nodes)}_{operator}"
        inputs = [nodes[-1].output[0] if nodes else pixels]
        if constant is not None:
            graph.initializer.append(numpy_helper.from_array(constant, f"{name}/constant"))
            inputs.append(f"{name}/constant")
        nodes.append(helper.make_node(operator, inputs, [name], name, axis=axis, to=to))

    if spec.gives_bgr:
        add("Gather", np.array([2, 1, 0], np.int64), axis=channels)
    add("Cast", to=TensorProto.FLOAT)
    for step, values in spec.steps:
        constant = np.array(values, np.float32).reshape((-1,) if channels == 3 else (-1, 1, 1))
        add("Div" if step == Arithmetic.DIVIDE else "Sub", constant)
    nodes[-1].output[:] = [image]

    [info] = [info for info in graph.input if info.name == image]
    graph.value_info.add().CopyFrom(info)
    info.name, info.type.tensor_type.elem_type = pixels, TensorProto.UINT8
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    return pixels
