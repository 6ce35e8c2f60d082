"""A .keras archive out of a HDF5 model file, and the other way round, without Keras (h5py).

Both hold the same weights. An archive has them by the class of their layer and its number ("layers/conv2d_1/vars/0"), a HDF5 file in one
list for each layer of the outermost model, the trainable ones first. How the model was compiled, and the state of the optimizer, are left
out: Keras leaves them out, too, of a model that it has loaded without compiling it.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.keras_files import container
from bnexport.keras_files.contents import read_contents
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.hdf5_weights import slots_in_order, with_weights_of_hdf5, write_names
from bnexport.keras_files.layers import Store, StoredLayer, StoredWeight, Structure, UnclearFile
from bnexport.keras_files.misread import inner_statistics
from bnexport.keras_files.naming import RENAMED
from bnexport.keras_files.portable import refuse_uncertain
from bnexport.keras_files.repairs import FUNCTIONAL, MODELS, is_old
from bnexport.keras_files.shapes import refuse_misshapen
from bnexport.keras_files.statistics import changed_weight
from bnexport.keras_files.tree import in_archive, is_operation, layer_tree, structure_of_layer
from bnexport.system.files import Format
from bnexport.types import Array

if TYPE_CHECKING:
    from bnexport.keras_files.read import KerasFile

_FIRST = "3.0.0"
"""The version that a file says wrote it whose configuration was an older one's and has been rewritten."""


def convert(file: KerasFile, values: Mapping[str, Array], target: Path) -> None:
    """Writes a model into the other container, with new values in some of its weights, and reads it again.

    The shapes of the weights are held against the configuration. Whether each fits what its layer is given shows when the graph of the
    file runs, as it does before statistics are written.

    Args:
        file: the file as it was read.
        values: new values by the path of the layer and the name of the weight ("bn1/moving_mean").
        target: a .keras archive out of a HDF5 file, and the other way round.

    Raises:
        UnclearFile: it is not certain that Keras would read the same model. Nothing is written.
        InputError: the file has no such weight, or one of another shape; or Keras reads something else from a HDF5 file.
    """
    model = file.model
    refuse_uncertain(model)
    weights = _weights(model)
    _refuse_other_weights(model, weights)
    for name, value in values.items():
        changed_weight(weights, name, value)
    file.sha256  # noqa: B018 - makes sure of the weights
    new = _Values(weights, values)
    version = _FIRST if file.version is None or is_old(None, file.version) else file.version
    try:
        if file.format == Format.HDF5:
            _write_archive(model, new, version, target)
            _refuse_difference(target, weights, new, Format.KERAS)
        else:
            _refuse_lost(model)
            _write_hdf5(model, new, version, target)
            _refuse_difference(target, weights, new, Format.HDF5)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


class _Values:
    """The values of the weights of a model by path and name, the new ones in place of those in the file."""

    def __init__(self, weights: Mapping[str, StoredWeight], changes: Mapping[str, Array]) -> None:
        self._weights, self._changes = weights, changes

    def __getitem__(self, name: str) -> Array:
        weight = self._weights[name]
        if name not in self._changes:
            return weight.read()
        return np.ascontiguousarray(self._changes[name].astype(weight.dtype))


def _weights(model: StoredLayer) -> dict[str, StoredWeight]:
    weights: dict[str, StoredWeight] = {}
    for layer in model.walk():
        for name, weight in layer.weights.items():
            if weights.setdefault(f"{layer.path}/{name}", weight) is not weight:
                raise UnclearFile(f"two layers of the model are called {layer.path}")
    return weights


