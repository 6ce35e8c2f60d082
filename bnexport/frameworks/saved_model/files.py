"""The files of a SavedModel: its message, and a private copy of what was inspected (tensorflow, for the class of the message)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bnexport.errors import InputError
from bnexport.results.actions import spell_options
from bnexport.system import files

if TYPE_CHECKING:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

LARGEST = (1 << 31) - 1
"""The most bytes of a saved_model.pb: the largest message that protobuf can hold."""

TRUST = f"if you trust its source, add {spell_options(trust=True)}"
_CHUNK = 1 << 20


@contextmanager
def open_regular(path: Path, folder: Path, *, trust: bool) -> Iterator[BinaryIO]:
    """A file of a SavedModel, opened for reading.

    Raises:
        InputError: it cannot be read, is no regular file, or is a link that leaves the folder and `trust` is not set.
    """
    if not trust and not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{path} is a link to a file outside of the folder",
            found=str(path.resolve()),
            fix=f"{TRUST}, or check a copy of the folder without links (cp -rL)",
        )
    try:
        with files.open_regular(path) as stream:
            yield stream
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})") from error


def read(path: Path, *, trust: bool = False) -> tuple[SavedModel, str]:
    """The message in a folder's saved_model.pb, and the SHA-256 of its bytes.

    Raises:
        InputError: it cannot be read, is too large, or is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    with open_regular(path / "saved_model.pb", path, trust=trust) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST:
            raise InputError(
                f"{path}/saved_model.pb is too large", found=f"{size} bytes", expected=f"at most {LARGEST}"
            )
        content = stream.read(LARGEST)
    message = SavedModel()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise InputError(f"{path} is a damaged SavedModel ({error})", fix="copy or download it again") from error
    if not message.meta_graphs:
        raise InputError(f"{path} is a damaged SavedModel (it contains no graph)", fix="copy or download it again")
    return message, hashlib.sha256(content).hexdigest()


def signatures(message: SavedModel) -> list[str]:
    """The names of the signatures of a SavedModel's graph in alphabetical order, without those that initialise it."""
    return sorted(name for name in message.meta_graphs[0].signature_def if not name.startswith("__saved_model_"))


def drop_optimizer_slots(message: SavedModel) -> None:
    """Removes what binds an optimizer's variables to the weights: TensorFlow cannot load it without the optimizer's own class, and inference has no use for it."""
    for graph in message.meta_graphs:
        for node in graph.object_graph_def.nodes:
            node.ClearField("slot_variables")


def keep_serving_graph(message: SavedModel, path: Path) -> None:
    """Removes from a SavedModel of several graphs all but the one with the tag "serve".

    Raises:
        InputError: there is no such graph.
    """
    if len(message.meta_graphs) == 1:
        return
    tags = [sorted(graph.meta_info_def.tags) for graph in message.meta_graphs]
    if ["serve"] not in tags:
        written = ", ".join("+".join(each) or "no tag" for each in tags)
        raise InputError(f"{path} has several graphs, but none has only the tag serve", found=shown(written))
    serving = type(message.meta_graphs[0])()
    serving.CopyFrom(message.meta_graphs[tags.index(["serve"])])
    del message.meta_graphs[:]
    message.meta_graphs.append(serving)


def shown(text: str) -> str:
    """A name from a file, fit for a message: without control characters, and not too long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


@contextmanager
def private_copy(message: SavedModel, path: Path, read_as: str, *, trust: bool) -> Iterator[tuple[Path, str]]:
    """A folder with the message and the variables of a SavedModel, and the SHA-256 of the folder that was copied.

    The folder is removed when the block ends; the hash is that of `bnexport.system.files.sha256`.

    Whatever replaces the files in the meantime is neither loaded nor hashed.

    Args:
        message: what was inspected.
        path: the folder it comes from.
        read_as: the SHA-256 of its saved_model.pb.
        trust: also copy its assets, and follow links that leave the folder.

    Raises:
        InputError: a file of variables cannot be read, or is a link that leaves the folder.
    """
    with tempfile.TemporaryDirectory(prefix="bnexport-") as name:
        copy = Path(name)
        (copy / "saved_model.pb").write_bytes(message.SerializeToString())
        hashes = {path / "saved_model.pb": read_as}
        for part in ("variables", "assets") if trust else ("variables",):
            (copy / part).mkdir()
            for source in sorted((path / part).rglob("*")):
                target = copy / source.relative_to(path)
                if source.is_dir() and not source.is_symlink():
                    target.mkdir()
                elif source.is_dir():
                    raise InputError(f"{source} is a link to a folder", expected="a file of a SavedModel")
                else:
                    hashes[source] = _copy(source, target, path, trust=trust)
        yield copy, files.sha256(path, hashes)


def _copy(source: Path, target: Path, folder: Path, *, trust: bool) -> str:
    digest = hashlib.sha256()
    with open_regular(source, folder, trust=trust) as stream, target.open("wb") as copy:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()
