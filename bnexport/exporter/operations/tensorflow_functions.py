"""TensorFlow functions in the functional models of Keras 2 (TFOpLambda, SlicingOpLambda), as the operations of Keras 3 that compute the same.

Keras 3 cannot load these models. Their files name the function and its arguments, which is all that an export needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bnexport.exporter.arithmetic import elementwise, expand, reshape, transpose
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.promotion import Operand, as_value, is_float
from bnexport.exporter.registry import OPERATIONS, emits
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer
from bnexport.types import Nested

PLAIN = {
    "abs": "Absolute", "ceil": "Ceil", "cos": "Cos", "erf": "Erf", "exp": "Exp", "floor": "Floor", "log": "Log",
    "log1p": "Log1p", "log_sigmoid": "LogSigmoid", "logical_not": "LogicalNot", "negative": "Negative",
    "reciprocal": "Reciprocal", "relu": "Relu", "relu6": "Relu6", "round": "Round", "rsqrt": "Rsqrt", "selu": "Selu",
    "sigmoid": "Sigmoid", "sign": "Sign", "silu": "Silu", "sin": "Sin", "softplus": "Softplus", "softsign": "Softsign",
    "sqrt": "Sqrt", "square": "Square", "swish": "Silu", "tanh": "Tanh", "elu": "Elu", "identity": "Copy",
    "stop_gradient": "Copy", "ones_like": "OnesLike", "zeros_like": "ZerosLike", "zeros_like_v2": "ZerosLike",
    "ones_like_v2": "OnesLike",
}  # fmt: skip
"""Functions of one tensor, by the last part of their name."""

PAIRS = {
    "add": "Add", "atan2": "Arctan2", "divide_no_nan": "DivideNoNan", "eq": "Equal", "equal": "Equal",
    "floor_div": "FloorDivide", "floordiv": "FloorDivide", "floormod": "Mod", "greater": "Greater", "greater_equal": "GreaterEqual", "less": "Less",
    "less_equal": "LessEqual", "logical_and": "LogicalAnd", "logical_or": "LogicalOr", "maximum": "Maximum",
    "minimum": "Minimum", "multiply": "Multiply", "ne": "NotEqual", "not_equal": "NotEqual", "pow": "Power",
    "subtract": "Subtract",
}  # fmt: skip
"""Functions of two tensors."""

REDUCTIONS = {
    "reduce_all": "All", "reduce_any": "Any", "reduce_logsumexp": "Logsumexp", "reduce_max": "Max",
    "reduce_mean": "Mean", "reduce_min": "Min", "reduce_prod": "Prod", "reduce_std": "Std", "reduce_sum": "Sum",
    "reduce_variance": "Var",
}  # fmt: skip


def _operation(g: Graph, layer: StoredLayer, kind: str, config: Config, *args: Nested) -> Nested:
    """What an operation of Keras 3 computes."""
    return OPERATIONS[kind](g, replace(layer, kind=kind, config=config), *args)


Arguments = Mapping[str, Nested]


def _divide(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    value = as_value(g, x)
    if not is_float(value.dtype):
        raise NotCovered("the quotient of integers in TensorFlow, which has 64 bits")
    return _operation(g, layer, "Divide", {}, value, more["y"])


def _squared_difference(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    apart = _operation(g, layer, "Subtract", {}, x, more["y"])
    return elementwise(g, "Mul", apart, apart)


def _matmul(g: Graph, layer: StoredLayer, a: Operand, more: Arguments) -> Nested:
    pair = [as_value(g, a), as_value(g, more["b"])]
    for nth, name in enumerate(("transpose_a", "transpose_b")):
        if more.get(name):
            axes = [*range(pair[nth].rank - 2), pair[nth].rank - 1, pair[nth].rank - 2]
            pair[nth] = transpose(g, pair[nth], axes)
    return _operation(g, layer, "Matmul", {}, *pair)


def _reshape(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    """A shape may have numbers that the graph computes; a single one of them follows from the others."""
    wanted = more["shape"]
    if isinstance(wanted, Value):
        raise NotCovered("a reshape to a shape that the graph computes as a whole")
    free = sum(isinstance(side, Value) or side == -1 for side in wanted)
    if free <= 1:
        sides = [-1 if isinstance(side, Value) else int(side) for side in wanted]
        return _operation(g, layer, "Reshape", {"newshape": sides}, x)
    sizes = [expand(g, side, 0) if isinstance(side, Value) else as_value(g, [side], "int64") for side in wanted]
    shape = [None if isinstance(side, Value) or side == -1 else int(side) for side in wanted]
    return reshape(g, as_value(g, x), shape, [g.cast(size, "int64") for size in sizes])


def _shape(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:  # noqa: ARG001 - the form of all of these
    value = g.in_keras_order(as_value(g, x))
    return g.cast(g.node("Shape", [value], (value.rank,), "int64"), str(more.get("out_type") or "int32"))


def _gather(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    if more.get("batch_dims"):
        raise NotCovered("gather with batch_dims")
    return _operation(g, layer, "Take", {"axis": more.get("axis", 0)}, x, more["indices"])


def _split(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    given = more["num_or_size_splits"]
    if isinstance(given, Sequence):
        given = [sum(given[: nth + 1]) for nth in range(len(given) - 1)]
    return _operation(g, layer, "Split", {"indices_or_sections": given, "axis": more.get("axis", 0)}, x)


def _resize(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    if more.get("preserve_aspect_ratio"):
        raise NotCovered("tf.image.resize with preserve_aspect_ratio")
    config = {"size": more["size"], "interpolation": more.get("method", "bilinear"), "antialias": more.get("antialias")}
    return _operation(g, layer, "Resize", config, x)


def _argmax(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    made = _operation(g, layer, "Argmax", {"axis": more.get("axis", 0)}, x)
    return g.cast(made, str(more.get("output_type") or "int64"))


SPECIAL: dict[str, Callable[[Graph, StoredLayer, Operand, Arguments], Nested]] = {
    "argmax": _argmax,
    "cast": lambda g, layer, x, more: _operation(g, layer, "Cast", {"dtype": more["dtype"]}, x),
    "clip_by_value": lambda g, layer, x, more: _operation(
        g, layer, "Clip", {"x_min": more["clip_value_min"], "x_max": more["clip_value_max"]}, x
    ),
    "concat": lambda g, layer, x, more: _operation(g, layer, "Concatenate", {"axis": more["axis"]}, _several(x)),
    "cumsum": lambda g, layer, x, more: _operation(g, layer, "Cumsum", {"axis": more.get("axis", 0)}, x),
    "depth_to_space": lambda g, layer, x, more: _operation(g, layer, "DepthToSpace", {"block_size": more["block_size"]}, x),
    "divide": _divide,
    "expand_dims": lambda g, layer, x, more: _operation(g, layer, "ExpandDims", {"axis": more["axis"]}, x),
    "gather": _gather,
    "gelu": lambda g, layer, x, more: _operation(g, layer, "Gelu", {"approximate": more.get("approximate", False)}, x),
    "l2_normalize": lambda g, layer, x, more: _length_one(g, layer, x, more),
    "leaky_relu": lambda g, layer, x, more: _operation(g, layer, "LeakyRelu", {"negative_slope": more.get("alpha", 0.2)}, x),
    "log_softmax": lambda g, layer, x, more: _operation(g, layer, "LogSoftmax", {"axis": more.get("axis", -1)}, x),
    "matmul": _matmul,
    "one_hot": lambda g, layer, x, more: _operation(
        g, layer, "OneHot", {"num_classes": more["depth"], "axis": more.get("axis", -1), "dtype": more.get("dtype")}, x
    ),
    "pad": lambda g, layer, x, more: _operation(
        g, layer, "Pad", {"pad_width": more["paddings"], "mode": str(more.get("mode", "constant")).lower()}, x, more.get("constant_values") or None
    ),
    "realdiv": _divide,
    "repeat": lambda g, layer, x, more: _operation(g, layer, "Repeat", {"repeats": more["repeats"], "axis": more.get("axis")}, x),
    "reshape": _reshape,
    "resize": _resize,
    "reverse": lambda g, layer, x, more: _operation(g, layer, "Flip", {"axis": more["axis"]}, x),
    "shape": _shape,
    "softmax": lambda g, layer, x, more: _operation(g, layer, "Softmax", {"axis": more.get("axis", -1)}, x),
    "split": _split,
    "squared_difference": _squared_difference,
    "squeeze": lambda g, layer, x, more: _operation(g, layer, "Squeeze", {"axis": more.get("axis")}, x),
    "stack": lambda g, layer, x, more: _operation(g, layer, "Stack", {"axis": more.get("axis", 0)}, _several(x)),
    "tile": lambda g, layer, x, more: _operation(g, layer, "Tile", {"repeats": more["multiples"]}, x),
    "transpose": lambda g, layer, x, more: _operation(g, layer, "Transpose", {"axes": more.get("perm")}, x),
    "truediv": _divide,
    "unstack": lambda g, layer, x, more: _operation(g, layer, "Unstack", {"axis": more.get("axis", 0), "num": more.get("num")}, x),
    "where": lambda g, layer, x, more: _operation(g, layer, "Where", {}, x, more.get("x"), more.get("y")),
}  # fmt: skip
"""The other functions, with TensorFlow's names of their arguments."""