def _refuse_other_weights(model: StoredLayer, weights: Mapping[str, StoredWeight]) -> None:
    """Makes sure that each layer has the weights of its class, and that the model has no others; those of optimizers and metrics lie beside it."""
    stores = {id(weight.store): weight.store for weight in weights.values()}
    if len(stores) != 1:
        raise UnclearFile("the model has no weights")
    refuse_misshapen(model)
    for layer in model.walk():
        structure = structure_of_layer(layer) or Structure()
        if set(layer.weights) != {*structure.trainable, *structure.fixed}:
            raise UnclearFile(f"the layer {layer.path} has other weights in the file", found=", ".join(layer.weights))
    used = {weight.dataset for weight in weights.values()}
    roots = {name.partition("/")[0] for name in used}
    places = {*roots, "vars"}  # the latter for a model's own, which no layer has
    [store] = stores.values()
    own = {name for name in store.contents.datasets if name.partition("/")[0] in places}
    if used != own:
        raise UnclearFile("the model has more than the weights of its layers", found=", ".join(sorted(own - used)[:3]))


def archive_config(model: StoredLayer) -> Config:
    """The configuration of a model as archives have it: each layer says in which module its class is.

    Raises:
        UnclearFile: Keras does not take an argument from a HDF5 file as it stands there.
    """
    config = json.loads(json.dumps({"class_name": model.kind, "config": model.config}))
    _name_module(config)
    _name_modules(config)
    return dict(config)


def _name_modules(value: object) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("layers"), list):
            for entry in value["layers"]:
                _name_module(entry)
        for part in value.values():
            _name_modules(part)
    elif isinstance(value, list):
        for part in value:
            _name_modules(part)


def _name_module(entry: Config) -> None:
    """Writes into the entry of a layer in a HDF5 file what Keras adds when it reads it (keras/src/legacy/saving/saving_utils.py)."""
    if "module" in entry:
        return
    kind, config = entry["class_name"], entry["config"]
    if kind in _NOT_PUBLIC:
        raise UnclearFile("a HDF5 file does not say in which module a class is", found=kind)
    entry |= {"module": "keras.layers", "registered_name": None}
    if kind in MODELS:
        entry |= {"module": FUNCTIONAL, "class_name": "Functional", "registered_name": "Functional"}
    elif kind == "Sequential":
        entry["module"] = "keras"
    elif kind in _PUBLIC_NAMES:
        entry["class_name"] = _PUBLIC_NAMES[kind]
    shape = config.pop("batch_input_shape", None)
    if shape is not None:
        config["batch_shape" if kind == "InputLayer" else "input_shape"] = shape
    if "axis" in config:
        axis = config["axis"][0] if isinstance(config["axis"], list) and len(config["axis"]) == 1 else config["axis"]
        if type(axis) is not int:
            raise UnclearFile("Keras ignores the axis of a layer in a HDF5 file", found=f"{kind} with axis={axis}")
        config["axis"] = axis


_PUBLIC_NAMES = {own: public for public, own in RENAMED.items()}
_NOT_PUBLIC = {"LayerScale", "CustomScaleLayer"}
"""The classes of networks in keras.applications that are not in keras.layers."""


def _plan(config: Config) -> Iterator[tuple[str, str]]:
    """Where an archive has the weights of a model: the path and name of each, and its dataset."""

    def find(group: str, names: Sequence[tuple[str, bool]] | None) -> Mapping[str, StoredWeight]:
        group = _PRIVATE.sub(r"\1_\2", group)
        return {name: _nowhere(f"{group}/vars/{nth}") for nth, (name, _) in enumerate(names or ())}

    for layer in layer_tree(config, "", "", find).walk():
        for name, weight in layer.weights.items():
            yield f"{layer.path}/{name}", weight.dataset
        if layer.kind == "SpectralNormalization":  # an archive has the kernel of the layer inside twice
            [inner] = layer.parts.values()
            yield f"{inner.path}/kernel", layer.weights["vector_u"].dataset.removesuffix("1") + "0"


_PRIVATE = re.compile(r"((?:^|/)grouped_query_attention(?:_\d+)?/)(\w+_dense)$")
"""The parts of this class alone are in attributes whose names begin with an underscore."""


def _nowhere(dataset: str) -> StoredWeight:
    return StoredWeight(dataset, (), "", trainable=True, store=None)  # type: ignore[arg-type] # not written yet


