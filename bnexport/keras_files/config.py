"""The configuration in a Keras file, before Keras sees it: whether it asks for code that is not Keras'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bnexport.errors import InputError
from bnexport.keras_files import container as keras_container
from bnexport.keras_files.architecture import nets_like
from bnexport.keras_files.contents import Contents
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.naming import PUBLIC, RENAMED, public_names
from bnexport.keras_files.repairs import LEGACY, current_module, input_shape_of, numbers
from bnexport.keras_files.tree import UNNAMED, module_of
from bnexport.results.actions import spell_options
from bnexport.system.files import Format

RUNS_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "__lambda__"}
"""Keras' own classes that run whatever the file tells them to."""

_INNER = ("keras.src.layers.", "keras.src.ops.", "keras.src.models.")
_FOREIGN_OPS = {
    "TFOpLambda",
    "SlicingOpLambda",
    "TensorFlowOpLayer",
    "ClassMethod",
    "InstanceMethod",
    "InstanceProperty",
}


def read(path: Path, kind: Format, contents: Contents) -> Config:
    """The configuration of the model in a file.

    Args:
        path: the file.
        kind: what it is.
        contents: what is in its HDF5 part.

    Raises:
        InputError: the file is damaged, or holds no model.
    """
    text = keras_container.config_text(path, kind)
    if text is None and kind == Format.KERAS:
        raise InputError(
            f"{path} is an archive without a Keras model",
            expected="a file config.json inside, as written by model.save(...)",
        )
    if text is None:
        raise _no_model(path, contents)
    try:
        config = json.loads(text)
    except (ValueError, TypeError) as error:
        raise InputError(f"the model configuration in {path} is damaged ({error})") from error
    if not isinstance(config, dict):
        raise InputError(
            f"the model configuration in {path} is damaged", found=type(config).__name__, expected="a JSON object"
        )
    return config


def _no_model(path: Path, contents: Contents) -> InputError:
    what = f"{path} does not contain a complete model"
    if not keras_container.holds_weights(path):
        return InputError(what, found="an HDF5 file without a model", fix="save the model with model.save(...)")
    nets = [net.name for net in nets_like(contents)]
    fix = "save the model with model.save(...), or name its architecture"
    if nets:
        option = spell_options(architecture=nets[0])
        return InputError(
            what,
            found=f"weights only, in the shapes of {' or '.join(nets)}",
            fix=f"{fix}: {option} if it is that network of keras.applications, otherwise a file that model.to_json() wrote",
        )
    option = spell_options(architecture="model.json")
    return InputError(what, found="weights only", fix=f"{fix}: {option}, a file that model.to_json() wrote")


def refuse_foreign(config: object, path: Path, version: str | None = None) -> None:
    """Refuses what is not made of Keras' own layers.

    How the model was compiled is not looked at: it is never compiled again.

    Args:
        config: the configuration as the file has it.
        path: the file, for the message.
        version: of the Keras that wrote it, as it stands in the file.

    Raises:
        InputError: the configuration names a class or function that Keras does not have, or one that runs code from the file or reads another one.
    """
    for layer, entry in _classes_named(config, ""):
        name, module, inner = str(entry["class_name"]), entry.get("module"), entry.get("config")
        where = f" in the layer {layer}" if layer else ""
        if name in _FOREIGN_OPS:
            function = inner.get("function", name) if isinstance(inner, dict) else name
            raise InputError(
                f"{path} uses the TensorFlow operation {function}{where}, which only the Keras of TensorFlow 2 can read",
                fix="load it there, replace the operation with a layer and save it, or export it there and check the ONNX file",
            )
        if name in RUNS_CODE:
            raise InputError(
                f"{path} contains code that would be executed: {name}{where}",
                fix=f"if you trust the source of the file, add {spell_options(trust=True)}",
            )
        if isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
            raise InputError(
                f"{path} reads the vocabulary{where} from another file",
                found=inner["vocabulary"][:200],
                fix=f"save the model with the vocabulary as a list, or, if you trust the source of the file, add {spell_options(trust=True)}",
            )
        if name in _MARKERS or _is_keras(name, current_module(module, name), entry):
            continue
        full = f"{module}.{name}" if module else name
        if isinstance(module, str) and module.partition(".")[0] in ("keras", "tf_keras"):
            raise InputError(
                f"{path} requires {full}{where}, which is not a layer of Keras 3",
                fix=moving(version, "3") or "save it again",
            )
        if module_of(entry) == UNNAMED:
            raise InputError(
                f"{path} requires {name}{where}, which Keras does not find in HDF5 files",
                fix="if it is an operation of keras.ops, save the model as .keras, or check the ONNX file that bnexport export writes; "
                "if it is a class of yours whose source you trust, add --allow-custom-code --import MODULE with the module that registers it",
            )
        raise InputError(
            f"{path} requires {full}{where}, which is not part of Keras",
            fix="if you trust the source of the file, add --allow-custom-code --import MODULE with the module that registers it",
        )


def moving(version: str | None, installed: str) -> str:
    """What to do with a file of another Keras than the installed one; "" where the file is of the same or does not say."""
    written, here = numbers(version), numbers(installed) or numbers(f"{installed}.0")
    if written is None or here is None or (written[0] == here[0] and written <= here):
        return ""
    if written > here:
        return f"install the Keras that wrote it: pip install 'keras>={version}'"
    return f"load it in Keras {version}, which wrote it, and save it again there; or export it there and check the ONNX file"


_MARKERS = {
    "__keras_tensor__",
    "__tensor__",
    "__numpy__",
    "__bytes__",
    "__slice__",
    "__ellipsis__",
    "__tuple__",
}
"""What Keras writes for values that JSON does not have; none of them names a class to import."""


def _classes_named(value: object, layer: str) -> Iterator[tuple[str, Config]]:
    """Every object in a configuration that names a class, and the layer it is in."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            config = value.get("config")
            own = value.get("name") or (config.get("name") if isinstance(config, dict) else None)
            layer = own if isinstance(own, str) else layer
            yield layer, value
        for key, part in value.items():
            if key != "compile_config":
                yield from _classes_named(part, layer)
    elif isinstance(value, list):
        for part in value:
            yield from _classes_named(part, layer)


def _is_keras(name: str, module: object, entry: Config) -> bool:
    public = public_names()
    if name == "function":  # a function by its name
        given = entry.get("config")
        plain = module in ("builtins", "keras") or (isinstance(module, str) and module.removeprefix("keras.") in PUBLIC)
        return plain and given in public and entry.get("registered_name") in (None, given)
    if not module:
        return entry.get("registered_name") in (None, name) and (name in public or name in (*LEGACY, *RENAMED.values()))
    if not isinstance(module, str):
        return False
    if module == "keras":
        return name in public or name in LEGACY or name in ("DTypePolicy", "Variable", "KerasTensor")
    if module in ("keras.models", "keras.random"):
        return name in LEGACY or name == "SeedGenerator"
    if module.startswith("keras.") and module.removeprefix("keras.") in PUBLIC:
        return name in public
    return module.startswith(_INNER) and name[:1].isupper()


def input_shape(config: object) -> list[object] | None:
    """The shape the model of this configuration takes; None where it has several inputs, or the configuration does not say."""
    inside = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inside, dict) or not isinstance(inside.get("layers"), list):
        return None
    input_layers = [
        layer for layer in inside["layers"] if isinstance(layer, dict) and layer.get("class_name") == "InputLayer"
    ]
    return input_shape_of(input_layers[0]) if len(input_layers) == 1 else None
