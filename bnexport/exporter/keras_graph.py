"""The inference graph of a Keras file: its network is walked, and each layer writes its operators (no framework)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bnexport.errors import InputError
from bnexport.exporter.graph import Graph, NotCovered, Value
from bnexport.exporter.registry import MASKLESS, OWN_MASK, emitter_of, is_operation
from bnexport.keras_files.arguments import Tensor, leaves
from bnexport.keras_files.graph import Network, execution_order, network
from bnexport.keras_files.layers import StoredLayer
from bnexport.keras_files.policies import compute_dtype
from bnexport.keras_files.repairs import LEGACY
from bnexport.types import Nested


def find_uncovered(model: StoredLayer) -> dict[str, str]:
    """The layers that no function covers, by path, each with what is missing."""
    missing: dict[str, str] = {}
    for call in network(model).calls:
        if call.layer.kind in LEGACY and not is_operation(call.layer.module):
            missing |= find_uncovered(call.layer)
            continue
        try:
            emitter_of(call.layer.kind, call.layer.module)
        except NotCovered as reason:
            missing[call.layer.path] = str(reason)
    return missing


def write_network(g: Graph, model: StoredLayer, inputs: Sequence[Value]) -> list[Value]:
    """Adds all layers of a model.

    Args:
        g: the graph.
        model: a functional or Sequential model.
        inputs: a value for each of its inputs.

    Returns:
        Its outputs, in the order in which `keras.tree.flatten` gives them.

    Raises:
        NotCovered: a layer, or an option of one, has no operators.
    """
    net: Network = network(model)
    made: dict[Tensor, Value] = dict(zip(net.inputs, inputs, strict=True))
    unmasking = any(part.kind in UNMASKING for call in net.calls for part in call.layer.walk())
    for call in execution_order(net) if unmasking else net.calls:
        args, kwargs = fill(call.args, made), fill(call.kwargs, made)
        outputs = write_call(g, call.layer, args, kwargs)
        for position, value in enumerate(flat(outputs)):
            made[Tensor(call.layer.name, call.nth, position)] = value
    return [_value_of(made, tensor) for tensor in net.outputs]


def _value_of(made: Mapping[Tensor, Value], tensor: Tensor) -> Value:
    value = made.get(tensor)
    if value is None:
        raise InputError(f"the layer {tensor.layer} has no output {tensor.index}, which the model reads")
    return value


UNMASKING = {"MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"}
"""The layers that take the masks from their inputs: which layer sees them still depends on the order of the calls."""

INTEGERS_KEPT = {"Embedding", "ReversibleEmbedding", "SpectralNormalization"}
"""The layers with weights whose integers are positions in a table, or go on to the layer inside."""

INTEGERS_REFUSED = {
    *("UnitNormalization", "Softmax", "ELU", "PReLU", "Attention", "MaxPooling3D", "AdaptiveMaxPooling3D"),
    *(f"{kind}Pooling{axes}D" for kind in ("Average", "AdaptiveAverage") for axes in (1, 2, 3)),
}
"""The layers that do not run in Keras on integers."""

INTEGERS_ROUNDED = {"LayerNormalization", "GroupNormalization", "RMSNormalization"}
"""The layers whose results Keras rounds towards zero where they are called with integers."""

WEIGHTS_INSIDE = {
    *("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention", "Bidirectional", "RNN"),
    *("SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
}
"""The layers whose inputs meet the weights of what is inside them."""


def write_call(g: Graph, layer: StoredLayer, args: Sequence[Nested], kwargs: Mapping[str, Nested]) -> Nested:
    """Adds one call of a layer, an operation or a nested model; gives its outputs as the layer returns them.

    Raises:
        NotCovered: it has no operators; the reason names it.
    """
    if layer.kind in LEGACY and not is_operation(layer.module):
        inputs, wanted = list(flat(args[:1])), len(network(layer).inputs)
        if len(inputs) != wanted:
            raise InputError(
                f"the model {layer.path} is called with another number of inputs",
                found=f"{len(inputs)}",
                expected=f"{wanted}",
            )
        outputs = write_network(g, layer, inputs)
        return outputs[0] if len(outputs) == 1 else outputs
    # what a file has for `training` does not count: model(x, training=False) and predict replace it in every layer
    kwargs = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
    args = [map_values(value, lambda value: _without_lost_mask(g, value)) for value in args]
    kwargs = {name: map_values(given, lambda value: _without_lost_mask(g, value)) for name, given in kwargs.items()}
    emitter = emitter_of(layer.kind, layer.module)
    with g.layer(layer.path):
        if is_operation(layer.module):
            return map_values(emitter(g, layer, *args, **kwargs), lambda value: replace(value, mask=None))
        dtype = compute_dtype(layer.config.get("dtype"))
        if layer.config.get("autocast", True):
            args, kwargs = autocast(g, args, dtype), autocast(g, kwargs, dtype)
        _refuse_integers(layer, args)
        if _meets_weights(layer):
            args = [_as_float(g, value, dtype) for value in args]
            kwargs = {name: _as_float(g, given, dtype) for name, given in kwargs.items()}
        outputs = emitter(g, layer, *args, **kwargs)
    if layer.kind in OWN_MASK:
        return outputs
    first = next((value for value in flat((*args, *kwargs.values()))), None)
    mask = first.mask if first is not None and layer.kind not in MASKLESS else None
    return map_values(outputs, lambda value: replace(value, mask=mask))


def _without_lost_mask(g: Graph, value: Value) -> Value:
    return replace(value, mask=None) if value.name in g.unmasked else value


def write_part(g: Graph, part: StoredLayer, *args: Nested, **kwargs: Nested) -> Nested:
    """Adds one call of a layer that is inside another one (a wrapper's), in the scope of that one's name.

    Raises:
        NotCovered: it has no operators; the reason names it.
    """
    return write_call(g, part, args, kwargs)


def autocast(g: Graph, given: Nested, dtype: str) -> Nested:
    """Floating-point values of a structure in the dtype that the layer computes in."""
    return map_values(given, lambda value: g.cast(value, dtype) if value.floating else value)


def _refuse_integers(layer: StoredLayer, args: Sequence[Nested]) -> None:
    """Refuses integers for layers that compute with floating-point numbers only.

    Raises:
        NotCovered: the layer is called with some.
    """
    if not any("int" in value.dtype for value in flat(args)):
        return
    way = "cast them to float32 before it"
    if layer.kind in INTEGERS_REFUSED:
        raise NotCovered(f"{layer.kind} layers on integers, which do not run in Keras either ({way})")
    if layer.kind in INTEGERS_ROUNDED:
        raise NotCovered(f"{layer.kind} layers on integers, whose results Keras rounds towards zero ({way})")


def _meets_weights(layer: StoredLayer) -> bool:
    """Whether numbers that a layer takes are computed with weights that are no integers."""
    own = any("float" in weight.dtype for weight in layer.weights.values())
    return (own and layer.kind not in INTEGERS_KEPT) or layer.kind in WEIGHTS_INSIDE


def _as_float(g: Graph, given: Nested, dtype: str) -> Nested:
    """Integers as numbers of the dtype: where they meet weights, Keras promotes them, and the weights must not be rounded instead."""
    return map_values(given, lambda value: g.cast(value, dtype) if "int" in value.dtype else value)


def map_values(structure: Nested, function: Callable[[Value], Value]) -> Nested:
    """A structure with each of its values replaced."""
    if isinstance(structure, Value):
        return function(structure)
    if isinstance(structure, list | tuple):
        return type(structure)(map_values(part, function) for part in structure)
    if isinstance(structure, dict):
        return {key: map_values(part, function) for key, part in structure.items()}
    return structure


def flat(structure: Nested) -> Iterable[Value]:
    """The values of a structure (`leaves`)."""
    return leaves(structure, Value)


def fill(structure: Nested, made: Mapping[Tensor, Value]) -> Nested:
    """The arguments of a call with values in the position of the tensors."""
    if isinstance(structure, Tensor):
        return _value_of(made, structure)
    if isinstance(structure, list | tuple):
        return type(structure)(fill(part, made) for part in structure)
    if isinstance(structure, dict):
        return {key: fill(part, made) for key, part in structure.items()}
    return structure
