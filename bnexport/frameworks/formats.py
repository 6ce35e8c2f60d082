"""Which of bnexport's own formats a file has, for frameworks that are asked whether they know it."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from bnexport.errors import InputError
from bnexport.system import files
from bnexport.system.files import Format

_CONFIGURATION = "config.json"


def format_of(source: object) -> Format | None:
    """The format of a file; None for anything but a path, and where it is none of them (`files.model_format` says what it is).

    An archive is Keras' by its name or by the configuration in it: others make archives too.
    """
    if not isinstance(source, Path):
        return None
    try:
        kind = files.model_format(source)
    except InputError:
        return None
    return None if kind == Format.KERAS and not _is_of_keras(source) else kind


def _is_of_keras(path: Path) -> bool:
    return path.suffix == ".keras" or _CONFIGURATION in names_in_archive(path)


def names_in_archive(path: Path) -> tuple[str, ...]:
    """The names of the files in a zip archive; none where it is no archive or damaged: whoever reads it says how."""
    try:
        with files.open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            return tuple(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, struct.error, InputError):
        return ()


def other_format(path: Path) -> str:
    """The format of a file that runtimes execute and that is not ONNX: "tflite" or "openvino-ir"; "" for any other file, or none."""
    try:
        with files.open_regular(path) as stream:
            head = stream.read(256)
    except (OSError, ValueError, InputError):
        return ""
    if head.startswith(b"version https://git-lfs.github.com"):
        return ""
    return "tflite" if head[4:8] == b"TFL3" else {".tflite": "tflite", ".xml": "openvino-ir"}.get(path.suffix, "")


def refuse_artifact(path: Path) -> None:
    """Refuses a file as a model that only runtimes execute.

    Raises:
        InputError: it is one.
    """
    if kind := other_format(path):
        raise InputError(
            f"{path} is a file for runtimes ({kind}), which says nothing about the model that it was made from",
            fix=f"pass that model, and this file as --deployed: bnexport check model.keras images/ --deployed {path}",
        )
