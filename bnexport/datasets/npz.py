"""The .npz file of arrays that a model is run on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bnexport.errors import InputError, UsageError, reason
from bnexport.results.actions import spell_options
from bnexport.system import files
from bnexport.types import Array

Shape = tuple[int | None, ...]


def refuse_no_numbers(what: str, dtype: np.dtype[np.generic]) -> None:
    """Refuses an array that a model cannot compute with.

    Raises:
        InputError: it is complex, or holds no numbers.
    """
    if dtype.kind == "c":
        raise InputError(
            f"{what} is complex, which models do not support",
            found=str(dtype),
            fix="store the real and imaginary parts in the layout that the model expects",
        )
    if dtype.kind not in "fiub":
        raise InputError(
            f"{what} is not numeric",
            found=str(dtype),
            fix="store numbers; for a model behind a tokenizer, store the token ids that it returns",
        )


def load(path: Path, *, rows: bool = True) -> dict[str, Array]:
    """The arrays by name.

    Args:
        path: the file.
        rows: whether each array must have an axis.

    Raises:
        InputError: there is no such file, or it is something else than plain arrays with rows.
    """
    arrays = _load(path)
    if not isinstance(arrays, dict):
        raise InputError(f"{path} is not an .npz file", found="a single array", fix="write it with numpy.savez")
    if strange := [n for n, x in arrays.items() if not isinstance(x, np.ndarray) or (rows and x.ndim == 0)]:
        raise InputError(
            f"{path} is not an .npz file of plain arrays", found=f"{strange[0]}, which is not an array with rows"
        )
    return arrays


def load_one(path: Path) -> Array:
    """The array in an .npy file.

    Raises:
        InputError: there is no such file, or it is something else than one plain array.
    """
    array = _load(path)
    if isinstance(array, dict):
        raise InputError(f"{path} is not an .npy file", found="an .npz file", fix="write it with numpy.save")
    return array


def _load(path: Path) -> Array | dict[str, Array]:
    suffix, writer = (".npy", "numpy.save") if path.suffix.lower() == ".npy" else (".npz", "numpy.savez")
    try:
        with files.open_regular(path) as stream:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile):
                return {name: content[name] for name in content.files}
            array: Array = content
            return array
    except FileNotFoundError as error:
        raise InputError(f"the file {path} does not exist", fix="check the path") from error
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize and NumPy raise whatever they come upon in a damaged file
        raise InputError(
            f"{path} is not an {suffix} file of plain arrays ({reason(error)})", fix=f"write it with {writer}"
        ) from error


def only_input(shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> tuple[str, Shape]:
    """The name and shape of a model's only input.

    Args:
        shapes: of each input by name, None for an open axis.
        dtypes: of each input by name, as NumPy calls it.

    Raises:
        UsageError: it has several.
    """
    if len(shapes) != 1:
        inputs = ", ".join(f"{name} {_dtype_text(name, dtypes)} {_shape_text(shape)}" for name, shape in shapes.items())
        sets = "one folder of images for each, called as the input, or " * all(len(s) == 4 for s in shapes.values())
        raise UsageError(
            f"the model has {len(shapes)} inputs ({inputs}), which images cannot provide",
            fix=f"pass {sets}{spell_options(inputs='data.npz')}; this command writes an example of such a file: {savez(shapes, dtypes)}",
        )
    return next(iter(shapes.items()))


def savez(shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> str:
    """A command that writes zeros of these shapes to data.npz, eight rows each, with 8 for other open axes."""
    arrays = {
        name: f"np.zeros({tuple(8 if side is None else side for side in (None, *shape[1:]))}, {_dtype_text(name, dtypes)!r})"
        for name, shape in shapes.items()
    }
    pairs = ", ".join(f"{name!r}: {array}" for name, array in arrays.items())
    return "python -c " + shlex.quote(f"import numpy as np; np.savez('data.npz', **{{{pairs}}})".replace("'", '"'))


def _dtype_text(name: str, dtypes: Mapping[str, str]) -> str:
    """What NumPy calls the dtype of an input; of text, whose arrays in ONNX hold objects, "str"."""
    dtype = dtypes.get(name, "float32")
    return "str" if dtype == "object" else dtype


def _shape_text(shape: Shape) -> str:
    return "x".join("N" if side is None else str(side) for side in shape)
