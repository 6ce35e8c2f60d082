"""What Keras 3 refuses in configurations, or reads as another model, rewritten so that the model is that of the Keras that wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from bnexport.errors import InputError
from bnexport.keras_files import defaults as keras_defaults
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.misread import keep_axes

MODELS = {"Model", "Functional", "Container"}
LEGACY = {*MODELS, "Sequential"}
"""The classes of models, which are looked up by name alone."""

HARD_SIGMOID = "bnexport_keras2_hard_sigmoid"
"""By this name a repaired configuration asks for clip(0.2 x + 0.5, 0, 1), which Keras 1 and 2 called hard_sigmoid. Keras 3's is relu6(x + 3) / 6."""

_DROPPED = (
    ("groups", 1, re.compile(r"DepthwiseConv[12]D|SeparableConv[12]D|Conv[123]DTranspose")),
    ("time_major", False, re.compile(r"LSTM|GRU|SimpleRNN|RNN|ConvLSTM[123]D|Bidirectional")),
)
"""Arguments that Keras 3 has no more, and the value at which they say nothing."""

_WRAPPERS = {"TimeDistributed", "Bidirectional", "RNN", "StackedRNNCells"}
_WRAPPED = ("layer", "backward_layer", "forward_layer", "cell", "cells")


@dataclass(frozen=True, slots=True)
class Repaired:
    """A configuration as Keras 3 reads it.

    Args:
        config: the configuration.
        notes: what was changed, in words; empty where it needed no change.
        hard_sigmoid: whether it asks for `HARD_SIGMOID`.
    """

    config: object
    notes: tuple[str, ...]
    hard_sigmoid: bool = False


def repair(config: object, version: str | None = None) -> Repaired:
    """The configuration as Keras 3 reads it.

    Args:
        config: as the file has it; not changed.
        version: of the Keras that wrote it, as it stands in the file.

    Raises:
        InputError: it leaves open what a layer computes.
    """
    repair = _Repair(version, config)
    changed = json.loads(json.dumps(config))  # a copy of what JSON brought, in a fifth of the time of deepcopy
    repair.entry(changed)
    notes = tuple(f"{note} ({count}x)" if count > 1 else note for note, count in repair.notes.items())
    return Repaired(changed, notes, repair.hard_sigmoid)


def numbers(version: str | None) -> tuple[int, ...] | None:
    """The first two numbers of a version; None where there are none.

    >>> numbers("2.2.4-tf"), numbers("unknown")
    ((2, 2), None)
    """
    match = re.match(r"(\d{1,6})\.(\d{1,6})", version or "")
    return tuple(int(part) for part in match.groups()) if match else None


def is_old(config: object, version: str | None) -> bool:
    """Whether Keras 1 or 2 wrote a configuration, by the version in the file or by what only Keras 3 writes."""
    parts = numbers(version)
    return parts < (3,) if parts else not _names_modules(config)


def current_module(module: object, name: str) -> object:
    """The module in which Keras 3 has a class that Keras 2.13 to 2.15, or the tf_keras package, wrote with `module`."""
    if not isinstance(module, str):
        return module
    module = f"keras.{module.removeprefix('tf_keras.')}" if module.startswith("tf_keras.") else module
    if module.startswith("keras.src.engine."):
        return {"Sequential": "keras", "Functional": FUNCTIONAL, "Model": FUNCTIONAL}.get(name, module)
    return module


FUNCTIONAL = "keras.src.models.functional"


