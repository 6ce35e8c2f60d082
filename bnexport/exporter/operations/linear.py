"""Nodes of `keras.ops` that are sums of products, and those on images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnexport.exporter.arithmetic import elementwise, expand, matmul, reduce, reshape, squeeze
from bnexport.exporter.axes import cut, pad
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.image_preprocessing import resize_images
from bnexport.exporter.promotion import Operand, as_value, binary, is_float, result_type
from bnexport.exporter.registry import emits_operation
from bnexport.exporter.resizing import as_pixels
from bnexport.keras_files.layers import StoredLayer

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _operands(g: Graph, *given: Operand) -> tuple[list[Value], str]:
    """Values in a dtype that products are computed in, and the dtype that the result has."""
    result = result_type(*given)
    wide = result if is_float(result) else "float64" if result in ("int64", "uint32") else "float32"
    return [g.in_keras_order(as_value(g, value, wide)) for value in given], result


@emits_operation("Matmul")
def product(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The product of matrices, or of a matrix and a vector."""
    (a, b), result = _operands(g, x1, x2)
    if a.rank == 1 and b.rank == 1:
        return g.cast(g.node("MatMul", [a, b], (), a.dtype), result)
    left, right = a.rank == 1, b.rank == 1
    a, b = (expand(g, a, 0) if left else a), (expand(g, b, 1) if right else b)
    made = matmul(g, a, b)
    if left or right:
        made = squeeze(g, made, -2 if left else -1)
    return g.cast(made, result)


@emits_operation("Dot", "Inner", "Outer", "Vdot", "Tensordot")
def dot(g: Graph, layer: StoredLayer, x1: Operand, x2: Operand) -> Value:
    """The sum of products over some axes of both."""
    (a, b), result = _operands(g, x1, x2)
    if layer.kind in ("Outer", "Vdot"):
        a, b = reshape(g, a, (_count(a),)), reshape(g, b, (_count(b),))
    if (a.rank == 0 or b.rank == 0) and layer.kind != "Tensordot":
        return g.cast(elementwise(g, "Mul", a, b), result)
    pairs = {
        "Outer": ([], []),
        "Vdot": ([0], [0]),
        "Inner": ([a.rank - 1], [b.rank - 1]),
        "Dot": ([a.rank - 1], [b.rank - 1 if b.rank == 1 else b.rank - 2]),
    }.get(layer.kind) or _axes(layer.config.get("axes", 2), a, b)
    if pairs == ([a.rank - 1], [0]) and b.rank == 2 and a.rank > 1:
        return g.cast(matmul(g, a, b), result)
    return g.cast(contract(g, a, b, *pairs), result)


def _count(x: Value) -> int | None:
    return None if None in x.shape else math.prod(side or 0 for side in x.shape)


def _axes(given: int | Sequence[int | Sequence[int]], a: Value, b: Value) -> tuple[list[int], list[int]]:
    if isinstance(given, int):
        return list(range(a.rank - given, a.rank)), list(range(given))
    left, right = (list(axes) if isinstance(axes, Sequence) else [axes] for axes in given)
    return [int(axis) % a.rank for axis in left], [int(axis) % b.rank for axis in right]


def contract(g: Graph, a: Value, b: Value, left: Sequence[int], right: Sequence[int]) -> Value:
    """The sum of products over pairs of axes; the other axes of `a`, then those of `b`, are left."""
    first = LETTERS[: a.rank]
    second = list(LETTERS[a.rank : a.rank + b.rank])
    for here, there in zip(left, right, strict=True):
        second[there] = first[here]
    kept = [letter for position, letter in enumerate(first) if position not in left]
    kept += [letter for position, letter in enumerate(second) if position not in right]
    sides = {**dict(zip(second, b.shape, strict=True)), **dict(zip(first, a.shape, strict=True))}
    text = f"{first},{''.join(second)}->{''.join(kept)}"
    return g.node("Einsum", [a, b], [sides[letter] for letter in kept], a.dtype, equation=text)


