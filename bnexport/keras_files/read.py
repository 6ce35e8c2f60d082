"""A model file of Keras, read without Keras: its layers, their calls and where their weights are."""

from __future__ import annotations

import io
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import InputError, MachineError, refusing
from bnexport.keras_files import config as keras_config, container, repairs, weights
from bnexport.keras_files.contents import Contents, read_contents
from bnexport.keras_files.defaults import Config
from bnexport.keras_files.layers import Store, StoredLayer
from bnexport.keras_files.tree import in_archive, layer_tree, with_weights_of_hdf5
from bnexport.system.files import Format, model_format, sha256


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
    """

    kind: Format
    config: Config
    repaired: repairs.Repaired
    version: str | None
    repairs: tuple[str, ...]
    renamed: bool
    contents: Contents
    iterations: int | None


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


def prepare(path: Path) -> Prepared:
    """The configuration of the model in a file, after the checks that need no framework.

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
    written = container.version(path, kind)
    with refusing(f"the configuration of the model in {path} is not one that Keras writes"):
        try:
            config = keras_config.read(path, kind)
            container.refuse_absurd(config, contents.bytes, path)
            repaired = repairs.repair(config, written)
        except RecursionError as error:
            raise InputError(f"the model configuration in {path} is nested too deeply") from error
    layout = weights.old_layout([*contents.groups, *contents.datasets]) if kind == Format.KERAS else ()
    return Prepared(kind, config, repaired, written, (*repaired.notes, *layout), bool(layout), contents, count)


def read_file(path: Path) -> KerasFile:
    """The model in a .h5, .hdf5 or .keras file; what counts is the content, not the suffix. Nothing in the file is run.

    Raises:
        UnclearWeights: it is not clear which weight is which.
        InputError: the file is not a complete Keras model.
    """
    prepared = prepare(path)
    config = prepared.repaired.config
    with refusing(f"the configuration of the model in {path} is not one that Keras writes"):
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise InputError(f"the model configuration in {path} is damaged", expected="a model with its configuration")
        if prepared.kind == Format.HDF5:
            model = _read_hdf5(path, config, prepared.contents)
        else:
            model = layer_tree(config, "", "", in_archive(_open_archive(path, prepared)))
    digest = _BESIDE.submit(_digest, path, prepared.kind)
    return KerasFile(
        path, prepared.kind, model, prepared.version, prepared.repairs, prepared.iterations, prepared.renamed, digest
    )


_BESIDE = ThreadPoolExecutor(2, "hash")


def _digest(path: Path, kind: Format) -> str:
    if kind == Format.KERAS:
        container.verify_weights(path)
    return sha256(path)


def _read_hdf5(path: Path, config: Config, contents: Contents) -> StoredLayer:
    import h5py

    file = h5py.File(path, "r")
    store = Store(file, contents, None if file.userblock_size else path)
    model = layer_tree(config, "", "", lambda *_: {})
    return with_weights_of_hdf5(model, store, "model_weights" if "model_weights" in store.file else "")


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
