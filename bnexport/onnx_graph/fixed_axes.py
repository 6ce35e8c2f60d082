"""ONNX models whose open axes have sizes, for runtimes that cannot follow open ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bnexport.onnx_graph import tensors

if TYPE_CHECKING:
    import onnx


def fix_axes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """A copy of a model whose inputs have these shapes; its other tensors are not described."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    sizes: dict[str, int] = {}
    for info in tensors.inputs(copy):
        for side, size in zip(info.type.tensor_type.shape.dim, shapes[info.name], strict=True):
            if side.dim_param:
                sizes[side.dim_param] = size
            side.dim_value = size
    del copy.graph.value_info[:]
    for info in copy.graph.output:
        for side in info.type.tensor_type.shape.dim:
            if side.dim_param in sizes:
                side.dim_value = sizes[side.dim_param]
    return copy
