"""Activation functions and the layers that are one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bnexport.exporter.arithmetic import elementwise, reduce, unary
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.layers.axis_activations import glu, sparsemax
from bnexport.exporter.registry import emits
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype
from bnexport.keras_files.repairs import HARD_SIGMOID

SIMPLE = {
    "elu": "Elu",
    "exponential": "Exp",
    "hard_silu": "HardSwish",
    "hard_swish": "HardSwish",
    "mish": "Mish",
    "relu": "Relu",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
"""The functions that ONNX has an operator for, with Keras' defaults."""


def activate(g: Graph, activation: object, x: Value) -> Value:
    """An activation function, as a configuration names it, on a value; its last axis (in Keras' order) is that of the classes.

    Raises:
        NotCovered: it is none of Keras' own.
    """
    if isinstance(activation, dict):
        inner = activation.get("config")
        if isinstance(inner, dict) and activation.get("class_name") != "function":
            return _layer_as_function(g, str(activation.get("class_name")), inner, x)
        activation = inner
    if activation in (None, "linear"):
        return x
    name = str(activation)
    if "int" in x.dtype:
        x = _of_integers(g, name, x)
    if name in SIMPLE:
        return unary(g, SIMPLE[name], x)
    function = FUNCTIONS.get(name)
    if function is None:
        raise NotCovered(f"the activation {name}")
    return function(g, x)


def _of_integers(g: Graph, name: str, x: Value) -> Value:
    """Integers as the function takes them.

    Raises:
        NotCovered: it does not run in Keras on integers.
    """
    if name in ("relu", "relu6"):
        return x
    if name in ("tanh", "exponential", "leaky_relu"):
        return g.cast(x, "float32")
    raise NotCovered(
        f"the activation {name} of integers, which does not run in Keras either (cast them to float32 before)"
    )


def softmax(g: Graph, x: Value, axis: int = -1) -> Value:
    """Softmax over one axis (in Keras' order)."""
    axis %= x.rank
    made = unary(g, "Softmax", x, axis=_axis_of(x, axis))
    g.logits[made.name] = x
    return made


def _axis_of(x: Value, axis: int) -> int:
    """Where an axis in Keras' order is in the tensor."""
    if not x.channels_first or axis == 0:
        return axis
    return 1 if axis == x.rank - 1 else axis + 1


def sigmoid(g: Graph, x: Value) -> Value:
    """The logistic function."""
    made = unary(g, "Sigmoid", x)
    g.logits[made.name] = x
    return made


def clip(g: Graph, x: Value, least: float | None, most: float | None) -> Value:
    """`x`, at least and at most so much."""
    bounds = [None if bound is None else g.value(bound, x.dtype) for bound in (least, most)]
    made = g.node("Clip", [x, *bounds], x.shape, x.dtype, channels_first=x.channels_first)
    return _with_mask(made, x)


def _with_mask(made: Value, x: Value) -> Value:
    return Value(made.name, made.shape, made.dtype, made.channels_first, x.mask)


def gelu(g: Graph, x: Value, *, approximate: bool = False) -> Value:
    """The Gaussian error linear unit."""
    if approximate:
        cube = elementwise(g, "Mul", elementwise(g, "Mul", x, x), x)
        inner = elementwise(g, "Add", x, elementwise(g, "Mul", cube, 0.044715))
        part = unary(g, "Tanh", elementwise(g, "Mul", inner, float(np.sqrt(2 / np.pi))))
    else:
        part = unary(g, "Erf", elementwise(g, "Div", x, float(np.sqrt(2.0))))
    return elementwise(g, "Mul", elementwise(g, "Mul", x, elementwise(g, "Add", part, 1.0)), 0.5)


