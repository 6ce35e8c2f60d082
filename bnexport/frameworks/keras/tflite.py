"""A Keras model as .tflite, by TensorFlow's converter in a process of its own (no framework enters this one)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bnexport.frameworks.keras.custom_modules import imported_modules
from bnexport.frameworks.keras.installed import refuse_absence
from bnexport.frameworks.models import installed_version
from bnexport.frameworks.protocols import Want
from bnexport.system.child import Child

TITLE = "the TensorFlow Lite converter"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the converter made of a model.

    Args:
        content: the .tflite file; empty where the converter refuses the model.
        refused: why; "" where it does not.
        operators: those that TFLite does not have.
    """

    content: bytes
    refused: str = ""
    operators: tuple[str, ...] = ()


def converter_version() -> str:
    """The version of TensorFlow, which is not imported; "" where it is not installed."""
    return installed_version("tensorflow")


def convert_to_tflite(source: Path, want: Want) -> Conversion:
    """The model in a Keras file as .tflite, in float32 and with the converter's defaults.

    Raises:
        InputError: the file cannot be read.
        MachineError: Keras or TensorFlow is not installed.
        EndedError: the converter crashes, or takes too long.
    """
    refuse_absence("tensorflow")
    with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
        target = Path(folder) / "model.tflite"
        arguments = [str(source.resolve()), "trust" if want.trust else "safe", want.architecture, str(target)]
        arguments += imported_modules(trust=want.trust)
        environment = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
        child = Child("bnexport.frameworks.keras.tflite_child", arguments, environment, path=source, title=TITLE)
        child.close()
        description = child.description
        if description["refused"]:
            return Conversion(b"", description["refused"], tuple(description["operators"]))
        return Conversion(target.read_bytes())
