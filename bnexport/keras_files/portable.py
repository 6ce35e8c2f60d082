"""Whether a model file says all that the other container of Keras needs, so that Keras reads the same model from both (no framework).

The layers of an archive are numbered by class, in the order in which Keras sorts the layers of a model that it has loaded. So the order
of a configuration must be that order, each class must be Keras' own, and what it keeps must be known.
"""

from __future__ import annotations

from collections.abc import Iterator

from bnexport.keras_files.arguments import tensors_in
from bnexport.keras_files.config import RUNS_CODE
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.graph import Network, network
from bnexport.keras_files.layers import StoredLayer, UnclearFile
from bnexport.keras_files.policies import quantisation_mode
from bnexport.keras_files.repairs import HARD_SIGMOID, LEGACY
from bnexport.keras_files.tree import UNNAMED, is_operation, structure_of_layer

WITHOUT_STATE = frozenset({
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "CategoryEncoding", "CenterCrop",
    "Concatenate", "Cropping1D", "Cropping2D", "Cropping3D", "Dot", "Dropout", "ELU", "Flatten", "GaussianDropout",
    "GaussianNoise", "Identity", "InputLayer", "LeakyReLU", "Masking", "Maximum", "Minimum", "Multiply", "Permute",
    "RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation",
    "RandomZoom", "ReLU", "RepeatVector", "Rescaling", "Reshape", "Resizing", "Softmax", "Subtract",
    "UnitNormalization",
    *(f"{kind}Pooling{axes}D" for kind in ("Average", "Max", "GlobalAverage", "GlobalMax") for axes in (1, 2, 3)),
    *(f"{kind}{axes}D" for kind in ("SpatialDropout", "UpSampling", "ZeroPadding") for axes in (1, 2, 3)),
})  # fmt: skip
"""The classes of Keras that keep nothing but their configuration. Lookup layers are not among them: they keep a vocabulary."""


def refuse_uncertain(model: StoredLayer) -> None:
    """Makes sure that everything in a model is known.

    Args:
        model: the model with its weights, as it was read.

    Raises:
        UnclearFile: something is not.
    """
    for part in _dictionaries(model.config):
        _refuse_object(part)
    for layer in model.walk():
        if layer.kind in LEGACY:
            _refuse_other_order(layer)
        elif is_operation(layer):
            if layer.module == UNNAMED:
                raise UnclearFile(f"a HDF5 file does not say which function {layer.path} calls", found=layer.kind)
        elif structure_of_layer(layer) is None and (layer.kind not in WITHOUT_STATE or layer.weights):
            raise UnclearFile(f"it is not known what the layer {layer.path} keeps", found=layer.kind)
        if quantisation_mode(layer.config) is not None:
            raise UnclearFile(f"the layer {layer.path} has quantised weights")


def layer_order(net: Network) -> list[str]:
    """The names of the layers in the order in which Keras has them in `model.layers`, inputs left out.

    That is by their distance from the outputs, and those of one distance in the order in which a search from the outputs meets them
    (keras/src/ops/function.py, `map_graph`).
    """
    sources = {(c.layer.name, c.nth): [(t.layer, t.call) for t in tensors_in((c.args, c.kwargs))] for c in net.calls}
    met: dict[str, int] = {}
    finished: dict[tuple[str, int], None] = {}
    for output in net.outputs:
        stack: list[tuple[tuple[str, int], Iterator[tuple[str, int]]]] = []
        waiting = iter([(output.layer, output.call)])
        while True:
            key = next(waiting, None)
            if key is None:
                if not stack:
                    break
                key, waiting = stack.pop()
                finished[key] = None
            elif key in sources and key not in finished:
                met.setdefault(key[0], len(met))
                stack.append((key, waiting))
                waiting = iter(sources[key])
    depths: dict[tuple[str, int], int] = {}
    of_layer: dict[str, int] = {}
    for key in reversed(finished):
        depth = of_layer[key[0]] = max(depths.get(key, 0), of_layer.get(key[0], 0))
        for source in sources[key]:
            depths[source] = max(depth + 1, depths.get(source, 0))
    return sorted(met, key=lambda name: (-of_layer[name], met[name]))


def _refuse_other_order(model: StoredLayer) -> None:
    net = network(model)
    inputs = {tensor.layer for tensor in net.inputs}
    written = [name for name, part in model.parts.items() if name not in inputs and part.kind != "InputLayer"]
    if model.kind != "Sequential" and written != layer_order(net):
        raise UnclearFile(f"the layers of the model {model.name} are not in the order in which Keras sorts them")


def _refuse_object(part: Config) -> None:
    names = [name for key in ("class_name", "registered_name") if isinstance(name := part.get(key), str)]
    module = part.get("module")
    if any(">" in name or name in RUNS_CODE or name == HARD_SIGMOID for name in names):
        raise UnclearFile("the model has a class or a function that is not Keras' own", found=", ".join(names))
    if isinstance(module, str) and module != "builtins" and module.partition(".")[0] != "keras":
        raise UnclearFile("the model has a class or a function of another package", found=module)
    if "shared_object_id" in part and part.get("class_name") != "DTypePolicy" and module not in _WITHOUT_IDENTITY:
        raise UnclearFile("the model has an object that several of its layers share", found=", ".join(names))


_WITHOUT_IDENTITY = ("keras.initializers", "keras.regularizers", "keras.constraints")
"""The modules whose objects do the same whether layers share them or have one each."""


def _dictionaries(value: object) -> Iterator[Config]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _dictionaries(part)
