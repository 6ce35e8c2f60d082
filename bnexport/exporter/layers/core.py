"""Dense, EinsumDense, Embedding, Masking and the layers that hand their input on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnexport.errors import ExportError
from bnexport.exporter.arithmetic import elementwise, expand, has_other_axis, integers, matmul, reduce
from bnexport.exporter.graph import Graph, Shape, Value, numpy_dtype
from bnexport.exporter.layers import quantised
from bnexport.exporter.layers.activations import activate
from bnexport.exporter.registry import emits
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype


def stored(g: Graph, layer: StoredLayer, name: str, dtype: str) -> Value:
    """A weight as the file has it, in the dtype that the layer computes in."""
    return g.weight(name, layer.array(name).astype(numpy_dtype(dtype), copy=False))


def finish(g: Graph, layer: StoredLayer, x: Value) -> Value:
    """The layer's activation on its result."""
    with g.scope("activation"):
        return activate(g, layer.config.get("activation"), x)


def refuse_other_axis(layer: StoredLayer, shape: Shape, bias: Shape) -> None:
    """Refuses a bias that the backends of Keras add along different axes (`has_other_axis`); tf2onnx takes one of them for the other.

    Raises:
        ExportError: they do.
    """
    if has_other_axis(shape, bias):
        long = max(side or 1 for side in bias)
        raise ExportError(
            f"EX002: Keras on TensorFlow adds the bias of the layer {layer.name} along another axis than its other backends do, "
            f"because two axes of its output are of size {long}",
            fix="build the model with the channels last, or without this bias",
        )


@emits("Identity", "InputLayer")
def identity(g: Graph, layer: StoredLayer, inputs: Value) -> Value:  # noqa: ARG001 - the form of an emitter
    """The input itself."""
    return inputs


