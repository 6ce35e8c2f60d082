"""What a file computes in Keras 2: tf_keras, in a process of its own with limits (no framework enters this one)."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bnexport.errors import InputError, MachineError
from bnexport.frameworks.keras.custom_modules import imported_modules
from bnexport.keras_files import (
    config as keras_config,
    defaults as keras_defaults,
    repairs as keras_repairs,
    weights as keras_weights,
)
from bnexport.keras_files.read import prepare
from bnexport.system.child import Child
from bnexport.system.files import Format, model_format, sha256
from bnexport.types import Array

Listed = tuple[str, tuple[int | None, ...], str]
"""The name, shape (None for an open axis) and dtype of an input or output."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What the model takes and gives in Keras 2, in order.

    Args:
        inputs: each input.
        outputs: each output.
        parameters: the number of weights.
    """

    inputs: tuple[Listed, ...]
    outputs: tuple[Listed, ...]
    parameters: int


def refuse_absence() -> None:
    """Refuses to go on where tf_keras is not installed.

    Raises:
        MachineError: it is missing.
    """
    if find_spec("tf_keras") is None or find_spec("tensorflow") is None:
        raise MachineError(
            "the reference keras2 requires tf_keras (Keras 2)",
            fix="install it with: pip install 'bnexport[keras2]'",
        )


def versions() -> dict[str, str]:
    """The versions of TensorFlow and tf_keras.

    Raises:
        MachineError: tf_keras is not installed.
    """
    refuse_absence()
    return {"tensorflow": version("tensorflow"), "tf_keras": version("tf_keras")}


class Model:
    """A Keras file in Keras 2. The process that holds it ends with this object.

    The file is copied first, and the copy is inspected as `keras_model.load` inspects a file, before tf_keras sees it.

    Args:
        path: the .h5, .hdf5 or .keras file.
        digest: the SHA-256 that its content must have.
        trust: load it even where it holds code of its own, and run that code.

    Raises:
        InputError: the file is damaged, changed, holds code of its own, or Keras 2 cannot read it.
        MachineError: tf_keras is not installed, or its process came to an end.
    """

    def __init__(self, path: Path, digest: str, *, trust: bool = False) -> None:
        refuse_absence()
        self._folder = Path(tempfile.mkdtemp(prefix="bnexport-keras2-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        copy = _inspect(path, digest, self._folder, trust=trust)
        self._child = Child(
            "bnexport.frameworks.keras.keras2_child",
            [str(copy), "trust" if trust else "safe", *imported_modules(trust=trust)],
            {"TF_USE_LEGACY_KERAS": "1"},
            path=path,
            title=f"Keras 2 (tf_keras {version('tf_keras')})",
            fix="omit --reference keras2 if the file was written by Keras 3",
        )
        answer = self._child.description
        inputs, outputs = (
            tuple((name, tuple(shape), dtype) for name, shape, dtype in answer[key]) for key in ("inputs", "outputs")
        )
        self.interface = Interface(inputs, outputs, answer["parameters"])

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        """The outputs of the inference pass by name, and `OUTPUT/logits` for each that ends in softmax or sigmoid.

        Args:
            arrays: one batch for each input, in the order of the interface, shape (N, ...).

        Raises:
            InputError: Keras 2 cannot run the model on them.
            MachineError: its process came to an end.
        """
        return self._child.ask(arrays)


def _inspect(path: Path, digest: str, folder: Path, *, trust: bool) -> Path:
    """A copy of the file under a name that tf_keras knows, after the inspection that every Keras file passes."""
    kind = model_format(path)
    copy = folder / ("model.h5" if kind == Format.HDF5 else "model.keras")
    shutil.copyfile(path, copy)
    if sha256(copy) != digest:
        raise InputError(
            f"{path} changed while it was read", fix="run the command again when no other process writes to it"
        )
    prepared = prepare(copy)
    stated, written = prepared.config, prepared.version
    if not trust:
        keras_config.refuse_foreign(stated, path, written)
    if kind == Format.HDF5 and keras_repairs.is_old(stated, written):  # .keras files say everything
        stated = keras_defaults.copy_with_defaults(stated, written or "", keras_repairs.numbers(written))
    if stated == prepared.config and not prepared.renamed:  # tf_keras looks for weights where Keras 3 does
        return copy
    rewritten = folder / f"rewritten{copy.suffix}"
    keras_weights.write_with(copy, kind, stated, rewritten, renamed=prepared.renamed)
    return rewritten
