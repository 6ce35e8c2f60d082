"""A Keras model from a file, and back into one (keras)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.errors import InputError, MachineError, reason, refusing
from bnexport.frameworks.keras.backends import Backend, open_backend
from bnexport.frameworks.keras.installed import EXTRAS, TITLES, backend_name, choose_backend, refuse_absence
from bnexport.frameworks.keras.patch import finish_statistics, load_error, name_scopes_restored
from bnexport.frameworks.keras.paths import weight_names
from bnexport.keras_files import config as keras_config, repairs as keras_repairs, weights as keras_weights
from bnexport.keras_files.architecture import Architecture
from bnexport.keras_files.graph import distinct, output_names
from bnexport.keras_files.naming import public_names
from bnexport.keras_files.read import Prepared, prepare
from bnexport.system import machine
from bnexport.system.files import Format, sha256
from bnexport.system.imports import leave_out, without_collection
from bnexport.system.quiet import hold_native_output
from bnexport.types import Array

if TYPE_CHECKING:
    from keras import KerasTensor, Model, Variable


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input of a model: its name, its shape (None for an open axis) and its NumPy dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A Keras model that was read from a file.

    Args:
        path: the file.
        sha256: the hash of its content.
        format: what it is.
        keras: the keras.Model itself; only files of `runtimes` look inside.
        inputs: what it takes, in order.
        outputs: the names of what it returns, in order.
        weights: the model's variables by the path of their layer and their name; one that occurs twice gets "#2" behind it.
        parameters: the number of weights.
        layers: the number of BatchNormalization layers.
        frozen: how many of them are frozen (`trainable=False`).
        dtype: the widest rounding of a layer's computation: "float16", "bfloat16", "float32" or "float64".
        iterations: how many updates the optimizer in the file has made; None where the file has none.
        repairs: what had to be changed in the file's configuration before Keras could read it.
        original: the configuration in the file and the version of Keras that wrote it, where only they say what is computed (an old hard_sigmoid).
    """

    path: Path
    sha256: str
    format: Format
    keras: Model
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    weights: dict[str, Variable]
    parameters: int
    layers: int
    frozen: int
    dtype: str
    iterations: int | None = None
    repairs: tuple[str, ...] = ()
    original: tuple[object, str] | None = None


_OPTIONAL = ("jax", "matplotlib", "pandas", "sklearn")
"""Packages that Keras or TensorFlow imports where they are installed, and that no pass needs: half of the time, with all of them there."""


