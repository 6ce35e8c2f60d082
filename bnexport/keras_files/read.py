"""A model file of Keras, read without Keras: its layers, their calls and where their weights are."""

from __future__ import annotations

import io
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import InputError, MachineError, refusing
from bnexport.keras_files import config as keras_config, container, misread, repairs, weights
from bnexport.keras_files.architecture import Architecture, refuse_misfits
from bnexport.keras_files.contents import Contents, read_contents
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.hdf5_weights import with_weights_of_hdf5
from bnexport.keras_files.layers import Store, StoredLayer, UnclearFile
from bnexport.keras_files.shapes import refuse_misshapen
from bnexport.keras_files.tree import in_archive, layer_tree
from bnexport.system import cache
from bnexport.system.files import Format, model_format

STATISTICS = "Normalization inside of another layer kept its statistics, in whose place Keras 3 takes 0 and 1"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The configuration in a file, made sure of and rewritten for Keras 3.

    Args:
        kind: what the file is.
        config: the configuration as the file has it.
        repaired: the same as Keras 3 reads it.
        version: of the Keras that wrote it, as it stands in the file.
        repairs: what had to be changed, in words.
        renamed: whether the weights have names of an older Keras.
        contents: what is in its HDF5 part.
        iterations: how many updates the optimizer in the file has made; None where the file has none.
        bare: whether the file has weights only, and the configuration is another file's.
    """

    kind: Format
    config: Config
    repaired: repairs.Repaired
    version: str | None
    repairs: tuple[str, ...]
    renamed: bool
    contents: Contents
    iterations: int | None
    bare: bool = False


@dataclass(frozen=True, slots=True)
class KerasFile:
    """A Keras model file.

    Args:
        path: the file.
        format: what it is.
        model: the model.
        version: of the Keras that wrote it; None where the file does not say.
        repairs: what had to be changed in its configuration.
        iterations: how many updates the optimizer in the file has made; None where the file has none.
        renamed: whether its weights were found under other names than the file has.
    """

    path: Path
    format: Format
    model: StoredLayer
    version: str | None
    repairs: tuple[str, ...]
    iterations: int | None
    renamed: bool
    _digest: Future[str]

    @property
    def sha256(self) -> str:
        """The hash of its content, which is computed while the model is read.

        Raises:
            InputError: the weights are not those that were written, by their checksum.
        """
        return self._digest.result()


def prepare(path: Path, architecture: Architecture | None = None) -> Prepared:
    """The configuration of the model in a file, after the checks that need no framework.

    Args:
        path: the file.
        architecture: its architecture, where it has weights only.

    Raises:
        InputError: the file is not a complete Keras model, refers to others, or would become far larger than it is.
        MachineError: h5py is not installed.
    """
    if find_spec("h5py") is None:
        raise MachineError(
            "h5py is required to read Keras files",
            fix="install it with: pip install 'bnexport[keras]', which brings Keras too",
        )
    kind = model_format(path)
    if kind in (Format.ONNX, Format.SAVED_MODEL):
        what = "an ONNX file" if kind == Format.ONNX else "a SavedModel, which Keras cannot load as a model"
        raise InputError(f"{path} is {what}", expected="a Keras model (.h5, .hdf5 or .keras)")
    with container.open_file(path, kind) as file:
        contents = container.contents_of(file, path, kind) if file is not None else Contents(bytes=path.stat().st_size)
        count = container.iterations(file, contents, kind) if file is not None else None
    written = container.version(path, kind) or (architecture.version if architecture else None)
    with refusing(f"the configuration of the model in {path} is not one that Keras writes"):
        try:
            config = architecture.config if architecture else keras_config.read(path, kind, contents)
            container.refuse_absurd(config, contents.bytes, path)
            repaired = repairs.repair(config, written)
        except RecursionError as error:
            raise InputError(f"the model configuration in {path} is nested too deeply") from error
    by_layer = kind == Format.HDF5 and (architecture is None or weights.is_by_layer(path))
    unfinished = misread.inner_statistics(repaired.config) if by_layer and isinstance(repaired.config, dict) else 0
    layout = weights.old_layout([*contents.groups, *contents.datasets]) if kind == Format.KERAS else ()
    notes = (
        *repaired.notes,
        *layout,
        *([f"{STATISTICS}{f' ({unfinished}x)' if unfinished > 1 else ''}"] if unfinished else []),
        *([f"combined with the architecture {architecture.origin}"] if architecture else []),
    )
    return Prepared(kind, config, repaired, written, notes, bool(layout), contents, count, architecture is not None)


def read_file(path: Path, architecture: Architecture | None = None) -> KerasFile:
    """The model in a .h5, .hdf5 or .keras file; what counts is the content, not the suffix. Nothing in the file is run.

    Args:
        path: the file.
        architecture: its architecture, where it has weights only.

    Raises:
        UnclearWeights: it is not clear which weight is which.
        InputError: the file is not a complete Keras model.
    """
    if not path.is_file():  # whoever reads it says what it is
        return _read(path, architecture)
    key = (path, *cache.facts(path), architecture.sha256 if architecture else "")
    latest = _LATEST.get("file")
    if latest is None or latest[0] != key:
        latest = _LATEST["file"] = key, _read(path, architecture)
    return latest[1]


_LATEST: dict[str, tuple[tuple[object, ...], KerasFile]] = {}
"""The file that was read last, with what changes with it: a model is described, exported and rewritten one after the other."""


def _read(path: Path, architecture: Architecture | None) -> KerasFile:
    prepared = prepare(path, architecture)
    config = prepared.repaired.config
    with refusing(f"the configuration of the model in {path} is not one that Keras writes"):
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise InputError(f"the model configuration in {path} is damaged", expected="a model with its configuration")
        if architecture:
            model = _read_weights(path, config, prepared.contents, architecture)
        elif prepared.kind == Format.HDF5:
            model = _read_hdf5(path, config, prepared.contents)
        else:
            find, words = in_archive(_open_archive(path, prepared)), container.vocabularies(path)
            model = layer_tree(config, "", "", find, words=words)
        refuse_misshapen(model)
    digest = _BESIDE.submit(_digest, path, prepared.kind)
    return KerasFile(
        path, prepared.kind, model, prepared.version, prepared.repairs, prepared.iterations, prepared.renamed, digest
    )


_BESIDE = ThreadPoolExecutor(2, "hash")


def _digest(path: Path, kind: Format) -> str:
    if kind == Format.KERAS:
        container.verify_weights(path)
    return cache.hash_once(path)


def _open_hdf5(path: Path, contents: Contents) -> Store:
    import h5py

    file = h5py.File(path, "r")
    return Store(file, contents, None if file.userblock_size else path)


def _read_hdf5(path: Path, config: Config, contents: Contents) -> StoredLayer:
    store = _open_hdf5(path, contents)
    model = layer_tree(config, "", "", lambda *_: {})
    return with_weights_of_hdf5(model, store, "model_weights" if "model_weights" in store.file else "")


def _read_weights(path: Path, config: Config, contents: Contents, architecture: Architecture) -> StoredLayer:
    """The model of an architecture with the weights in a file.

    Raises:
        InputError: they do not belong together.
    """
    try:
        if weights.is_by_layer(path):
            model = _read_hdf5(path, config, contents)
        else:
            model = layer_tree(config, "", "", in_archive(_open_hdf5(path, contents)))
        refuse_misfits(model, contents)
    except UnclearFile as error:
        raise InputError(f"the weights in {path} do not fit the architecture {architecture.origin}: {error}") from error
    return model


def _open_archive(path: Path, prepared: Prepared) -> Store:
    """The weights in a .keras file, under the names of Keras 3."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        if not prepared.renamed:
            start = container.start_of_weights(archive, path)
            file = container.open_weights(archive, path)
            return Store(file, prepared.contents, path if start is not None else None, start or 0)
        content = weights.current_layout(archive.read(container.WEIGHTS))
    file = h5py.File(io.BytesIO(content), "r")
    return Store(file, read_contents(file, path, len(content)))
