"""Small .tflite files, written without TensorFlow by the schema that comes with LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

RELU, FULLY_CONNECTED, SOFTMAX = 19, 9, 25
FLOAT32 = 0


def linear_net(kernel: np.ndarray, batch: int | None = None) -> bytes:
    """The input x (N, 4) through Relu, a linear layer with this kernel (4, 3), and softmax: the output y. N is open, or `batch`."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model, graph, signature = schema.ModelT(), schema.SubGraphT(), schema.SignatureDefT()
    contents = [b"", np.ascontiguousarray(kernel.T, np.float32).tobytes()]
    model.buffers = [schema.BufferT() for _ in contents]
    model.buffers[1].data = np.frombuffer(contents[1], np.uint8)
    inside, outside = kernel.shape
    tensors = {
        "x": (batch, inside),
        "h": (batch, inside),
        "w": (outside, inside),
        "z": (batch, outside),
        "y": (batch, outside),
    }
    graph.tensors = [_tensor(schema, name, shape, buffer=int(name == "w")) for name, shape in tensors.items()]
    graph.inputs, graph.outputs = [0], [4]
    options = schema.BuiltinOptions
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.operators = [
        _operator(schema, 0, [0], [1]),
        _operator(schema, 1, [1, 2, -1], [3], options.FullyConnectedOptions, schema.FullyConnectedOptionsT()),
        _operator(schema, 2, [3], [4], options.SoftmaxOptions, softmax),
    ]
    model.operatorCodes = [_code(schema, code) for code in (RELU, FULLY_CONNECTED, SOFTMAX)]
    signature.signatureKey = "serving_default"
    signature.inputs, signature.outputs = _names(schema, {"x": 0}), _names(schema, {"y": 4})
    model.version, model.subgraphs, model.signatureDefs = 3, [graph], [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(schema: Any, name: str, shape: tuple[int | None, ...], *, buffer: int) -> object:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, FLOAT32, buffer
    tensor.shape = [1 if side is None else side for side in shape]
    tensor.shapeSignature = [-1 if side is None else side for side in shape]
    return tensor


def _operator(
    schema: Any, code: int, inputs: list[int], outputs: list[int], kind: int = 0, options: object = None
) -> object:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _code(schema: Any, code: int) -> object:
    made = schema.OperatorCodeT()
    made.deprecatedBuiltinCode, made.builtinCode, made.version = code, code, 1
    return made


def _names(schema: Any, positions: Mapping[str, int]) -> list[object]:
    names = []
    for name, position in positions.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, position
        names.append(entry)
    return names


def with_scaled_weights(content: bytes, tensor: int, factor: float) -> bytes:
    """A file with other values in one of its float32 constants."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer = model.buffers[model.subgraphs[0].tensors[tensor].buffer]
    values = np.frombuffer(bytes(buffer.data), np.float32) * np.float32(factor)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_another_input(content: bytes, names: Mapping[str, int]) -> bytes:
    """A file with one more input, which nothing reads and which stands first.

    The signature calls the inputs by `names`, which holds their positions; the new one is the last tensor.
    """
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    graph.tensors.append(_tensor(schema, "another", (None, 2), buffer=0))
    graph.inputs = [len(graph.tensors) - 1, *graph.inputs]
    model.signatureDefs[0].inputs = _names(schema, names)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