class _Repair:
    """One walk over a configuration, which is changed in place."""

    def __init__(self, version: str | None, config: object) -> None:
        self.notes: dict[str, int] = {}
        self.hard_sigmoid = False
        self._text = version or ""
        self._version = numbers(version)
        self._old = is_old(config, version)

    def _note(self, what: str) -> None:
        self.notes[what] = self.notes.get(what, 0) + 1

    def entry(self, entry: object, *, nested: bool = False) -> None:
        """Rewrites one layer and what is inside it; `nested` where it is inside a model."""
        if isinstance(entry, list):
            for part in entry:
                self.entry(part, nested=nested)
            return
        if not isinstance(entry, dict):
            return
        kind, config = entry.get("class_name"), entry.get("config")
        if kind == "Sequential" and isinstance(config, list):
            entry["config"] = config = {"name": "sequential", "layers": config}
            self._note("the list of layers of a Sequential model was wrapped")
        for part in entry.values():
            if isinstance(part, dict | list):
                self.entry(part, nested=True)
        if not isinstance(config, dict) or not isinstance(kind, str):
            return
        self._module(entry, kind)
        self._arguments(entry, kind, config)
        if self._old:
            self._old_defaults(kind, config)
            self._activations(config)
            self._name_inner_layers(kind, config)
        if kind in LEGACY and "layers" in config:
            if not isinstance(config["layers"], list):
                called = f"the model {str(config.get('name') or kind)[:80]}"
                raise InputError(f"{called} has no list of layers", found=repr(config["layers"])[:80])
            self._shapes(config["layers"])
            for note in keep_axes(config["layers"]):
                self._note(note)
        if kind in MODELS and (self._old or "module" not in entry):
            self._nodes(config)
            if nested:
                self._ends(config)
        if kind == "Sequential":
            self._input(config)

    def _module(self, entry: Config, kind: str) -> None:
        module = current_module(entry.get("module"), kind)
        if module != entry.get("module"):
            entry["module"] = module
            entry["registered_name"] = kind if module == FUNCTIONAL else None
            self._note("modules of Keras 2 were renamed")
        if module == FUNCTIONAL:
            entry["class_name"] = "Functional"

    def _arguments(self, entry: Config, kind: str, config: Config) -> None:
        for name, value, kinds in _DROPPED:
            if kinds.fullmatch(kind) and name in config and config[name] is not True and config[name] == value:
                del config[name]
                self._note(f"{name}={value} was removed from {kind}")
        if self._old and kind in ("SeparableConv1D", "SeparableConv2D"):
            # They initialise and regularise a kernel that these layers do not have.
            unused = [key for key in config if key.startswith("kernel_") and key != "kernel_size"]
            for key in unused:
                del config[key]
            if unused:
                self._note(f"arguments of an unused kernel were removed from {kind}")
        axis = config.get("axis")
        if kind == "BatchNormalization" and "module" in entry and isinstance(axis, list) and len(axis) == 1:
            config["axis"] = axis[0]
            self._note("the axis of BatchNormalization was changed from a list to a number")

    def _old_defaults(self, kind: str, config: Config) -> None:
        """Writes out what Keras 2 took where the configuration says nothing, and Keras 3 takes otherwise."""
        note = keras_defaults.write_out(kind, config, self._text, self._version)
        if note:
            self._note(note)

    def _activations(self, config: Config) -> None:
        for key, value in config.items():
            if not key.endswith("activation"):
                continue
            if (value.get("config") if isinstance(value, dict) else value) == "hard_sigmoid":
                config[key] = {
                    "class_name": "function",
                    "config": HARD_SIGMOID,
                    "module": "builtins",
                    "registered_name": HARD_SIGMOID,
                }
                self.hard_sigmoid = True
                self._note("hard_sigmoid is computed as before Keras 3, clip(0.2 x + 0.5, 0, 1)")

    def _name_inner_layers(self, kind: str, config: Config) -> None:
        """Says of layers inside of wrappers where Keras 3 finds them: it does not look for these by name alone."""
        if kind not in _WRAPPERS:
            return
        for key in _WRAPPED:
            inner = config.get(key)
            for part in inner if isinstance(inner, list) else [inner]:
                if isinstance(part, dict) and isinstance(part.get("class_name"), str) and "module" not in part:
                    name = part["class_name"]
                    part["module"] = "keras" if name == "Sequential" else "keras.layers"
                    part["registered_name"] = None
                    if name in MODELS:
                        part |= {"module": FUNCTIONAL, "class_name": "Functional", "registered_name": "Functional"}
                    self._note(f"the layer inside {kind} was looked up in keras.layers")

    def _shapes(self, layers: list[object]) -> None:
        """Drops the shape that Keras 2.13 to 2.15 repeat in layers behind an InputLayer."""
        if not any(isinstance(layer, dict) and layer.get("class_name") == "InputLayer" for layer in layers):
            return
        for layer in layers:
            if not isinstance(layer, dict) or layer.get("class_name") == "InputLayer" or "module" not in layer:
                continue
            config = layer.get("config")
            if isinstance(config, dict) and config.pop("batch_input_shape", None) is not None:
                self._note("batch_input_shape after an InputLayer was removed")

    def _nodes(self, config: Config) -> None:
        """Counts the calls of nested models from 0: Keras 2 counts a model's own graph as its first call, Keras 3 does not.

        Keras 3 does this itself for output_layers that are functional models.
        """
        layers = [layer for layer in config.get("layers") or [] if isinstance(layer, dict)]
        functional = {layer.get("name") for layer in layers if layer.get("class_name") in MODELS}
        models = functional | {layer.get("name") for layer in layers if layer.get("class_name") == "Sequential"}
        inside = [ref for layer in layers for ref in _references(layer.get("inbound_nodes"), models)]
        ends = list(_references(config.get("output_layers"), models))
        used: dict[str, int] = {}
        for name, index, *_ in [*inside, *ends]:
            used[name] = min(index, used.get(name, index))
        for ref in [*inside, *(ref for ref in ends if ref[0] not in functional)]:
            if used[ref[0]] >= 1:
                ref[1] -= 1
                self._note("calls of nested models were renumbered from 0")

    def _ends(self, config: Config) -> None:
        for ends in ("input_layers", "output_layers"):
            value = config.get(ends)
            if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
                config[ends] = value[0]
                self.notes.setdefault("one-element input_layers and output_layers of nested models flattened", 1)

    def _input(self, config: Config) -> None:
        if not isinstance(config.get("layers"), list) or not config["layers"]:
            return
        first = config["layers"][0]
        shape = input_shape_of(first)
        if not isinstance(first, dict) or first.get("class_name") == "InputLayer" or shape is None:
            return
        inner = first.get("config")
        if "module" in first and not (isinstance(inner, dict) and "batch_input_shape" in inner):
            return
        dtype = inner.get("dtype") if isinstance(inner, dict) else None
        layer: Config = {
            "class_name": "InputLayer",
            "config": {
                "batch_input_shape": shape,
                "dtype": dtype if isinstance(dtype, str) else "float32",
                "name": f"{config.get('name', 'sequential')}_input",
            },
        }
        if "module" in first:
            layer |= {"module": "keras.layers", "registered_name": None}
        if isinstance(inner, dict):
            inner.pop("batch_input_shape", None)  # it has gone into the InputLayer
        config["layers"].insert(0, layer)
        self._note("an InputLayer was added to a Sequential model")


def _names_modules(value: object) -> bool:
    """Whether any object says which module its class is in, as Keras 3 always writes."""
    if isinstance(value, dict):
        return "module" in value or any(_names_modules(part) for part in value.values())
    return isinstance(value, list) and any(_names_modules(part) for part in value)


def _references(value: object, names: Collection[object]) -> Iterator[list[Any]]:
    """The references [layer, call, tensor, ...] to the layers of these names."""
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and type(value[1]) is int and value[0] in names:
            yield value
        for part in value:
            yield from _references(part, names)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _references(part, names)


def input_shape_of(entry: object) -> list[object] | None:
    """The shape of what a layer takes, batch axis included; None where the configuration does not say."""
    config = entry.get("config") if isinstance(entry, dict) else None
    if isinstance(config, list):
        return input_shape_of(config[0]) if config else None
    if not isinstance(config, dict):
        return None
    for key in ("batch_input_shape", "batch_shape"):
        if isinstance(config.get(key), list):
            return list(config[key])
    layers = config.get("layers")
    return input_shape_of(layers[0]) if isinstance(layers, list) and layers else None
