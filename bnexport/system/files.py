"""What a file is by its first bytes, its hash, and writing that leaves either the whole new file or the old one."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from bnexport.errors import InputError, MachineError, UsageError

_CHUNK = 1 << 20

MOST_TEXT = 64 << 20
"""The largest settings file, plan or index that is read, in bytes."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
}


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
    facts = status(path)
    if facts is None:
        raise InputError(f"the file {path} does not exist", fix="check the path")
    if (path / "saved_model.pb").is_file():
        return Format.SAVED_MODEL
    if stat.S_ISDIR(facts.st_mode):
        raise InputError(
            f"{path} is a directory",
            expected="a model file (.h5, .hdf5, .keras or .onnx) or a SavedModel folder with a saved_model.pb",
        )
    try:
        with open_regular(path) as stream:
            head = stream.read(256)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Format.HDF5
    if head.startswith(b"PK\x03\x04"):
        return Format.KERAS
    if head.startswith(b"version https://git-lfs.github.com"):
        raise InputError(f"{path} is a Git LFS pointer, not the model", fix="download the model with: git lfs pull")
    if path.suffix == ".onnx" and head:
        return Format.ONNX
    raise InputError(
        f"{path} is not a model",
        found=_describe(head),
        expected="HDF5 (.h5), a Keras archive (.keras) or ONNX (.onnx)",
    )


def status(path: Path) -> os.stat_result | None:
    """What the system knows of a file, links followed; None where there is none.

    Raises:
        InputError: the path cannot be looked up: it is too long, holds a null byte, or a folder on the way is closed.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {shorten(path)} ({error.strerror})", fix="check the path") from error
    except ValueError as error:
        raise InputError(f"cannot read {shorten(path)} ({error})", fix="check the path") from error


def shorten(path: Path) -> str:
    """A path as an error shows it: cut where it is very long."""
    text = str(path)
    return text if len(text) <= 400 else f"{text[:100]}... ({len(text)} characters)"


def open_regular(path: Path, *, most: int | None = None, within: Path | None = None) -> BinaryIO:
    """A regular file, opened for reading bytes; a pipe, a device or a socket is refused without waiting for it.

    Args:
        path: the file; links are followed.
        most: the largest size in bytes that is accepted.
        within: the folder that the file has to lie in, once links are followed.

    Raises:
        InputError: it is not a regular file, too large, or outside of `within`.
        OSError: it cannot be opened.
        ValueError: the path holds a null byte.
    """
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        raise InputError(f"{path} is a link to a file outside of {within}", found=str(path.resolve()))
    _refuse_irregular(path, path.stat(), most)  # opening a device can have effects of its own
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    stream = os.fdopen(descriptor, "rb")
    try:
        _refuse_irregular(path, os.fstat(descriptor), most)
    except InputError:
        stream.close()
        raise
    return stream


def _refuse_irregular(path: Path, facts: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise InputError(
            f"{path} is not a regular file",
            found=_KINDS.get(stat.S_IFMT(facts.st_mode), "something else"),
            expected="a file on disk",
        )
    if most is not None and facts.st_size > most:
        raise too_large(path, f"{facts.st_size:,} bytes", most)


def too_large(path: Path, size: str, most: int) -> InputError:
    """The error for a file above its limit."""
    return InputError(f"{path} is too large", found=size, expected=f"at most {most:,} bytes")


def read_bounded(path: Path, most: int, *, within: Path | None = None) -> bytes:
    """The content of a regular file of at most `most` bytes; the errors are those of `open_regular`."""
    with open_regular(path, most=most, within=within) as stream:
        content = stream.read(os.fstat(stream.fileno()).st_size + 1)
        while len(content) <= most and (more := stream.read(_CHUNK)):  # it grows, or lies in /proc and has no size
            content += more
    if len(content) > most:
        raise too_large(path, "more", most)
    return content


def _describe(head: bytes) -> str:
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
            line = f"{file.relative_to(path).as_posix()} {content}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def writable(path: Path, suffixes: tuple[str, ...]) -> Path:
    """`path`, after making sure that an output of one of `suffixes` can be written there.

    Raises:
        UsageError: the suffix is another, the folder does not exist, or `path` is a directory.
        InputError: the path cannot be looked up.
    """
    if path.suffix not in suffixes:
        raise UsageError(f"cannot write {path}", found=f"the suffix {path.suffix!r}", expected=" or ".join(suffixes))
    above, facts = status(path.parent), status(path)
    if above is None or not stat.S_ISDIR(above.st_mode):
        raise UsageError(f"cannot write {path}", fix=f"create the folder {path.parent} first")
    if facts is not None and stat.S_ISDIR(facts.st_mode):
        raise UsageError(f"cannot write {path}", found="a directory of this name")
    return path


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not.

    Args:
        path: the file.
        durable: on the disk before it takes the place, so that a loss of power leaves the old file or the new one.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
    """
    temporary = _beside(path, path.suffix)
    try:
        # The system subtracts the umask from the mode, which no thread-safe call could read.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror})") from error
    try:
        yield temporary
        if durable:
            _to_disk(temporary)
        temporary.replace(path)
        if durable:
            _to_disk(path.parent)
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
    temporary = _beside(path, "")
    try:
        temporary.mkdir()
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror})") from error
    try:
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            _to_disk(entry)
        if path.exists() and not _exchange(temporary, path):
            shutil.rmtree(path)
        if not path.exists():
            temporary.rename(path)
        _to_disk(path.parent)
    except OSError as error:
        raise MachineError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was there before, or what was not finished


def _exchange(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step (renameat2, Linux 3.15)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _beside(path: Path, suffix: str) -> Path:
    """A name in the same folder that nobody else has."""
    return path.parent / f".bnexport-{secrets.token_hex(8)}{suffix}"


def _to_disk(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise  # some network file systems have no such call for folders
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes `content`, whole or not at all; `durable` as for `whole`."""
    with whole(path, durable=durable) as temporary:
        temporary.write_bytes(content)