def _write_archive(model: StoredLayer, values: _Values, version: str, target: Path) -> None:
    import h5py

    config = archive_config(model)
    about = {"keras_version": version, "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S")}
    inner = target.with_name(target.name + ".weights")
    try:
        with h5py.File(inner, "w") as file:
            for name, dataset in _plan(config):
                file.create_dataset(dataset, data=values[name])
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("metadata.json", json.dumps(about))
            archive.writestr(container.CONFIG, json.dumps(config))
            with inner.open("rb") as source, archive.open(container.WEIGHTS, "w", force_zip64=True) as stored:
                shutil.copyfileobj(source, stored, 1 << 20)
    finally:
        inner.unlink(missing_ok=True)


def _refuse_lost(model: StoredLayer) -> None:
    """Refuses what Keras does not read from HDF5 files as it stands there.

    Raises:
        InputError: there is such a layer.
    """
    if inner_statistics({"config": model.config}):
        raise InputError(
            "Keras 3 computes with a mean of 0 and a variance of 1 in Normalization layers inside of other layers, whatever a HDF5 file has",
            fix="write a .keras file",
        )


def _write_hdf5(model: StoredLayer, values: _Values, version: str, target: Path) -> None:
    import h5py

    if odd := [layer.name for layer in model.walk() if "/" in layer.name or layer.name in ("", ".", _OWN)]:
        raise UnclearFile("a HDF5 file cannot have a layer of this name", found=odd[0])
    with h5py.File(target, "w") as file:
        root = file.create_group("model_weights")
        for group in (file, root):
            group.attrs["keras_version"], group.attrs["backend"] = version.encode(), b"tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": model.kind, "config": model.config}).encode()
        layers = [part for part in model.parts.values() if not is_operation(part)]
        if model.kind == "Sequential":
            layers = [part for part in layers if part.kind != "InputLayer"]
        write_names(root, "layer_names", [layer.name for layer in layers])
        for layer in layers:
            names = [f"{path}/{name}" for path, name, _ in slots_in_order(layer)]
            group = root.create_group(layer.name)
            write_names(group, "weight_names", names)
            for name in names:
                group.create_dataset(name, data=values[name])
        write_names(root.create_group(_OWN), "weight_names", [])


_OWN = "top_level_model_weights"
"""The group of the weights that a model has beside its layers: none."""


def _refuse_difference(target: Path, weights: Mapping[str, StoredWeight], values: _Values, kind: Format) -> None:
    """Reads a file that was written, and makes sure that every layer has the weights that it is to have.

    Raises:
        UnclearFile: one has others.
    """
    with _open_written(target, kind) as store:
        config = json.loads(container.config_text(target, kind) or "")
        if kind == Format.KERAS:
            model = layer_tree(config, "", "", in_archive(store))
        else:
            model = with_weights_of_hdf5(layer_tree(config, "", "", lambda *_: {}), store, "model_weights")
        written = _weights(model)
        for name in {**weights, **written}:
            if name not in weights or name not in written or not _same(written[name].read(), values[name]):
                raise UnclearFile(f"the weight {name} is not read again as it was written")


def _same(actual: Array, expected: Array) -> bool:
    if (actual.shape, actual.dtype) != (expected.shape, expected.dtype):
        return False
    return bool(np.array_equal(actual.reshape(-1).view(np.uint8), expected.reshape(-1).view(np.uint8)))


@contextmanager
def _open_written(path: Path, kind: Format) -> Iterator[Store]:
    import h5py

    if kind == Format.HDF5:
        file, start = h5py.File(path, "r"), 0
    else:
        with zipfile.ZipFile(path) as archive:
            file, start = container.open_weights(archive, path), container.start_of_weights(archive, path) or 0
    store = Store(file, read_contents(file, path, path.stat().st_size), path, start)
    try:
        yield store
    finally:
        store.close()
