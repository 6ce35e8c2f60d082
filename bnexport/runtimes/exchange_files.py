"""Tensors in files, as programs in other languages read and write them: .npz, .npy, or ONNX' .pb."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bnexport.errors import InputError, reason
from bnexport.onnx_graph import protobuf
from bnexport.types import Array

FORMATS = ("npz", "npy", "pb")
"""One .npz file with an array for each tensor; or a folder of input_0.npy or input_0.pb and so on, outputs as output_0."""

_LARGE = (1 << 31) - (1 << 20)
"""Larger arrays need fields in their headers that simple readers do not know."""


def write_tensors(tensors: Mapping[str, Array], path: Path, kind: str) -> Path:
    """Writes the inputs of a batch; nothing is compressed.

    Args:
        tensors: the inputs, in the order of the model.
        path: the folder; for .npz the file, without its ending.
        kind: one of `FORMATS`.

    Returns:
        The file or folder.
    """
    if kind == "npz":
        file = path.with_suffix(".npz")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, x in tensors.items():  # numpy.savez has no array called file
                with archive.open(f"{name}.npy", "w", force_zip64=x.nbytes > _LARGE) as entry:
                    np.lib.format.write_array(entry, np.asarray(x, order="C"), allow_pickle=False)
        return file
    path.mkdir()
    for position, (name, x) in enumerate(tensors.items()):
        file = path / f"input_{position}.{kind}"
        if kind == "npy":
            np.save(file, np.asarray(x, order="C"), allow_pickle=False)
        else:
            file.write_bytes(protobuf.tensor_bytes(x, name))
    return path


def read_tensors(path: Path, names: Sequence[str], kind: str, program: str) -> dict[str, Array]:
    """The outputs that a program wrote, by name.

    Args:
        path: the .npz file, or the folder.
        names: of the outputs, in the order of the model.
        kind: one of `FORMATS`.
        program: what messages call the program.

    Raises:
        InputError: there are none, or a file is damaged.
    """
    where = path.name if kind == "npz" else f"output_N.{kind}"
    if kind == "npz" and not path.is_file():
        raise InputError(f"the program {program} ends without an error, but does not write {{outputs}} ({where})")
    try:
        if kind == "npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        outputs: dict[str, Array] = {}
        for position, name in enumerate(names):
            file = path / f"output_{position}.{kind}"
            if file.is_file():
                where = file.name
                outputs[name] = (
                    np.load(file, allow_pickle=False)
                    if kind == "npy"
                    else protobuf.array_from(file.read_bytes(), file.name)
                )
        return outputs
    except Exception as error:  # NumPy, zipfile and the decompressor raise errors of many classes
        raise InputError(f"the program {program} writes {where}, which cannot be read ({reason(error)})") from error
