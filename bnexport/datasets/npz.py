"""The .npz file of arrays that a model is run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError, reason
from bnexport.system import files


def refuse_no_numbers(what: str, array: NDArray[Any]) -> None:
    """Refuses an array that a model cannot compute with.

    Raises:
        InputError: it is complex, or holds no numbers.
    """
    kind = array.dtype.kind
    if kind == "c":
        raise InputError(
            f"{what} is complex, and its imaginary part would be lost",
            found=str(array.dtype),
            fix="store real and imaginary part as the model takes them",
        )
    if kind not in "fiub":
        raise InputError(
            f"{what} holds no numbers",
            found=str(array.dtype),
            fix="store the numbers that the model computes with; of text, the token ids behind the model's lookup table",
        )


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name.

    Raises:
        InputError: there is no such file, or it is something else than plain arrays with rows.
    """
    try:
        with files.open_regular(path) as stream, np.load(stream, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is not an .npz file", found="a single array", fix="write it with numpy.savez")
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize and NumPy raise whatever they come upon in a damaged file
        raise InputError(
            f"{path} is not an .npz file of plain arrays ({reason(error)})", fix="write it with numpy.savez"
        ) from error
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray) or array.ndim == 0]:
        raise InputError(f"{path} is not an .npz file of plain arrays", found=f"{strange[0]} is no array with rows")
    return arrays