@emits_operation("Einsum")
def einsum(g: Graph, layer: StoredLayer, *operands: Operand, **_: object) -> Value:
    """The sum of products that an equation names."""
    values, result = _operands(g, *operands)
    text = str(layer.config["subscripts"]).replace(" ", "")
    inputs, arrow, kept = text.partition("->")
    terms = inputs.split(",")
    spare = [letter for letter in LETTERS.upper() if letter not in text]
    dots = max(
        (value.rank - len(term.replace("...", "")) for term, value in zip(terms, values, strict=True)), default=0
    )
    wide = "".join(spare[:dots])
    full = []
    sides: dict[str, int | None] = {}
    for term, value in zip(terms, values, strict=True):
        hidden = value.rank - len(term.replace("...", ""))
        full.append(term.replace("...", wide[dots - hidden :]))
        for letter, side in zip(full[-1], value.shape, strict=True):
            sides[letter] = side if sides.get(letter) in (None, 1) else sides[letter]
    if not arrow:
        every = "".join(full)
        kept = wide + "".join(sorted(letter for letter in set(every) - set(wide) if every.count(letter) == 1))
    kept = kept.replace("...", wide)
    shape = [sides[letter] for letter in kept]
    return g.cast(g.node("Einsum", values, shape, values[0].dtype, equation=f"{','.join(full)}->{kept}"), result)


@emits_operation("Resize")
def resize(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """Images in another size."""
    x = as_value(g, images)
    return as_pixels(g, resize_images(g, x, layer.config, [int(side) for side in layer.config["size"]]), x.dtype)


@emits_operation("RGBToGrayscale")
def gray(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """The brightness of the colours."""
    x = as_value(g, images)
    axis = x.rank - 3 if layer.config.get("data_format") == "channels_first" else x.rank - 1
    if x.shape[axis] == 1:
        return x
    wide = g.cast(x, result_type(x, "float"))
    shape = [3 if position == axis else 1 for position in range(x.rank)]
    weights = np.asarray([0.2989, 0.5870, 0.1140], wide.dtype).reshape(shape)
    return g.cast(reduce(g, "ReduceSum", binary(g, "Mul", wide, weights), [axis], keepdims=True), x.dtype)


def _edges(layer: StoredLayer, x: Value, names: Sequence[str], *, grows: bool) -> dict[int, tuple[int, int]]:
    """How much is added or cut at top and bottom, left and right; one of the pair follows from the size wanted."""
    first = layer.config.get("data_format") == "channels_first"
    axes = [x.rank - 2, x.rank - 1] if first else [x.rank - 3, x.rank - 2]
    edges = {}
    for axis, before, after, target in zip(axes, names[:2], names[2:4], ("target_height", "target_width"), strict=True):
        start, end = layer.config.get(before), layer.config.get(after)
        if start is None or end is None:
            side, wanted = x.shape[axis], layer.config.get(target)
            if side is None or wanted is None:
                raise NotCovered(f"{layer.kind} of images of open size")
            apart = int(wanted) - side if grows else side - int(wanted)
            start = apart - int(end or 0) if start is None else start
            end = apart - int(start) if end is None else end
        edges[axis] = (int(start), int(end))
    return edges


@emits_operation("PadImages")
def pad_images(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """Zeros around images."""
    x = as_value(g, images)
    names = ("top_padding", "left_padding", "bottom_padding", "right_padding")
    return pad(g, x, _edges(layer, x, names, grows=True))


@emits_operation("CropImages")
def crop_images(g: Graph, layer: StoredLayer, images: Operand) -> Value:
    """Images without their edges."""
    x = as_value(g, images)
    names = ("top_cropping", "left_cropping", "bottom_cropping", "right_cropping")
    return cut(g, x, _edges(layer, x, names, grows=False))


@emits_operation("DepthToSpace", "SpaceToDepth")
def blocks(g: Graph, layer: StoredLayer, x: Operand) -> Value:
    """Channels as blocks of pixels, or blocks of pixels as channels."""
    x, size = as_value(g, x), int(layer.config["block_size"])
    last = layer.config.get("data_format") != "channels_first"
    x = g.with_channels_first(x) if last else g.in_keras_order(x)
    rows, columns, channels = x.shape[1:] if last else (*x.shape[2:], x.shape[1])
    if channels is None:
        raise NotCovered(f"{layer.kind} of an open number of channels")
    grows = layer.kind == "DepthToSpace"
    sides = [None if side is None else side * size if grows else side // size for side in (rows, columns)]
    channels = channels // size**2 if grows else channels * size**2
    shape = [x.shape[0], *sides, channels] if last else [x.shape[0], channels, *sides]
    return g.node(layer.kind, [x], shape, x.dtype, channels_first=last, blocksize=size)


@emits_operation("CDist")
def distances(g: Graph, layer: StoredLayer, x: Operand, y: Operand) -> Value:  # noqa: ARG001 - the form of an emitter
    """The distance of each row to each other one."""
    (a, b), _ = _operands(g, x, y)
    apart = elementwise(g, "Sub", expand(g, a, -2), expand(g, b, -3))
    total = reduce(g, "ReduceSum", elementwise(g, "Mul", apart, apart), [-1])
    return replace(g.node("Sqrt", [total], total.shape, total.dtype), mask=None)