def _several(given: Nested) -> Nested:
    return given if isinstance(given, Sequence) else [given]


def _length_one(g: Graph, layer: StoredLayer, x: Operand, more: Arguments) -> Nested:
    """TensorFlow's limit is one of the sum of squares, Keras' one of its root."""
    return _operation(
        g, layer, "Normalize", {"axis": more.get("axis"), "epsilon": float(more.get("epsilon", 1e-12)) ** 0.5}, x
    )


@emits("TFOpLambda", mask="off")
def function(g: Graph, layer: StoredLayer, first: Operand, /, **more: Nested) -> Nested:
    """A function of TensorFlow.

    Raises:
        NotCovered: it is none of those above.
    """
    full = str(layer.config.get("function"))
    name, more = full.rsplit(".", 1)[-1], {key: value for key, value in more.items() if key != "name"}
    if name in PLAIN:
        return _operation(g, layer, PLAIN[name], {"dtype": more.get("dtype")}, first)
    if name in PAIRS:
        return _operation(g, layer, PAIRS[name], {}, first, more["y"])
    if name in REDUCTIONS:
        value = as_value(g, first)
        if name in ("reduce_mean", "reduce_std", "reduce_variance") and not is_float(value.dtype):
            raise NotCovered(f"the function tf.{full} of integers")
        return _operation(
            g, layer, REDUCTIONS[name], {"axis": more.get("axis"), "keepdims": more.get("keepdims")}, value
        )
    if name not in SPECIAL:
        raise NotCovered(f"the function tf.{full}")
    return SPECIAL[name](g, layer, first, more)


@emits("SlicingOpLambda", mask="off")
def item(g: Graph, layer: StoredLayer, x: Operand, slice_spec: Nested = None) -> Nested:
    """A part, as Python slices name it."""
    spec = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    key = [
        slice(part.get("start"), part.get("stop"), part.get("step")) if isinstance(part, dict) else part
        for part in spec
    ]
    return _operation(g, layer, "GetItem", {}, x, key)
