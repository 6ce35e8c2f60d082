"""The containers that Keras models come in (zip, HDF5), before anything in them is believed: what reaches outside, and what would fill the memory (h5py)."""

from __future__ import annotations

import io
import json
import re
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexport.errors import InputError, reason
from bnexport.keras_files.contents import Contents, read_contents, refuse_bomb
from bnexport.system.files import Format

if TYPE_CHECKING:
    import h5py

_MOST_CONFIG = 64 << 20
_WIDTHS = ("units", "filters", "output_dim", "input_dim", "hidden_dim", "key_dim")
"""What a layer calls its width: each has at least one weight for every one of these."""

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def declared_weight_bytes(path: Path, kind: Format) -> int:
    """How many bytes of weights a file declares.

    Raises:
        InputError: it is damaged, refers to other files, or would become far larger than it is.
    """
    with open_file(path, kind) as file:
        return contents_of(file, path, kind).bytes if file is not None else path.stat().st_size


@contextmanager
def open_file(path: Path, kind: Format) -> Iterator[h5py.File | None]:
    """The HDF5 file that a model file is or has in it; None where an archive has no model at all, which whoever reads the configuration says.

    Raises:
        InputError: it is damaged, or an archive without weights.
    """
    import h5py

    try:
        if kind == Format.HDF5:
            file = h5py.File(path, "r")
        else:
            with zipfile.ZipFile(path) as archive:
                refuse_bomb(sum(item.file_size for item in archive.infolist()), path.stat().st_size, path)
                names = archive.namelist()
                if CONFIG not in names:
                    yield None
                    return
                if WEIGHTS not in names:
                    other = [name for name in names if "weights" in name]
                    raise InputError(
                        f"{path} does not contain the weights file {WEIGHTS}",
                        found=", ".join(other)[:200],
                        fix="save it with model.save(...) in Keras 3 with h5py installed",
                    )
                file = open_weights(archive, path)
    except InputError:
        raise
    except Exception as error:  # the two libraries raise whatever they come upon in a damaged file
        raise _damage_error(path, kind, error) from error
    with file:
        yield file


def contents_of(file: h5py.File, path: Path, kind: Format) -> Contents:
    """What is in the HDF5 part of a model file.

    Raises:
        InputError: it is damaged, refers to other files, or would become far larger than it is.
    """
    try:
        return read_contents(file, path, path.stat().st_size)
    except InputError:
        raise
    except Exception as error:  # as above
        raise _damage_error(path, kind, error) from error


def open_weights(archive: zipfile.ZipFile, path: Path) -> h5py.File:
    """The weights in a .keras file: read in place where they are stored as they are, otherwise unpacked into memory."""
    import h5py

    start = start_of_weights(archive, path)
    if start is None:
        return h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r")
    member = _Member(path, start, archive.getinfo(WEIGHTS).file_size)
    file = h5py.File(member, "r")
    weakref.finalize(file, member.close)  # h5py leaves it open
    return file


def start_of_weights(archive: zipfile.ZipFile, path: Path) -> int | None:
    """Where the weights begin in a .keras file; None where they are compressed."""
    item = archive.getinfo(WEIGHTS)
    if item.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as file:
        file.seek(item.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return item.header_offset + 30 + name + extra


class _Member(io.RawIOBase):
    """A part of a file as a file: zipfile's own goes back to its beginning whenever it is asked to go back at all."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(self._size - self._at, 0)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(view)
        self._at += count
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()


def verify_weights(path: Path) -> None:
    """Makes sure that the weights in a .keras file are those that were written, by their checksum.

    Raises:
        InputError: they are damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS) as stream:
            while stream.read(1 << 20):
                pass
    except Exception as error:  # the library raises whatever it comes upon in a damaged file
        raise _damage_error(path, Format.KERAS, error) from error


def config_text(path: Path, kind: Format) -> str | bytes | None:
    """The configuration as it stands in the file; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    import h5py

    try:
        if kind == Format.HDF5:
            with h5py.File(path, "r") as file:
                text: str | bytes | None = file.attrs.get("model_config")
                return text
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


def vocabularies(path: Path) -> dict[str, list[str]]:
    """The vocabularies in a .keras file, word by word, by the group of their layer ("layers/integer_lookup").

    Raises:
        InputError: they are damaged.
    """
    pattern = re.compile(r"assets/(.+)/vocabulary\.txt")
    try:
        with zipfile.ZipFile(path) as archive:
            matches = [match for name in archive.namelist() if (match := pattern.fullmatch(name))]
            return {match[1]: archive.read(match[0]).decode().splitlines() for match in matches}
    except Exception as error:  # as above
        raise _damage_error(path, Format.KERAS, error) from error


def holds_weights(path: Path) -> bool:
    """Whether an HDF5 file without a model holds weights.

    Raises:
        InputError: it is damaged.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            by_layer = any(name.startswith("layer_names") for name in file.attrs)
            return by_layer or any(
                name in file for name in ("layers", "_layer_checkpoint_dependencies", "model_weights")
            )
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


def iterations(file: h5py.File, contents: Contents, kind: Format) -> int | None:
    """The update counter of the optimizer in a file, wherever its Keras put it; None where there is none."""
    if kind == Format.HDF5 and "optimizer/vars/0" not in contents.datasets:  # which a file with weights only may have
        names = ("iteration", "iteration:0", "iter", "iter:0")
        places = [name for name in contents.datasets if name.replace("\\", "/").startswith("optimizer_weights/")]
        places = [name for name in places if name.replace("\\", "/").rsplit("/", 1)[-1] in names]
    else:
        places = [name for name in contents.datasets if name.replace("\\", "/") == "optimizer/vars/0"]
    for name in places:
        with suppress(*_UNREADABLE):  # a counter is only looked at beside other evidence
            stored = file[name]
            if stored.size == 1 and stored.dtype.kind in "iu":
                count = int(stored[()].reshape(-1)[0])
                return count if count >= 0 else None
    return None
