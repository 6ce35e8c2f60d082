"""Which shapes the weights of a layer have by its configuration: a weight of another shape is another layer's, or no weight at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import StoredLayer, UnclearFile, is_foreign
from bnexport.keras_files.policies import quantisation_mode

Sides = tuple[int | None, ...]
"""A shape; None for a side that the configuration does not name."""

Shapes = Mapping[str, Sides]


def refuse_misshapen(model: StoredLayer) -> None:
    """Makes sure that each weight of a model has a shape that its layer can have.

    Raises:
        UnclearFile: one has another shape.
    """
    for layer in model.walk():
        expected = {} if is_foreign(layer.module) else shapes_of(layer.kind, layer.config)
        for name, sides in expected.items():
            weight = layer.weights.get(name)
            if weight is not None and not _fits(weight.shape, sides):
                raise UnclearFile(
                    f"the layer {layer.path} has a {name} of another size",
                    found=f"shape {weight.shape}",
                    expected=f"({', '.join('any' if side is None else str(side) for side in sides)})",
                )
        if layer.kind == "BatchNormalization":
            _refuse_different(layer)


def _refuse_different(layer: StoredLayer) -> None:
    shapes = {weight.shape for weight in layer.weights.values()}
    if len(shapes) > 1:
        sizes = ", ".join(str(shape) for shape in sorted(shapes))
        raise UnclearFile(f"the layer {layer.path} has weights of different sizes", found=sizes)


def _fits(shape: Sides, sides: Sides) -> bool:
    return len(shape) == len(sides) and all(side in (None, own) for own, side in zip(shape, sides, strict=True))


def shapes_of(kind: str, config: Config) -> Shapes:
    """The shapes of the weights of a layer by name, as far as its class and its configuration say.

    >>> shapes_of("Dense", {"units": 3})
    {'kernel': (None, 3), 'bias': (3,)}
    """
    describe = _TABLE.get(kind)
    return describe(config) if describe and quantisation_mode(config) is None else {}


def _number(config: Config, key: str) -> int | None:
    value = config.get(key)
    return value if type(value) is int and value > 0 else None


def _dense(config: Config) -> Shapes:
    units = _number(config, "units")
    return {"kernel": (None, units), "bias": (units,)}


def _window(config: Config, axes: int) -> Sides:
    size = config.get("kernel_size")
    if isinstance(size, Sequence) and len(size) == axes and all(type(side) is int for side in size):
        return tuple(size)
    return (_number(config, "kernel_size"),) * axes


def _convolution(axes: int, *, transposed: bool = False) -> Callable[[Config], Shapes]:
    def describe(config: Config) -> Shapes:
        filters = _number(config, "filters")
        ends = (filters, None) if transposed else (None, filters)
        return {"kernel": (*_window(config, axes), *ends), "bias": (filters,)}

    return describe


def _depthwise(axes: int) -> Callable[[Config], Shapes]:
    return lambda config: {
        "kernel": (*_window(config, axes), None, _number(config, "depth_multiplier")),
        "bias": (None,),
    }


def _separable(axes: int) -> Callable[[Config], Shapes]:
    def describe(config: Config) -> Shapes:
        filters = _number(config, "filters")
        return {
            "depthwise_kernel": (*_window(config, axes), None, _number(config, "depth_multiplier")),
            "pointwise_kernel": (*[1] * axes, None, filters),
            "bias": (filters,),
        }

    return describe


def _times(width: int | None, gates: int) -> int | None:
    return None if width is None else width * gates


def _cell(gates: int) -> Callable[[Config], Shapes]:
    def describe(config: Config) -> Shapes:
        units = _number(config, "units")
        bias: Sides = (_times(units, gates),)
        if gates == 3 and config.get("reset_after", True):
            bias = (2, *bias)
        return {"kernel": (None, _times(units, gates)), "recurrent_kernel": (units, _times(units, gates)), "bias": bias}

    return describe


def _convolution_cell(axes: int) -> Callable[[Config], Shapes]:
    def describe(config: Config) -> Shapes:
        filters, window = _number(config, "filters"), _window(config, axes)
        wide = _times(filters, 4)
        return {
            "kernel": (*window, None, wide),
            "recurrent_kernel": (*window, filters, wide),
            "bias": (wide,),
        }

    return describe


def _rows(*names: str) -> Callable[[Config], Shapes]:
    return lambda _: dict.fromkeys(names, (None,))


def _embedding(config: Config) -> Shapes:
    return {"embeddings": (_number(config, "input_dim"), _number(config, "output_dim"))}


_statistics = _rows("gamma", "beta", "moving_mean", "moving_variance")

_TABLE: dict[str, Callable[[Config], Shapes]] = {
    "BatchNormalization": lambda config: (
        {} if isinstance(config.get("axis"), list) and len(config["axis"]) > 1 else _statistics(config)
    ),
    "Dense": _dense,
    "Embedding": _embedding,
    "GRUCell": _cell(3),
    "GroupNormalization": _rows("gamma", "beta"),
    "LSTMCell": _cell(4),
    "SimpleRNNCell": _cell(1),
    **{f"Conv{axes}D": _convolution(axes) for axes in (1, 2, 3)},
    **{f"Conv{axes}DTranspose": _convolution(axes, transposed=True) for axes in (1, 2, 3)},
    **{f"ConvLSTM{axes}DCell": _convolution_cell(axes) for axes in (1, 2, 3)},
    **{f"DepthwiseConv{axes}D": _depthwise(axes) for axes in (1, 2)},
    **{f"SeparableConv{axes}D": _separable(axes) for axes in (1, 2)},
}