def celu(g: Graph, x: Value, *, alpha: float = 1.0) -> Value:
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)); ONNX has Celu for float32 only."""
    if x.dtype == "float32":
        return unary(g, "Celu", x, alpha=alpha)
    power = elementwise(g, "Sub", unary(g, "Exp", elementwise(g, "Div", x, alpha)), 1.0)
    return elementwise(g, "Add", unary(g, "Relu", x), elementwise(g, "Min", elementwise(g, "Mul", power, alpha), 0.0))


def relu(
    g: Graph, x: Value, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Value:
    """Keras' relu with all of its options."""
    if "int" in x.dtype and (threshold or negative_slope):
        if threshold:
            raise NotCovered("a ReLU with a threshold on integers (cast them to float32 before it)")
        x = g.cast(x, "float32")
    if threshold:
        above = elementwise(g, "Greater", x, threshold, dtype="bool")
        negative = (
            elementwise(g, "Mul", elementwise(g, "Sub", x, threshold), negative_slope)
            if negative_slope
            else elementwise(g, "Mul", x, 0.0)
        )
        kept = elementwise(g, "Where", above, x, negative, dtype=x.dtype)
        return _with_mask(kept if max_value is None else clip(g, kept, None, max_value), x)
    if negative_slope:
        made = unary(g, "LeakyRelu", x, alpha=float(negative_slope))
        return made if max_value is None else clip(g, made, None, max_value)
    return unary(g, "Relu", x) if max_value is None else clip(g, x, 0.0, max_value)


def _squareplus(g: Graph, x: Value) -> Value:
    root = unary(g, "Sqrt", elementwise(g, "Add", elementwise(g, "Mul", x, x), 4.0))
    return elementwise(g, "Div", elementwise(g, "Add", x, root), 2.0)


def _sparse_plus(g: Graph, x: Value) -> Value:
    """0 up to -1, x from 1 on, and ((x + 1) / 2)^2 between."""
    half = elementwise(g, "Mul", elementwise(g, "Add", clip(g, x, -1.0, 1.0), 1.0), 0.5)
    above = elementwise(g, "GreaterOrEqual", x, 1.0, dtype="bool")
    return elementwise(g, "Where", above, x, elementwise(g, "Mul", half, half), dtype=x.dtype)


def _sparse_sigmoid(g: Graph, x: Value) -> Value:
    return elementwise(g, "Mul", elementwise(g, "Add", clip(g, x, -1.0, 1.0), 1.0), 0.5)


def _between(g: Graph, x: Value, inside: Value | None, outside: Value | None, bound: float) -> Value:
    """One value where |x| is at most `bound`, another one elsewhere; 0 for None."""
    zero = elementwise(g, "Mul", x, 0.0)
    within = elementwise(g, "LessOrEqual", unary(g, "Abs", x), bound, dtype="bool")
    return elementwise(g, "Where", within, inside or zero, outside or zero, dtype=x.dtype)