@emits("Dense")
def dense(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """X W + b over the last axis."""
    x = g.in_keras_order(inputs)
    if quantised.is_quantised(layer):
        kernel = quantised.weight(g, layer, "kernel", "float32")
        scale = stored(g, layer, "kernel_scale", x.dtype)
        result = quantised.product(g, layer, x, [-1], scale, lambda x: matmul(g, x, kernel), lambda factor: factor)
        if layer.config.get("use_bias", True):
            result = elementwise(g, "Add", result, stored(g, layer, "bias", x.dtype))
        return finish(g, layer, result)
    kernel = stored(g, layer, "kernel", x.dtype)
    bias = stored(g, layer, "bias", x.dtype) if layer.config.get("use_bias", True) else None
    if x.rank == 2 and bias is not None:
        result = g.node("Gemm", [x, kernel, bias], (x.shape[0], kernel.shape[1]))
    else:
        result = matmul(g, x, kernel)
        result = result if bias is None else elementwise(g, "Add", result, bias)
    return finish(g, layer, result)


@emits("EinsumDense", mask="off")
def einsum_dense(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The sum of products that the layer's equation names, plus bias."""
    x = g.in_keras_order(inputs)
    return finish(g, layer, einsum_with_bias(g, layer, x))


def einsum_with_bias(g: Graph, layer: StoredLayer, x: Value) -> Value:
    """The same without activation: as a product of matrices where the equation is one."""
    kernel = layer.array("kernel")
    left, right, result = equation(str(layer.config["equation"]), x.rank, kernel.ndim)
    sizes = {**dict(zip(right, kernel.shape, strict=True))}
    sides = {**dict(zip(left, x.shape, strict=True)), **sizes}
    shape = tuple(sides[axis] for axis in result)
    summed = [axis for axis in left if axis not in result]
    kept, new = left[: len(left) - len(summed)], [axis for axis in right if axis not in summed]
    if quantised.is_quantised(layer):
        matrix = quantised.weight(g, layer, "kernel", "float32")
        value = quantised.product(
            g,
            layer,
            x,
            [axis for axis, letter in enumerate(left) if letter in summed],
            stored(g, layer, "kernel_scale", x.dtype),
            lambda x: g.node("Einsum", [x, matrix], shape, "float32", equation=f"{left},{right}->{result}"),
            lambda factor: quantised.aligned(g, factor, left, result),
        )
        return _with_bias(g, layer, value)
    kernel = kernel.astype(numpy_dtype(x.dtype), copy=False)
    plain = list(left) == [*kept, *summed] and list(result) == [*kept, *new] and not set(kept) & set(right)
    if plain and len(summed) == 1 and list(right) == [*summed, *new]:
        value = matmul(g, x, g.weight("kernel", kernel.reshape(kernel.shape[0], -1)))
        if len(new) > 1:
            value = _split_last(g, value, shape)
    else:
        value = g.node("Einsum", [x, g.weight("kernel", kernel)], shape, equation=f"{left},{right}->{result}")
    return _with_bias(g, layer, value)


def _with_bias(g: Graph, layer: StoredLayer, value: Value) -> Value:
    if not layer.config.get("bias_axes"):
        return value
    bias = stored(g, layer, "bias", value.dtype)
    refuse_other_axis(layer, value.shape, bias.shape)
    return elementwise(g, "Add", value, bias)


def _split_last(g: Graph, x: Value, shape: tuple[int | None, ...]) -> Value:
    kept = x.rank - 1
    return g.node("Reshape", [x, integers(*[0] * kept, *(side or 0 for side in shape[kept:]))], shape)


def equation(text: str, rank: int, kernel_rank: int) -> tuple[str, str, str]:
    """The axes of input, kernel and result in an equation, "..." written out."""
    inputs, _, result = text.replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    spare = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in text]
    hidden = rank - len(left.replace("...", "")) if "..." in left else kernel_rank - len(right.replace("...", ""))
    dots = "".join(spare[:hidden]) if "..." in text else ""
    return left.replace("...", dots), right.replace("...", dots), result.replace("...", dots)


@emits("Embedding", mask="own")
def embedding(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The rows of a table by number; with mask_zero a mask of what is not 0."""
    ids = inputs if inputs.dtype in ("int32", "int64") else g.cast(inputs, "int32")
    dtype = compute_dtype(layer.config.get("dtype"))
    if quantised.is_quantised(layer):
        made = quantised.rows(g, layer, "embeddings", ids, dtype)
    else:
        table = layer.array("embeddings")
        weight = g.weight("embeddings", table.astype(numpy_dtype(dtype), copy=False))
        made = g.node("Gather", [weight, ids], (*ids.shape, table.shape[1]), dtype)
    if not layer.config.get("mask_zero"):
        return made
    given = (
        g.cast(inputs, "float64" if inputs.dtype == "float64" else "float32") if inputs.floating else ids
    )  # 0.3 is not 0, though its row is the first one
    zero = g.constant(np.zeros((), given.dtype))
    return replace(made, mask=g.node("Not", [g.node("Equal", [given, zero], ids.shape, "bool")], ids.shape, "bool"))


@emits("Masking", mask="own")
def masking(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Steps in which every number is the mask value become 0 and are masked."""
    x = g.in_keras_order(inputs)
    value = g.value(float(layer.config.get("mask_value", 0.0)), x.dtype)
    same = g.node("Equal", [x, value], x.shape, "bool")
    other = g.cast(g.node("Not", [same], x.shape, "bool"), x.dtype)
    kept = reduce(g, "ReduceMax", other, [-1])
    mask = g.node("Greater", [kept, g.value(0.0, x.dtype)], kept.shape, "bool")
    return replace(elementwise(g, "Mul", x, expand(g, kept, -1)), mask=mask)


@emits("LayerScale")
def layer_scale(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The layer of ConvNeXt: each channel times a weight."""
    return elementwise(g, "Mul", inputs, stored(g, layer, "gamma", inputs.dtype))


@emits("CustomScaleLayer")
def scale_and_add(g: Graph, layer: StoredLayer, inputs: list[Value]) -> Value:
    """The layer of InceptionResNetV2: the first input plus the second one times a number."""
    return elementwise(g, "Add", inputs[0], elementwise(g, "Mul", inputs[1], float(layer.config.get("scale", 1.0))))


@emits("StochasticDepth")
def stochastic_depth(g: Graph, layer: StoredLayer, inputs: Value) -> Value:  # noqa: ARG001 - the form of an emitter
    """The layer of ConvNeXt that leaves out blocks in training: the input itself."""
    return inputs
