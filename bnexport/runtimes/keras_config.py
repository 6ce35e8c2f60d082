"""The configuration in a Keras file, before Keras sees it: whether it asks for code that is not Keras', and what of Keras 1 and 2 has to be rewritten for Keras 3.

Keras is not imported here: its public names are read from its files.
"""

from __future__ import annotations

import ast
import copy
import json
import shutil
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnexport.errors import InputError
from bnexport.files import Format
from bnexport.runtimes import keras_container

Config = dict[str, Any]

RUNS_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "__lambda__"}
"""Keras' own classes that run whatever the file tells them to."""

LEGACY = {"Model", "Functional", "Sequential", "Container"}
_PUBLIC = (
    "layers",
    "initializers",
    "regularizers",
    "constraints",
    "activations",
    "dtype_policies",
    "models",
    "random",
    "quantizers",
    "losses",
    "metrics",
    "optimizers",
)
_INNER = ("keras.src.layers.", "keras.src.ops.", "keras.src.models.")
_FOREIGN_OPS = {
    "TFOpLambda",
    "SlicingOpLambda",
    "TensorFlowOpLayer",
    "ClassMethod",
    "InstanceMethod",
    "InstanceProperty",
}


def read(path: Path, kind: Format) -> Config:
    """The configuration of the model in a file.

    Raises:
        InputError: the file is damaged, or holds no model.
    """
    text = keras_container.config_text(path, kind)
    if text is None and kind == Format.KERAS:
        raise InputError(
            f"{path} is an archive without a Keras model",
            expected="config.json inside, as model.save(...) writes it",
        )
    if text is None:
        raise _no_model(path, weights=keras_container.holds_weights(path))
    try:
        found = json.loads(text)
    except (ValueError, TypeError) as error:
        raise InputError(f"the configuration of the model in {path} is damaged ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"the configuration of the model in {path} is damaged", found=type(found).__name__)
    return found


def _no_model(path: Path, *, weights: bool) -> InputError:
    return InputError(
        f"{path} is not a whole model",
        found="weights only" if weights else "an HDF5 file without a model",
        fix="save the model with model.save(...), not model.save_weights(...)",
    )


def refuse_foreign(config: Any, path: Path) -> None:
    """Refuses what is not made of Keras' own layers.

    Raises:
        InputError: the configuration names a class or function that Keras does not have, or one that runs code from the file.
    """
    for layer, entry in _named(config, ""):
        name, module = str(entry["class_name"]), entry.get("module")
        where = f" in the layer {layer}" if layer else ""
        if name in _FOREIGN_OPS:
            function = (
                (entry.get("config") or {}).get("function", name) if isinstance(entry.get("config"), dict) else name
            )
            raise InputError(
                f"{path} uses the TensorFlow operation {function}{where}, which only TensorFlow 2's own Keras can read",
                fix="load it there, replace the operation by a layer, and save it again; or export it there and check with --onnx",
            )
        if name in RUNS_CODE:
            raise InputError(
                f"{path} runs code of its own: {name}{where}",
                fix="if you trust where the file comes from, pass --trust",
            )
        if name.startswith("__") or _is_keras(name, module, entry):
            continue
        full = f"{module}.{name}" if module else name
        raise InputError(
            f"{path} needs {full}{where}, which is not part of Keras",
            fix="if you trust where the file comes from and the module is installed, pass --trust",
        )


def _named(value: Any, layer: str) -> Iterator[tuple[str, Config]]:
    """Every object in a configuration that names a class, and the layer it is in."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            config = value.get("config")
            own = value.get("name") or (config.get("name") if isinstance(config, dict) else None)
            layer = own if isinstance(own, str) else layer
            yield layer, value
        for part in value.values():
            yield from _named(part, layer)
    elif isinstance(value, list):
        for part in value:
            yield from _named(part, layer)


def _is_keras(name: str, module: Any, entry: Config) -> bool:
    public = public_names()
    if module == "builtins":  # a function by its name
        return name != "function" or entry.get("config") in public
    if not module:
        return entry.get("registered_name") in (None, name) and (name in public or name in LEGACY)
    if not isinstance(module, str):
        return False
    if module == "keras":
        return name in public or name in LEGACY or name in ("DTypePolicy", "Variable", "KerasTensor")
    if module.startswith("keras.") and module.removeprefix("keras.") in _PUBLIC:
        return name in public or name in LEGACY
    return module.startswith(_INNER)


@cache
def public_names() -> frozenset[str]:
    """The names that Keras gives out in the modules a model may be made of."""
    spec = find_spec("keras")
    if spec is None or not spec.origin:
        return frozenset()
    found: set[str] = set()
    for module in _PUBLIC:
        tree = ast.parse((Path(spec.origin).parent / module / "__init__.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                found |= {alias.asname or alias.name for alias in node.names}
    return frozenset(found)


def repaired(config: Any) -> tuple[Any, tuple[str, ...]]:
    """The configuration as Keras 3 reads it, and what was changed, in words; nothing where it needs no change."""
    changed = copy.deepcopy(config)
    notes: dict[str, int] = {}
    _repair(changed, notes)
    return changed, tuple(f"{note} ({count}x)" if count > 1 else note for note, count in notes.items())


def _repair(entry: Any, notes: dict[str, int], *, nested: bool = False) -> None:
    """Rewrites one layer and what is inside it, in place; `nested` where it is inside a model."""

    def noted(what: str) -> None:
        notes[what] = notes.get(what, 0) + 1

    if isinstance(entry, list):
        for part in entry:
            _repair(part, notes, nested=nested)
        return
    if not isinstance(entry, dict):
        return
    kind, config = entry.get("class_name"), entry.get("config")
    if kind == "Sequential" and isinstance(config, list):
        entry["config"] = config = {"name": "sequential", "layers": config}
        noted("a Sequential model's bare list of layers wrapped")
    for part in entry.values():
        if isinstance(part, dict | list):
            _repair(part, notes, nested=True)
    if not isinstance(config, dict):
        return
    if kind == "DepthwiseConv2D" and config.get("groups") == 1:
        del config["groups"]
        noted("groups=1 dropped from DepthwiseConv2D")
    if kind in ("LSTM", "GRU", "SimpleRNN", "RNN") and config.get("time_major") is False:
        del config["time_major"]
        noted(f"time_major=False dropped from {kind}")
    if nested and kind in ("Functional", "Model", "Container") and "module" not in entry:
        for ends in ("input_layers", "output_layers"):
            value = config.get(ends)
            if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
                config[ends] = value[0]
                notes.setdefault("one-element input_layers and output_layers of nested models flattened", 1)
    if kind == "Sequential" and isinstance(config.get("layers"), list) and config["layers"]:
        first = config["layers"][0]
        shape = _taken(first)
        if (
            isinstance(first, dict)
            and first.get("class_name") != "InputLayer"
            and shape is not None
            and "module" not in first
        ):
            dtype = (first.get("config") or {}).get("dtype") or "float32"
            name = f"{config.get('name', 'sequential')}_input"
            layer = {
                "class_name": "InputLayer",
                "config": {
                    "batch_input_shape": shape,
                    "dtype": dtype if isinstance(dtype, str) else "float32",
                    "name": name,
                },
            }
            if isinstance(first.get("config"), dict):
                first["config"].pop("batch_input_shape", None)  # it has gone into the InputLayer
            config["layers"].insert(0, layer)
            noted("an InputLayer put in front of a Sequential model")


def _taken(entry: Any) -> list[Any] | None:
    """The shape of what a layer takes, batch axis included; None where the configuration does not say."""
    config = entry.get("config") if isinstance(entry, dict) else None
    if isinstance(config, list):
        return _taken(config[0]) if config else None
    if not isinstance(config, dict):
        return None
    for key in ("batch_input_shape", "batch_shape"):
        if isinstance(config.get(key), list):
            return list(config[key])
    layers = config.get("layers")
    return _taken(layers[0]) if isinstance(layers, list) and layers else None


def input_shape(config: Any) -> list[Any] | None:
    """The shape the model of this configuration takes; None where it has several inputs, or the configuration does not say."""
    inside = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inside, dict) or not isinstance(inside.get("layers"), list):
        return None
    found = [layer for layer in inside["layers"] if isinstance(layer, dict) and layer.get("class_name") == "InputLayer"]
    return _taken(found[0]) if len(found) == 1 else None


def write_with(path: Path, kind: Format, config: Any, target: Path) -> None:
    """A copy of a model file with another configuration."""
    import h5py

    if kind == Format.HDF5:
        shutil.copyfile(path, target)
        with h5py.File(target, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
        return
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            content = json.dumps(config).encode() if item.filename == "config.json" else old.read(item)
            new.writestr(item, content)
