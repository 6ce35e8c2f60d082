"""The containers that Keras models come in (zip, HDF5), before anything in them is believed: what reaches outside, and what would fill the memory (h5py)."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bnexport.errors import InputError, reason
from bnexport.files import Format

_RATIO, _SPARE = 20, 64 << 20
"""What a file may become when it is unpacked: so many times its own size, and so much besides. Weights hardly compress."""

_MOST_CONFIG = 64 << 20
_WIDTHS = ("units", "filters", "output_dim", "input_dim", "hidden_dim", "key_dim")
"""What a layer calls its width: each has at least one weight for every one of these."""

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def inspected(path: Path, kind: Format) -> int:
    """How many bytes of weights a file declares.

    Raises:
        InputError: it is damaged, refers to other files, or would become far larger than it is.
    """
    import h5py

    size = path.stat().st_size
    try:
        if kind == Format.HDF5:
            with h5py.File(path, "r") as file:
                return _weights(file, path, size)
        with zipfile.ZipFile(path) as archive:
            _refuse_bomb(sum(item.file_size for item in archive.infolist()), size, path)
            if WEIGHTS not in archive.namelist():
                return size
            stored = archive.getinfo(WEIGHTS).compress_type == zipfile.ZIP_STORED
            with archive.open(WEIGHTS) as stream, h5py.File(stream if stored else io.BytesIO(stream.read())) as file:
                return _weights(file, path, size)
    except InputError:
        raise
    except Exception as error:  # the two libraries raise whatever they come upon in a damaged file
        raise _damaged(path, kind, error) from error


def config_text(path: Path, kind: Format) -> Any:
    """The configuration as it stands in the file; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    import h5py

    try:
        if kind == Format.HDF5:
            with h5py.File(path, "r") as file:
                return file.attrs.get("model_config")
        with zipfile.ZipFile(path) as archive:
            if CONFIG not in archive.namelist():
                return None
            if archive.getinfo(CONFIG).file_size > _MOST_CONFIG:
                raise InputError(f"the configuration in {path} is larger than {_MOST_CONFIG >> 20} MiB")
            return archive.read(CONFIG)
    except InputError:
        raise
    except Exception as error:  # as above
        raise _damaged(path, kind, error) from error


def holds_weights(path: Path) -> bool:
    """Whether an HDF5 file without a model holds weights.

    Raises:
        InputError: it is damaged.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "layer_names" in file.attrs or "layers" in file or "model_weights" in file
    except Exception as error:  # as above
        raise _damaged(path, Format.HDF5, error) from error


def refuse_absurd(config: Any, weights: int, path: Path) -> None:
    """Refuses layers that are wider than the file has weights for: Keras would try to make them.

    Raises:
        InputError: there is one.
    """
    for entry in _configs(config):
        for key in _WIDTHS:
            value = entry.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > max(weights, 1 << 20):
                raise InputError(
                    f"{path} is no model that was trained: a layer's {key} is {value}, and the file holds {weights} bytes of weights"
                )


def _configs(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _configs(part)
    elif isinstance(value, list):
        for part in value:
            yield from _configs(part)


def _weights(file: Any, path: Path, size: int) -> int:
    """The bytes of all data sets and attributes in an HDF5 file, after making sure that every one of them is in it."""
    import h5py

    total, waiting, seen = 0, [file], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        total += _attributes(group)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise InputError(f"{path} refers to another file", found=f"{name} is a link to {link.filename}")
            if isinstance(link, h5py.SoftLink):
                continue
            found = group[name]
            if isinstance(found, h5py.Group):
                waiting.append(found)
            elif isinstance(found, h5py.Dataset):
                if found.external or found.is_virtual:
                    raise InputError(f"{path} refers to another file", found=f"the values of {name} are elsewhere")
                total += found.size * found.dtype.itemsize + _attributes(found)
            _refuse_bomb(total, size, path)
    _refuse_bomb(total, size, path)
    return total


def _attributes(found: Any) -> int:
    """The bytes of its attributes, as they are declared."""
    attributes = [found.attrs.get_id(name) for name in found.attrs]
    return sum(math.prod(attribute.shape) * attribute.dtype.itemsize for attribute in attributes)


def _refuse_bomb(total: int, size: int, path: Path) -> None:
    if total > _RATIO * size + _SPARE:
        raise InputError(
            f"{path} would become far larger than it is",
            found=f"{size} bytes that unpack to {total}",
            expected="a model",
        )


def _damaged(path: Path, kind: Format, error: Exception) -> InputError:
    what = "HDF5 file" if kind == Format.HDF5 else "Keras archive"
    return InputError(f"{path} is a damaged {what} ({reason(error)})", fix="copy or download it again")