FUNCTIONS: dict[str, Callable[[Graph, Value], Value]] = {
    "celu": celu,
    "gelu": gelu,
    "glu": glu,
    "hard_shrink": lambda g, x: _between(g, x, None, x, 0.5),
    "hard_sigmoid": lambda g, x: unary(g, "HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hard_tanh": lambda g, x: clip(g, x, -1.0, 1.0),
    HARD_SIGMOID: lambda g, x: unary(g, "HardSigmoid", x, alpha=0.2, beta=0.5),
    "leaky_relu": lambda g, x: unary(g, "LeakyRelu", x, alpha=0.2),
    "log_sigmoid": lambda g, x: unary(g, "Neg", unary(g, "Softplus", unary(g, "Neg", x))),
    "log_softmax": lambda g, x: unary(g, "LogSoftmax", x, axis=_axis_of(x, x.rank - 1)),
    "relu6": lambda g, x: clip(g, x, 0.0, 6.0),
    "selu": lambda g, x: unary(g, "Selu", x, alpha=1.6732632423543772, gamma=1.0507009873554805),
    "sigmoid": sigmoid,
    "silu": lambda g, x: elementwise(g, "Mul", x, unary(g, "Sigmoid", x)),
    "soft_shrink": lambda g, x: elementwise(g, "Sub", x, clip(g, x, -0.5, 0.5)),
    "softmax": softmax,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
    "sparsemax": sparsemax,
    "squareplus": _squareplus,
    "swish": lambda g, x: elementwise(g, "Mul", x, unary(g, "Sigmoid", x)),
    "tanh_shrink": lambda g, x: elementwise(g, "Sub", x, unary(g, "Tanh", x)),
    "threshold": lambda g, x: _threshold(g, x, 0.0, 0.0),
}
"""The other functions of `keras.activations`, with its defaults."""


def _threshold(g: Graph, x: Value, least: float, value: float) -> Value:
    above = elementwise(g, "Greater", x, least, dtype="bool")
    return elementwise(g, "Where", above, x, g.value(value, x.dtype), dtype=x.dtype)


def _layer_as_function(g: Graph, kind: str, config: Config, x: Value) -> Value:
    emitter = ACTIVATION_LAYERS.get(kind)
    if emitter is None:
        raise NotCovered(f"the activation {kind}")
    return emitter(g, config, g.cast(x, compute_dtype(config.get("dtype"))) if x.floating else x)


def _softmax_layer(g: Graph, config: Config, x: Value, mask: Value | None = None) -> Value:
    axis = config.get("axis", -1)
    if mask is not None:
        hidden = elementwise(g, "Sub", 1.0, g.cast(mask, x.dtype))
        lowest = np.finfo(x.dtype).min / 2 if x.dtype != "float16" else -3e4
        x = elementwise(g, "Add", x, elementwise(g, "Mul", hidden, float(lowest)))
    axes = axis if isinstance(axis, Sequence) else [axis]
    if len(axes) == 1:
        return softmax(g, x, axes[0])
    x = g.in_keras_order(x)
    powers = unary(g, "Exp", elementwise(g, "Sub", x, reduce(g, "ReduceMax", x, axes, keepdims=True)))
    return elementwise(g, "Div", powers, reduce(g, "ReduceSum", powers, axes, keepdims=True))


def as_float(g: Graph, x: Value) -> Value:
    """Integers as float32, as Keras converts them."""
    return g.cast(x, "float32") if "int" in x.dtype else x


ACTIVATION_LAYERS: dict[str, Callable[[Graph, Config, Value], Value]] = {
    "Activation": lambda g, c, x: activate(g, c.get("activation"), x),
    "Identity": lambda g, c, x: x,  # noqa: ARG005 - the form of the others
    "ReLU": lambda g, c, x: relu(
        g,
        x,
        negative_slope=float(c.get("negative_slope") or 0.0),
        max_value=c.get("max_value"),
        threshold=float(c.get("threshold") or 0.0),
    ),
    "LeakyReLU": lambda g, c, x: unary(
        g, "LeakyRelu", as_float(g, x), alpha=_number(c, "negative_slope", "alpha", 0.3)
    ),
    "ELU": lambda g, c, x: unary(g, "Elu", x, alpha=_number(c, "alpha", "alpha", 1.0)),
    "ThresholdedReLU": lambda g, c, x: _threshold(g, x, _number(c, "theta", "theta", 1.0), 0.0),
    "Softmax": _softmax_layer,
}
"""The layers without weights that are functions of their input and their configuration."""


def _number(config: Config, name: str, former: str, default: float) -> float:
    """A number in a configuration; old Keras wrote some as arrays of one number."""
    given = config.get(name, config.get(former, default))
    if isinstance(given, dict):
        given = given.get("value", given.get("config", {}).get("value"))
    return default if given is None else float(np.asarray(given).reshape(-1)[0])


@emits("Activation")
def activation(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """Any activation function by its name."""
    return activate(g, layer.config.get("activation"), inputs)


@emits("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU")
def activation_layer(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """The layers of ACTIVATION_LAYERS."""
    return _layer_as_function(g, layer.kind, layer.config, inputs)


@emits("Softmax")
def softmax_layer(g: Graph, layer: StoredLayer, inputs: Value, mask: Value | None = None) -> Value:
    """Softmax over one axis or several; masked positions get nothing."""
    return _softmax_layer(g, layer.config, inputs, mask if mask is not None else None)


@emits("PReLU")
def prelu(g: Graph, layer: StoredLayer, inputs: Value) -> Value:
    """relu(x) - alpha * relu(-x), with alpha of the input's shape (or 1 on shared axes)."""
    alpha = g.weight("alpha", layer.array("alpha").astype(inputs.dtype))
    negative = elementwise(g, "Mul", alpha, unary(g, "Relu", unary(g, "Neg", inputs)))
    return elementwise(g, "Sub", unary(g, "Relu", inputs), negative)
