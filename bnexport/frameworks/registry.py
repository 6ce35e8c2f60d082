"""Which frameworks are installed, and which of them knows a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeGuard

from bnexport.errors import MachineError, UsageError
from bnexport.frameworks.formats import refuse_artifact
from bnexport.frameworks.names import is_name
from bnexport.frameworks.protocols import About, Framework, Want
from bnexport.system import files
from bnexport.system.plugins import Plugins


def _is_framework(plugin: object) -> TypeGuard[Framework]:
    return isinstance(plugin, Framework)


FRAMEWORKS = Plugins(
    "bnexport.frameworks",
    "framework",
    _is_framework,
    "about, recognises and load",
    {
        "torch": "bnexport.frameworks.torch.reference:Torch",
        "keras": "bnexport.frameworks.keras.reference:Keras",
        "saved-model": "bnexport.frameworks.saved_model.reference:SavedModels",
        "onnx": "bnexport.frameworks.onnx_file:Onnx",
        "keras2": "bnexport.frameworks.keras.keras2_reference:Keras2",
    },
)
"""The frameworks that are installed, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A framework, and the format that it knows a source by."""

    name: str
    format: str
    framework: Framework
    about: About


def recognise(source: Path) -> Recognised:
    """The framework of a model: of a file, or of what is named (`bnexport.frameworks.names`).

    Raises:
        InputError: there is no such file, or no framework knows it.
        MachineError: a plug-in fails.
    """
    if (files.status(source) is not None or is_name(source)) and (recognition := _first(source)) is not None:
        return recognition
    refuse_artifact(source)
    kind = str(files.model_format(source))  # says what else it is; or it is an archive that Keras may say more about
    return _recognition("keras", FRAMEWORKS.open("keras"), kind)


def refuse_needless(recognition: Recognised, path: Path, want: Want) -> None:
    """Makes sure that a signature is named only for what may have several, an architecture or weights for what may lack them.

    Raises:
        UsageError: one is named for another model.
    """
    if want.architecture and not recognition.about.architectures:
        raise UsageError(
            "an architecture requires a Keras file with weights only", found=str(path), fix="omit --architecture"
        )
    if want.weights is not None and not recognition.about.weights:
        raise UsageError(
            "weights in a file of their own require a PyTorch module",
            found=str(path),
            fix="name the module, or a function that makes it: bnexport check package.module:factory --weights FILE",
        )
    if want.signature and not recognition.about.signatures:
        raise UsageError("a signature requires a SavedModel", found=str(path), fix="omit --signature")


def in_memory(model: object) -> Recognised | None:
    """The framework that knows a model in memory and writes it to a file; None where there is none.

    Raises:
        MachineError: a plug-in fails.
    """
    return _first(model)


def framework_named(name: str, kind: str) -> Recognised:
    """The framework of a name, for a file that another one has recognised.

    Raises:
        UsageError: there is no such framework.
        MachineError: the plug-in fails.
    """
    return _recognition(name, FRAMEWORKS.open(name), kind)


def _first(source: object) -> Recognised | None:
    """The first framework that knows a source: bnexport's own are asked first, and the others only where none of them knows it."""
    failed: MachineError | None = None
    for name in FRAMEWORKS.each():
        try:
            framework = FRAMEWORKS.open(name)
            kind = FRAMEWORKS.guard(name, partial(framework.recognises, source))
        except MachineError as error:  # another plug-in may know it
            failed = failed or error
            continue
        if kind:
            return _recognition(name, framework, kind)
    if failed is not None:
        raise failed
    return None


def _recognition(name: str, framework: Framework, kind: str) -> Recognised:
    return Recognised(name, kind, framework, FRAMEWORKS.guard(name, framework.about))
