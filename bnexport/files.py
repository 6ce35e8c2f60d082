"""What a file is by its first bytes, its hash, and writing that leaves either the whole new file or the old one."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from bnexport.errors import InputError, MachineError, UsageError

_CHUNK = 1 << 20


class Format(StrEnum):
    """What kind of model a file holds."""

    HDF5 = "h5"
    KERAS = "keras"
    ONNX = "onnx"
    SAVED_MODEL = "savedmodel"


def model_format(path: Path) -> Format:
    """The format of a model file, by its content; only ONNX, which has no signature, is recognised by its suffix.

    Raises:
        InputError: there is no such file, or it is none of these formats.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}", fix="check the path")
    if (path / "saved_model.pb").is_file():
        return Format.SAVED_MODEL
    if path.is_dir():
        raise InputError(
            f"{path} is a directory",
            expected="a model file (.h5, .hdf5, .keras or .onnx), or a SavedModel folder with a saved_model.pb",
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(256)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Format.HDF5
    if head.startswith(b"PK\x03\x04"):
        return Format.KERAS
    if head.startswith(b"version https://git-lfs.github.com"):
        raise InputError(f"{path} is a git-LFS pointer, not the model", fix="fetch the model with: git lfs pull")
    if path.suffix == ".onnx" and head:
        return Format.ONNX
    raise InputError(
        f"{path} is not a model",
        found=_described(head),
        expected="HDF5 (.h5), a Keras archive (.keras) or ONNX (.onnx)",
    )


def _described(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML file"
    try:
        text = head.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        text = "" if error.start < len(head) - 3 else "cut inside a character"
    return (
        "a text file"
        if (text and text.isprintable()) or (text.strip().replace("\n", "").isprintable() and text)
        else "an unknown binary file"
    )


def sha256(path: Path, hashes: Mapping[Path, str] | None = None) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits; of a folder, of the names and hashes of the files in it.

    Args:
        path: the file or the folder.
        hashes: those of files in the folder that were hashed while they were read, and are not read again.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            content = (hashes or {}).get(file) or sha256(file)
            digest.update(f"{file.relative_to(path).as_posix()} {content}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def writable(path: Path, suffixes: tuple[str, ...]) -> Path:
    """`path`, after making sure that an output of one of `suffixes` can be written there.

    Raises:
        UsageError: the suffix is another, the folder does not exist, or `path` is a directory.
    """
    if path.suffix not in suffixes:
        raise UsageError(f"cannot write {path}", found=f"the suffix {path.suffix!r}", expected=" or ".join(suffixes))
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}", fix=f"create the folder {path.parent} first")
    if path.is_dir():
        raise UsageError(f"cannot write {path}", found="a directory of that name")
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=".bnexport-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror})") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and is removed when it does not.

    A folder that was there before goes in the same instant where the system can exchange two names (Linux), else just before.

    Raises:
        MachineError: the disk is full or the folder above cannot be written to.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".bnexport-", dir=path.parent))
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror})") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists() and not _exchanged(temporary, path):
            shutil.rmtree(path)
        if not path.exists():
            temporary.rename(path)
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was there before, or what was not finished


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step (renameat2, Linux 3.15)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content`, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(content)
