"""The containers that Keras models come in (zip, HDF5), before anything in them is believed: what reaches outside, and what would fill the memory (h5py)."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexport.errors import InputError, reason
from bnexport.system.files import Format

if TYPE_CHECKING:
    import h5py

_RATIO, _SPARE = 20, 64 << 20
"""What a file may become when it is unpacked: so many times its own size, and so much besides. Weights hardly compress."""

_MOST_CONFIG = 64 << 20
_WIDTHS = ("units", "filters", "output_dim", "input_dim", "hidden_dim", "key_dim")
"""What a layer calls its width: each has at least one weight for every one of these."""

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def declared_weight_bytes(path: Path, kind: Format) -> int:
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
            if CONFIG not in archive.namelist():
                return size  # no model at all, which whoever reads the configuration says
            if WEIGHTS not in archive.namelist():
                other = [name for name in archive.namelist() if "weights" in name]
                raise InputError(
                    f"{path} does not contain the weights file {WEIGHTS}",
                    found=", ".join(other)[:200],
                    fix="save it with model.save(...) in Keras 3 with h5py installed",
                )
            stored = archive.getinfo(WEIGHTS).compress_type == zipfile.ZIP_STORED
            with archive.open(WEIGHTS) as stream, h5py.File(stream if stored else io.BytesIO(stream.read())) as file:
                return _weights(file, path, size)
    except InputError:
        raise
    except Exception as error:  # the two libraries raise whatever they come upon in a damaged file
        raise _damage_error(path, kind, error) from error


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
                raise InputError(
                    f"the model configuration in {path} is too large", expected=f"at most {_MOST_CONFIG >> 20} MiB"
                )
            return archive.read(CONFIG)
    except InputError:
        raise
    except Exception as error:  # as above
        raise _damage_error(path, kind, error) from error


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
        raise _damage_error(path, Format.HDF5, error) from error


def refuse_absurd(config: object, weights: int, path: Path) -> None:
    """Refuses layers that are wider than the file has weights for: Keras would try to make them.

    Raises:
        InputError: there is one.
    """
    for entry in _configs(config):
        for key in _WIDTHS:
            value = entry.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > max(weights, 1 << 20):
                raise InputError(
                    f"{path} is not a trained model: a layer has {key} {value}, but the file contains {weights} bytes of weights"
                )


def _configs(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _configs(part)
    elif isinstance(value, list):
        for part in value:
            yield from _configs(part)


def _weights(file: h5py.File, path: Path, size: int) -> int:
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
                raise InputError(f"{path} refers to another file", found=f"the link {name} to {link.filename}")
            if isinstance(link, h5py.SoftLink):
                continue
            entry = group[name]
            if isinstance(entry, h5py.Group):
                waiting.append(entry)
            elif isinstance(entry, h5py.Dataset):
                if entry.dtype.kind == "O":
                    raise InputError(f"{path} contains weights that are not numbers", found=f"objects in {name}")
                if entry.external or entry.is_virtual:
                    raise InputError(f"{path} refers to another file", found=f"{name} with values in another file")
                total += entry.size * entry.dtype.itemsize + _attributes(entry)
            _refuse_bomb(total, size, path)
    _refuse_bomb(total, size, path)
    return total


def _attributes(entry: h5py.Group | h5py.Dataset) -> int:
    """The bytes of its attributes, as they are declared."""
    attributes = [entry.attrs.get_id(name) for name in entry.attrs]
    return sum(math.prod(attribute.shape) * attribute.dtype.itemsize for attribute in attributes)


def _refuse_bomb(total: int, size: int, path: Path) -> None:
    if total > _RATIO * size + _SPARE:
        raise InputError(
            f"{path} is compressed far more than a model is",
            found=f"{size} bytes that unpack to {total}",
            expected="at most the size of a model",
        )


def _damage_error(path: Path, kind: Format, error: Exception) -> InputError:
    what = "HDF5 file" if kind == Format.HDF5 else "Keras archive"
    return InputError(f"{path} is a damaged {what} ({reason(error)})", fix="copy or download it again")


def version(path: Path, kind: Format) -> str | None:
    """The version of the Keras that wrote a file; None where it does not say."""
    import h5py

    with suppress(*_UNREADABLE):
        if kind == Format.HDF5:
            with h5py.File(path, "r") as file:
                text = file.attrs.get("keras_version")
                return text.decode() if isinstance(text, bytes) else text if isinstance(text, str) else None
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            text = metadata.get("keras_version") if isinstance(metadata, dict) else None
            return text if isinstance(text, str) else None
    return None


_UNREADABLE = (KeyError, OSError, ValueError, TypeError, RuntimeError, AttributeError, zipfile.BadZipFile)


def iterations(path: Path, kind: Format) -> int | None:
    """The update counter of the optimizer in a file, wherever its Keras put it; None where there is none."""
    import h5py

    with suppress(*_UNREADABLE):  # a counter is only looked at beside other evidence
        if kind == Format.HDF5:
            with h5py.File(path, "r") as file:
                return _counter(file["optimizer_weights"], ("iteration", "iteration:0", "iter", "iter:0"))
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read(WEIGHTS))) as file:
            return _counter(file, ("optimizer/vars/0",))
    return None


def _counter(group: h5py.Group, names: tuple[str, ...]) -> int | None:
    counts: list[int] = []

    def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
        path = name.replace("\\", "/")
        named = path in names or path.rsplit("/", 1)[-1] in names
        if named and hasattr(node, "dtype") and node.size == 1 and node.dtype.kind in "iu":
            counts.append(int(node[()].reshape(-1)[0]))

    group.visititems(visit)
    return counts[0] if counts and counts[0] >= 0 else None