def load_framework(backend: str = "", *, whole: bool = False) -> Backend:
    """Imports Keras and its backend, silently.

    Args:
        backend: the one that is needed; "" for the one that is chosen (`bnexport.frameworks.keras.installed`).
        whole: a user's own code is going to use them: with their functions for optional packages.

    Raises:
        MachineError: they are not installed, or Keras runs on another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name = backend or backend_name()
    if "keras" not in sys.modules:
        choose_backend(name)
    title = TITLES.get(name, name)
    try:
        optional = [] if whole else [each for each in _OPTIONAL if each != name]
        with hold_native_output(), leave_out(optional), without_collection():
            import keras

            if keras.backend.backend() == name and name in TITLES:
                open_backend(name).load()
    except ImportError as error:
        if machine.is_out_of_memory(error):
            raise machine.lack_of_memory(title, reason(error)) from error
        raise MachineError(
            f"{title} and Keras are required ({error})", fix=f"install them with: pip install '{EXTRAS[name]}'"
        ) from error
    if keras.backend.backend() != name or name not in TITLES:
        raise MachineError(
            "Keras is already imported in this process with another backend",
            found=keras.backend.backend(),
            expected=backend or " or ".join(TITLES),
            fix=f"use the bnexport command with KERAS_BACKEND={backend or 'tensorflow'}, or call bnexport in a process that has not imported Keras",
        )
    from absl import logging

    logging.set_verbosity(logging.ERROR)  # Keras warns through absl about the HDF5 format
    return open_backend(name)


def versions(backend: str = "") -> dict[str, str]:
    """The versions of Keras and of its backend; with the arguments and errors of `load_framework`."""
    loaded = load_framework(backend)
    import keras

    return {loaded.name: loaded.load(), "keras": keras.__version__}


def load(path: Path, *, trust: bool = False, architecture: Architecture | None = None) -> LoadedModel:
    """The model in a .h5, .hdf5 or .keras file; what counts is the content, not the suffix.

    The model is not compiled. Its configuration is looked at before Keras is imported: classes that are not Keras' own, and those that run code
    from the file, are refused. What Keras 3 no longer reads of files by Keras 1 and 2 is rewritten, and the result is run once.

    Args:
        path: the file.
        trust: load it even where it holds code of its own, and run that code.
        architecture: of a file that has weights only.

    Raises:
        InputError: the file is not a complete Keras model, or Keras cannot read it.
        MachineError: Keras or its backend is not installed.
    """
    refuse_absence()
    prepared = prepare(path, architecture)
    kind, config, repaired = prepared.kind, prepared.config, prepared.repaired
    written, repairs = prepared.version, prepared.repairs
    if not trust and public_names():
        keras_config.refuse_foreign(config, path, written)
    load_framework()
    model = _read(path, prepared, trust=trust)
    if not getattr(model, "inputs", None):
        raise InputError(
            f"the inputs of the model in {path} are not recorded (a subclassed or unbuilt model)",
            fix="save it as a functional or Sequential model after calling it on an input",
        )
    wanted = keras_config.input_shape(repaired.config)
    if wanted is not None and len(model.inputs) == 1 and list(model.inputs[0].shape) != wanted:
        raise InputError(
            f"Keras loads {path} as another model",
            found=f"an input of shape {tuple(model.inputs[0].shape)}",
            expected=f"{tuple(wanted)}, as in the file",
        )
    if repairs:
        _refuse_broken(model, path, written)
    with refusing(f"Keras cannot describe the model in {path}"):
        described = describe(model, path, kind, sha256(path))
    return dataclasses.replace(
        described,
        iterations=prepared.iterations,
        repairs=repairs,
        original=(config, written or "2.0.0") if repaired.hard_sigmoid else None,
    )


def _keras2_hard_sigmoid(x: KerasTensor) -> KerasTensor:
    """What Keras 1 and 2 called hard_sigmoid."""
    from keras import ops

    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@name_scopes_restored()
def _refuse_broken(model: Model, path: Path, written: str | None) -> None:
    """Runs a repaired model once: that it loads proves nothing."""
    import keras

    zeros = [keras.ops.zeros([1, *(side or 64 for side in t.shape[1:])], t.dtype) for t in model.inputs]
    structure = getattr(model, "_inputs_struct", None)
    try:
        model(keras.tree.pack_sequence_as(structure, zeros) if structure is not None else zeros[0], training=False)
    except Exception as error:
        raise InputError(
            f"Keras {versions()['keras']} cannot run {path}, which an old Keras wrote ({load_error(error)})",
            fix=keras_config.moving(written, versions()["keras"]),
        ) from error


def save_with(loaded: LoadedModel, values: Mapping[str, Array], path: Path) -> None:
    """Writes the model with new values in the weights named in `values`; the loaded model has them from then on too.

    Args:
        loaded: the model.
        values: new values by the names in `loaded.weights`.
        path: .h5 or .keras; of the file's own format where it computes an old hard_sigmoid, which only the file's own configuration can say.

    Raises:
        InputError: it is of the other format.
    """
    refuse_format(loaded, path)
    for name, value in values.items():
        loaded.weights[name].assign(value)
    loaded.keras.save(path)
    if loaded.original is not None:
        config, written = loaded.original
        keras_weights.write_with(path, loaded.format, config, path, keras_version=written)


def refuse_format(loaded: LoadedModel, path: Path) -> None:
    """Refuses an output in which the model would compute something else when it is loaded again.

    Raises:
        InputError: it is a Keras file of another format, and the model has an old hard_sigmoid.
    """
    kept = ".h5" if loaded.format == Format.HDF5 else ".keras"
    if loaded.original is not None and path.suffix in (".h5", ".keras") and path.suffix != kept:
        raise InputError(
            f"{path} cannot record that hard_sigmoid is computed as before Keras 3",
            expected=f"{kept}, the format of {loaded.path}, or .onnx",
        )


def describe(model: Model, path: Path, kind: Format, digest: str) -> LoadedModel:
    """`model` with the facts about it that other packages need."""
    import keras

    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    dtypes = {str(layer.compute_dtype) for layer in model._flatten_layers(include_self=False)}
    narrow = next((d for d in ("bfloat16", "float16", "float32") if d in dtypes), "float64")
    names = distinct([tensor.name for tensor in model.inputs])
    return LoadedModel(
        path=path,
        sha256=digest,
        format=kind,
        keras=model,
        inputs=tuple(Tensor(n, tuple(t.shape), str(t.dtype)) for n, t in zip(names, model.inputs, strict=True)),
        outputs=tuple(output_names([t._keras_history.operation.name for t in model.outputs], names)),
        weights=dict(zip(distinct(weight_names(model)), model.variables, strict=True)),
        parameters=int(model.count_params()),
        layers=len(norms),
        frozen=sum(not layer.trainable for layer in norms),
        dtype=narrow,
    )


@name_scopes_restored()
def _read(path: Path, prepared: Prepared, *, trust: bool) -> Model:
    """The model in a file, with its repaired configuration where it had to be repaired."""
    import keras

    kind, written = prepared.kind, prepared.version

    suffix = ".h5" if kind == Format.HDF5 else ".keras"
    with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
        named = path
        if prepared.bare:
            named = Path(folder, "model.h5" if keras_weights.is_by_layer(path) else "model.keras")
            keras_weights.write_complete(path, prepared.repaired.config, named)
        elif prepared.repairs:
            named = Path(folder, f"model{suffix}")
            keras_weights.write_with(path, kind, prepared.repaired.config, named, renamed=prepared.renamed)
        elif path.suffix != suffix and not (kind == Format.HDF5 and path.suffix == ".hdf5"):  # Keras goes by the suffix
            named = Path(folder, f"model{suffix}")
            try:
                named.symlink_to(path.resolve())
            except OSError:
                shutil.copyfile(path, named)  # a file system without links
        try:
            with (
                warnings.catch_warnings(),
                keras.saving.custom_object_scope({keras_repairs.HARD_SIGMOID: _keras2_hard_sigmoid}),
            ):
                warnings.simplefilter("ignore", UserWarning)  # advice to whoever wrote the model
                return finish_statistics(keras.models.load_model(named, compile=False, safe_mode=not trust))
        except Exception as error:
            raise InputError(
                f"Keras {keras.__version__} cannot read {path} ({load_error(error)})",
                found=f"a file written by Keras {written}" if written else "",
                fix=keras_config.moving(written, keras.__version__),
            ) from error
