"""What a Keras model is, as its file says, before Keras is loaded (through `bnexport.keras_files`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from bnexport.frameworks.keras.installed import backend_name
from bnexport.frameworks.models import installed_version
from bnexport.frameworks.protocols import FileDescription, ModelInfo, Port
from bnexport.keras_files.architecture import Architecture
from bnexport.keras_files.conversion import convert
from bnexport.keras_files.graph import distinct, network, output_names
from bnexport.keras_files.layers import StoredLayer, UnclearFile
from bnexport.keras_files.policies import compute_dtype
from bnexport.keras_files.read import KerasFile, read_file
from bnexport.keras_files.repairs import LEGACY
from bnexport.keras_files.statistics import write_statistics
from bnexport.results.signature import dtype_named
from bnexport.system.files import Format
from bnexport.types import Array

STRENGTHS = ("rate", "stddev", "alpha", "dropout", "recurrent_dropout")
"""What the configurations of layers call how strong their random part is."""

RANDOM = ("Dropout", "SpatialDropout", "Gaussian", "AlphaDropout")
"""How the names of classes begin that draw random numbers in training, as much as their configuration says."""

AUGMENTING = ("Random", "RandAugment", "AugMix", "CutMix", "MixUp")
"""How the names of classes begin that augment images in training."""


def describe(path: Path, architecture: Architecture | None = None) -> FileDescription:
    """The model in a file.

    Raises:
        InputError: the file is damaged, or holds no model.
    """
    file = read_file(path, architecture)
    net = network(file.model)
    inputs = []
    for name, tensor in zip(distinct([tensor.layer for tensor in net.inputs]), net.inputs, strict=True):
        inputs.append(Port(name, (None, *net.shapes[tensor][1:]), dtype_named(net.dtypes[tensor])))
    return FileDescription(
        info=_info(file),
        inputs=tuple(inputs),
        outputs=tuple(output_names([t.layer for t in net.outputs], [t.layer for t in net.inputs])),
        modes=("inference", "training"),
    )


def rewrite(source: Path, architecture: Architecture | None, values: Mapping[str, Array], target: Path) -> bool:
    """A model file with other values in some of its weights, without Keras; whether it was written.

    Args:
        source: the model file.
        architecture: its architecture, where it has weights only.
        values: new values by the path of the layer and the name of the weight.
        target: a copy where it is of the same format, otherwise the other format with the same model.

    Raises:
        InputError: the file has no such weight.
    """
    wanted = Format.HDF5 if target.suffix == ".h5" else Format.KERAS
    try:
        file = read_file(source, architecture)
        if file.renamed:
            return False
        if file.format == wanted:
            write_statistics(file, values, target)
        else:
            convert(file, values, target)
    except UnclearFile:
        return False
    return True


def _info(file: KerasFile) -> ModelInfo:
    layers = list(_layers(file.model))
    norms = [layer for layer in layers if layer.kind == "BatchNormalization"]
    dtypes = {compute_dtype(layer.config.get("dtype")) for layer in layers}
    narrow = next((dtype for dtype in ("bfloat16", "float16", "float32") if dtype in dtypes), "float64")
    return ModelInfo(
        parameters=sum(
            math.prod(weight.shape)
            for layer in layers
            for name, weight in layer.weights.items()
            if name != "seed_generator_state"
        ),
        layers=len(norms),
        frozen=sum(not layer.trainable for layer in norms),
        dtype=narrow,
        iterations=file.iterations,
        repairs=file.repairs,
        random_layers=tuple(_random_layers(file.model)),
        versions={backend_name(): installed_version(backend_name()), "keras": installed_version("keras")},
        sha256=file.sha256,
    )


def _layers(model: StoredLayer) -> Iterator[StoredLayer]:
    """Every layer, those inside of others included, that is no model itself."""
    for part in model.parts.values():
        if part.kind not in LEGACY:
            yield part
        yield from _layers(part)


def _random_layers(model: StoredLayer) -> Iterator[str]:
    """The names of the layers that are random, without those inside of them: the cell of a recurrent layer draws for it."""
    for part in model.parts.values():
        if _is_random(part):
            yield part.name
        else:
            yield from _random_layers(part)


def _is_random(layer: StoredLayer) -> bool:
    if layer.kind.startswith(AUGMENTING):
        return True
    strengths = [layer.config[name] for name in STRENGTHS if name in layer.config]
    return any(strengths) and (layer.kind.startswith(RANDOM) or "dropout" in layer.config)
