"""Files as old Kerases wrote them, and files that ask for trouble: today's model with its configuration written the old way.

The weights in an HDF5 file have kept their layout since Keras 1; what changed is the configuration beside them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from tests.e2e import nets

Config = dict[str, Any]


def net(kind: str) -> Any:
    """A small net: "depthwise", "nested", "sequential", "bare" or "recurrent"."""
    keras = nets._keras()
    k = keras.layers
    if kind == "recurrent":
        return keras.Sequential([keras.Input((6, 3)), k.LSTM(4, name="lstm"), k.Dense(2, "softmax", name="head")])
    if kind == "nested":
        x = keras.Input((8, 8, 3), name="inner_in")
        inner = keras.Model(x, k.ReLU(name="relu")(k.Conv2D(4, 3, name="conv")(x)), name="inner")
        y = keras.Input((8, 8, 3), name="outer_in")
        return keras.Model(y, k.Dense(3, "softmax", name="head")(k.GlobalAveragePooling2D(name="mean")(inner(y))))
    layers = [keras.Input((8, 8, 3), name="image"), k.Conv2D(4, 3, name="conv"), k.BatchNormalization(name="bn")]
    if kind == "depthwise":
        layers.append(k.DepthwiseConv2D(3, name="depthwise"))
    return nets.randomise(
        keras.Sequential([*layers, k.GlobalAveragePooling2D(name="mean"), k.Dense(3, "softmax", name="head")])
    )


def legacy(config: Config) -> Config:
    """A configuration without what Keras 3 added: modules, registered names, dtype policies, batch_shape."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(part) for part in value]
        if not isinstance(value, dict):
            return value
        if value.get("class_name") == "DTypePolicy":
            return value["config"]["name"]
        dropped = {"module", "registered_name", "build_config", "optional", "input_axes", "output_axes"}
        kept = {key: plain(part) for key, part in value.items() if key not in dropped}
        if "batch_shape" in kept:
            kept["batch_input_shape"] = kept.pop("batch_shape")
        return kept

    found: Config = plain(config)
    return found


def rewritten(path: Path, change: Callable[[Config], Any]) -> Path:
    """The HDF5 file with another configuration."""
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(change(legacy(json.loads(file.attrs["model_config"]))))
        file.attrs["keras_version"] = "2.4.0"
    return path


def layer(config: Config, name: str) -> Config:
    """The entry of a layer, however deep."""
    for entry in config["config"]["layers"]:
        if entry["config"].get("name") == name:
            return entry
        if "layers" in entry["config"]:
            return layer(entry, name)
    raise KeyError(name)


def groups(config: Config) -> Config:
    layer(config, "depthwise")["config"]["groups"] = 1
    return config


def wrapped_ends(config: Config) -> Config:
    """Nested functional models as tf.keras wrote them: lists of one input and one output, and calls as lists."""

    def old(model: Config) -> None:
        for ends in ("input_layers", "output_layers"):
            if isinstance(model["config"][ends][0], str):
                model["config"][ends] = [model["config"][ends]]
        for entry in model["config"]["layers"]:
            calls = []
            for call in entry["inbound_nodes"]:
                tensor = call["args"][0]["config"]["keras_history"]
                calls.append([[*tensor, {}]])
            entry["inbound_nodes"] = calls
            if entry["class_name"] == "Functional":
                old(entry)

    old(config)
    return config


def without_input(config: Config) -> Config:
    first = config["config"]["layers"].pop(0)
    config["config"]["layers"][0]["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
    return config


def bare_list(config: Config) -> Config:
    return {**config, "config": without_input(config)["config"]["layers"]}


def time_major(config: Config) -> Config:
    layer(config, "lstm")["config"]["time_major"] = False
    return config


# The net, what makes its file an old one, and words of the repair.
BROKEN: dict[str, tuple[str, Callable[[Config], Any], str]] = {
    "DepthwiseConv2D with groups": ("depthwise", groups, "groups=1 was removed"),
    "nested ends in lists": ("nested", wrapped_ends, "flattened"),
    "Sequential without an input": ("sequential", without_input, "InputLayer"),
    "Sequential as a bare list": ("bare", bare_list, "the list of layers of a Sequential model"),
    "LSTM with time_major": ("recurrent", time_major, "time_major"),
}


def lambda_layer(path: Path) -> None:
    """A .keras file with a Lambda layer that runs Python when it is loaded."""
    keras = nets._keras()
    x = keras.Input((4,))
    keras.Model(x, keras.layers.Lambda(lambda v: v * 2, name="twice")(x)).save(path)


def with_config(path: Path, change: Callable[[Config], Config]) -> None:
    """A .keras file with another configuration."""
    net("sequential").save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = json.dumps(change(json.loads(parts["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
