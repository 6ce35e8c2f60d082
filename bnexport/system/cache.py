"""What was computed before, by everything it depends on: exports and Keras' reference outputs.

One file for each entry, named by the hash of its key: the SHA-256 of the content, then the content. An entry that is damaged counts as absent.
The oldest go when the folder grows above `LIMIT`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import numpy as np

from bnexport.errors import InputError, MachineError
from bnexport.system import files
from bnexport.types import Array

LIMIT = 4 << 30
"""The most bytes the folder holds."""

LARGEST = 512 << 20
"""Nothing larger goes in."""

FRAMEWORKS = ("tensorflow", "jax", "jaxlib", "torch", "keras", "tf2onnx", "onnx", "numpy", "h5py", "ml-dtypes")
"""Results depend on the versions of these, and on bnexport's own source."""

SETTLED = 5.0
"""A file that has not changed for so many seconds is taken for finished."""

_DIGEST = 32


def folder() -> Path:
    """Where entries are kept: $BNEXPORT_CACHE_DIR, or the system's place for caches."""
    if named := os.environ.get("BNEXPORT_CACHE_DIR"):
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("bnexport", appauthor=False))


@once
def surroundings() -> str:
    """A hash of bnexport's own source and of the versions of the frameworks that results depend on."""
    from importlib.metadata import PackageNotFoundError, version  # imports the whole of email

    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for package in FRAMEWORKS:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{package} {version(package)}".encode())
    return digest.hexdigest()


def fingerprint(arrays: Mapping[str, Array]) -> str:
    """A hash of named arrays: names, shapes, dtypes and content."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def facts(path: Path) -> tuple[int, ...]:
    """What changes with a file, also where its content is put back: the time of an inode's last change cannot be set by hand."""
    stat = path.stat()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def hash_once(path: Path) -> str:
    """`bnexport.system.files.sha256`; that of the file that was hashed last is not computed again while inode, size and times stay.

    As in `Cache.sha256`, a file that changed within the last seconds is hashed each time.
    """
    if not path.is_file():
        return files.sha256(path)
    now = facts(path)
    key = (path.resolve(), *now)
    stored = _HASHED.get("file")
    if stored is not None and stored[0] == key:
        return stored[1]
    digest = files.sha256(path)
    if now == facts(path) and time.time() - now[-1] / 1e9 > SETTLED:
        _HASHED["file"] = key, digest
    return digest


_HASHED: dict[str, tuple[tuple[object, ...], str]] = {}


def change_error(path: Path) -> InputError:
    """The error where what was hashed is not what was read."""
    return InputError(
        f"{path} changed while it was read", fix="run the command again when no other process writes to it"
    )


@dataclass(frozen=True, slots=True)
class Cache:
    """The entries in a folder; nothing is kept where `root` is None."""

    root: Path | None

    def get(self, *key: str) -> bytes | None:
        """The content that was stored under this key; None where there is none or it is damaged."""
        path = self._path(key)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(memoryview(content)[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the oldest go first
        return content[_DIGEST:]

    def put(self, content: bytes, *key: str) -> None:
        """Stores content under this key. A folder that cannot be written to, or a full disk, costs time later and is no error."""
        path = self._path(key)
        if path is None or self.root is None or len(content) > LARGEST:
            return
        with contextlib.suppress(OSError, MachineError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, hashlib.sha256(content).digest() + content, durable=False)
            _trim(self.root)

    def sha256(self, path: Path) -> str:
        """`bnexport.system.files.sha256`, which takes a second for some files: remembered while inode, size and times stay.

        The time of the last change of the inode cannot be set by hand. A file that changed within the last seconds may change again in the same tick, and is not remembered.
        """
        if self.root is None or not path.is_file():
            return hash_once(path)
        now = facts(path)
        key = [str(value) for value in (path.resolve(), *now)]
        return self.remember_hash(lambda: hash_once(path), now[-1] / 1e9, "sha256", *key)

    def remember_hash(self, compute: Callable[[], str], changed: float, *key: str) -> str:
        """A hash that takes long to compute, remembered under the facts it depends on.

        Args:
            compute: computes it.
            changed: when the last of those facts changed, in seconds since 1970; within the last `SETTLED` they may change again in the same tick, and nothing is remembered.
            key: the facts.
        """
        stored = self.get(*key)
        if stored is not None:
            return stored.decode()
        digest = compute()
        if time.time() - changed > SETTLED:
            self.put(digest.encode(), *key)
        return digest

    def get_arrays(self, *key: str) -> dict[str, Array] | None:
        """The arrays that were stored under this key."""
        content = self.get(*key)
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[key] for key, name in json.loads(str(stored["names"])).items()}

    def put_arrays(self, arrays: Mapping[str, Array], *key: str) -> None:
        """Stores arrays under this key; not those of dtypes that NumPy does not know (bfloat16)."""
        if any(array.dtype.kind not in "fiubcU" for array in arrays.values()):
            return
        stream = io.BytesIO()
        names = {f"a{i}": name for i, name in enumerate(arrays)}
        np.savez(
            stream,
            allow_pickle=False,
            **{"names": np.array(json.dumps(names)), **{key: arrays[name] for key, name in names.items()}},
        )
        self.put(stream.getvalue(), *key)

    def _path(self, key: tuple[str, ...]) -> Path | None:
        if self.root is None:
            return None
        name = hashlib.sha256(json.dumps([surroundings(), *key]).encode()).hexdigest()
        return self.root / name[:2] / name


NOTHING_KEPT = Cache(None)
"""A cache that is always empty."""


def _entries(root: Path) -> list[tuple[float, int, Path]]:
    entries = []
    for path in root.glob("??/*"):
        with contextlib.suppress(OSError):
            facts = path.stat()
            entries.append((facts.st_mtime, facts.st_size, path))
    return sorted(entries)


def _trim(root: Path) -> None:
    entries = _entries(root)
    total = sum(size for _, size, _ in entries)
    for _, size, path in entries:
        if total <= LIMIT:
            return
        path.unlink(missing_ok=True)
        total -= size


def size(root: Path) -> tuple[int, int]:
    """How many entries there are, and how many bytes they take."""
    entries = _entries(root)
    return len(entries), sum(size for _, size, _ in entries)


def clear(root: Path) -> tuple[int, int]:
    """Removes every entry, and nothing else; returns how many there were and how many bytes they took."""
    entries = _entries(root)
    for _, _, path in entries:
        path.unlink(missing_ok=True)
    for part in root.glob("??"):
        with contextlib.suppress(OSError):
            part.rmdir()  # only where it is empty
    return len(entries), sum(size for _, size, _ in entries)
