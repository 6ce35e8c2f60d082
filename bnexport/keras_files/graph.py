"""The calls in a model's configuration, of Keras 1 to 3, as one form (no framework)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bnexport.errors import InputError
from bnexport.keras_files.arguments import Tensor, is_reference, of_keras2, plain, tensors_in
from bnexport.keras_files.layers import StoredLayer, UnclearFile
from bnexport.keras_files.policies import input_dtype
from bnexport.keras_files.repairs import MODELS, input_shape_of
from bnexport.types import Nested

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer.

    Args:
        layer: what is called.
        nth: which of its calls, from 0.
        args: the positional arguments: nested lists, tuples and dictionaries with tensors and plain values.
        kwargs: the others.
    """

    layer: StoredLayer
    nth: int
    args: tuple[Nested, ...]
    kwargs: dict[str, Nested]


@dataclass(frozen=True, slots=True)
class Network:
    """What a model computes.

    Args:
        inputs: its inputs, in the order of `model.inputs`.
        outputs: its outputs, in the order in which `keras.tree.flatten` gives them.
        calls: ordered so that every tensor is made before it is read.
        shapes: of each input, batch axis included.
        dtypes: of each input, by Keras' name.
        input_structure: the inputs as the model takes them.
        output_structure: the outputs as it returns them.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: tuple[Call, ...]
    shapes: Mapping[Tensor, Shape]
    dtypes: Mapping[Tensor, str]
    input_structure: Nested
    output_structure: Nested


def network(model: StoredLayer) -> Network:
    """The calls of a functional or Sequential model.

    Raises:
        InputError: the configuration does not say what is connected with what.
    """
    return _sequential(model) if model.kind == "Sequential" else _functional(model)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, those that occur again with "#2", "#3" and so on behind them."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = nth = seen.get(name, 0) + 1
        result.append(name if nth == 1 else f"{name}#{nth}")
    return result


def output_names(outputs: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """What outputs are called after the layers that make them; an input that is an output, too, is "x/output" there.

    >>> output_names(["x", "dense", "dense"], ["x"])
    ['x/output', 'dense', 'dense#2']
    """
    return distinct([f"{name}/output" if name in inputs else name for name in outputs])


def _sequential(model: StoredLayer) -> Network:
    layers = list(model.parts.values())
    if not layers:
        raise InputError(f"the Sequential model {model.name} has no layers")
    if layers[0].kind == "InputLayer":
        first, layers = layers[0], layers[1:]
        start = Tensor(first.name, 0, 0)
        shape, dtype = _input_shape(first), _input_dtype(first)
    else:
        start = Tensor(f"{model.name}_input", 0, 0)
        given = input_shape_of({"config": model.config}) or model.config.get("build_input_shape")
        if not isinstance(given, list):
            raise UnclearFile(
                f"the inputs of the model {model.name} are not recorded (an unbuilt model)",
                fix="call it on an input before saving it",
            )
        shape, dtype = _shape(given), "float32"
    value, calls = start, []
    for layer in layers:
        calls.append(Call(layer, 0, (value,), {}))
        value = Tensor(layer.name, 0, 0)
    return Network((start,), (value,), tuple(calls), {start: shape}, {start: dtype}, start, value)


def _functional(model: StoredLayer) -> Network:
    config = model.config
    entries = config.get("layers")
    if not isinstance(entries, list) or "input_layers" not in config or "output_layers" not in config:
        raise UnclearFile(
            f"the calls of the model {model.name or model.kind} are not recorded (a subclassed model)",
            fix="save it as a functional or Sequential model",
        )
    ins, outs = _ends(config["input_layers"], model), _ends(config["output_layers"], model)
    inputs, outputs = tuple(tensors_in(ins)), tuple(tensors_in(outs))
    waiting = []
    for entry in entries:
        layer = _layer(model, str(entry["config"].get("name") or entry.get("name")))
        nodes = entry.get("inbound_nodes") or []
        if not isinstance(nodes, list):
            raise _not_recorded(layer, nodes)
        waiting += [_call(layer, nth, node, model) for nth, node in enumerate(nodes) if node]
    _refuse_unsorted(waiting, entries)
    unknown = [t for t in (*inputs, *outputs) if t.layer not in model.parts]
    if unknown or not inputs:
        raise InputError(f"the model {model.name} has no layer {unknown[0].layer if unknown else 'as its input'}")
    return Network(
        inputs,
        outputs,
        tuple(_in_order(waiting, inputs, outputs, model)),
        {tensor: _input_shape(model.parts[tensor.layer]) for tensor in inputs},
        {tensor: _input_dtype(model.parts[tensor.layer]) for tensor in inputs},
        ins,
        outs,
    )


def _refuse_unsorted(calls: Sequence[Call], entries: Sequence[object]) -> None:
    """Keras numbers layers, and finds their weights, in the order in which it writes them: each behind what one of its calls reads.

    Raises:
        UnclearFile: they are in another order.
    """
    position: dict[str, int] = {}
    for nth, entry in enumerate(entries):
        if isinstance(entry, dict) and isinstance(entry.get("config"), dict):
            position.setdefault(str(entry["config"].get("name") or entry.get("name")), nth)
    sorted_calls = {
        call.layer.name
        for call in calls
        if all(position.get(t.layer, -1) < position[call.layer.name] for t in tensors_in((call.args, call.kwargs)))
    }
    late = [call.layer.name for call in calls if call.layer.name not in sorted_calls]
    if late:
        raise UnclearFile("the layers of the model are not in the order in which Keras writes them", found=late[0])


def execution_order(net: Network) -> list[Call]:
    """The calls in the order in which Keras runs them: by their distance from the outputs, the last ones of one distance first."""
    calls = {(call.layer.name, call.nth): call for call in net.calls}
    depths: dict[tuple[str, int], int] = {}
    of_layer: dict[str, int] = {}
    for key, call in reversed(calls.items()):
        depth = max(depths.setdefault(key, 0), of_layer.get(key[0], 0))
        depths[key] = of_layer[key[0]] = depth
        for tensor in tensors_in((call.args, call.kwargs)):
            source = (tensor.layer, tensor.call)
            if source in calls:
                depths[source] = max(depth + 1, depths.get(source, 0))
    return [calls[key] for key in sorted(depths, key=lambda key: -depths[key])]


def _layer(model: StoredLayer, name: str) -> StoredLayer:
    layer = model.parts.get(name)
    if layer is None:
        raise InputError(f"the model {model.name} calls a layer that it does not have", found=name)
    return layer


def _in_order(
    waiting: Sequence[Call], inputs: Sequence[Tensor], outputs: Sequence[Tensor], model: StoredLayer
) -> Iterator[Call]:
    """The calls that the outputs depend on, each behind those it reads from."""
    by_call = {(call.layer.name, call.nth): call for call in waiting}
    given = {(tensor.layer, tensor.call) for tensor in inputs}
    state: dict[tuple[str, int], bool] = {}  # False while what it reads is looked at, True behind that
    for output in outputs:
        stack = [((output.layer, output.call), False)]
        while stack:
            key, read = stack.pop()
            if read:
                state[key] = True
                yield by_call[key]
                continue
            if key in given or state.get(key):
                continue
            if key in state or key not in by_call:
                what = "a call that depends on itself" if key in state else "a tensor that nothing makes"
                raise InputError(f"the model {model.name} has {what}", found=f"call {key[1]} of the layer {key[0]}")
            state[key] = False
            stack.append((key, True))
            call = by_call[key]
            before = {(t.layer, t.call): None for t in tensors_in((call.args, call.kwargs))}
            stack += [(source, False) for source in reversed(before) if not state.get(source)]


def _ends(value: object, model: StoredLayer) -> Nested:
    """The inputs or outputs of a model as they are nested.

    Here, unlike in the calls, Keras counts the graph of a functional model inside as its first call.
    """
    if isinstance(value, list | tuple) and is_reference(value):
        layer = model.parts.get(value[0])
        return Tensor(value[0], max(value[1] - (layer is not None and layer.kind in MODELS), 0), value[2])
    if isinstance(value, list | tuple):
        return [_ends(part, model) for part in value]
    if isinstance(value, dict):
        return {str(key): _ends(part, model) for key, part in value.items()}
    raise InputError("the inputs or outputs of the model are not recorded", found=repr(value)[:80])


def _call(layer: StoredLayer, nth: int, node: object, model: StoredLayer) -> Call:
    if isinstance(node, dict):  # Keras 3
        args, kwargs = plain(node.get("args") or []), plain(node.get("kwargs") or {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise _not_recorded(layer, node)
        return Call(layer, nth, tuple(args), dict(kwargs))
    if not isinstance(node, list):
        raise _not_recorded(layer, node)
    entries = [node] if node and isinstance(node[0], str) else node
    values, kwargs = [], {}
    for entry in entries:
        if isinstance(entry, list) and len(entry) >= 3 and entry[0] == "_CONSTANT_VALUE":
            values.append(plain(entry[2]))
        elif is_reference(entry):
            values.append(Tensor(entry[0], entry[1], entry[2]))
        else:
            raise _not_recorded(layer, entry)
        if len(entry) > 3 and isinstance(entry[3], dict):
            kwargs |= {key: of_keras2(value, model.parts) for key, value in entry[3].items()}
    return Call(layer, nth, (values[0] if len(values) == 1 else values,), kwargs)


def _not_recorded(layer: StoredLayer, entry: object) -> InputError:
    return InputError(f"a call of the layer {layer.path} is not recorded as Keras does it", found=repr(entry)[:80])


def _input_shape(layer: StoredLayer) -> Shape:
    given = input_shape_of({"config": layer.config})
    if given is None:
        raise InputError(f"the shape of the input {layer.name} is not recorded")
    return _shape(given)


def _shape(given: Sequence[Nested]) -> Shape:
    if not all(side is None or (type(side) is int and side >= 0) for side in given):
        raise InputError("the shape of an input is not made of sizes", found=str(list(given))[:80])
    return tuple(given)


def _input_dtype(layer: StoredLayer) -> str:
    return input_dtype(layer.config.get("dtype"), layer.name)
