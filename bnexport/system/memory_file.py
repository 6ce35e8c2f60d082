"""A bundle's model held in memory with a few bytes behind it, to be read as if it were one file."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from bnexport.system import files, machine

MODEL, APPENDED = "model.onnx", "appended.pb"
"""What a bundle calls its model, and what is put behind it."""

MOST = (2 << 30) - 1
"""The largest model in bytes: what one protobuf message can hold."""

_CHUNK = 1 << 30
_OPEN_FILES = Path("/proc/self/fd")
_MEMORY_FILES = hasattr(os, "memfd_create") and _OPEN_FILES.is_dir()


class MemoryFile:
    """A file and what stands behind it.

    In a file in memory where there are such (Linux): what is hashed there is what is read later, and onnxruntime copies a file once less than bytes.

    Args:
        path: the file.
        behind: the file that is put behind it.

    Raises:
        InputError: one of them is not a regular file in the same folder, or too large: larger than `MOST`, or than this process may take of memory.
        OSError: one of them cannot be read.
    """

    def __init__(self, path: Path, behind: Path) -> None:
        self._content, self._memory, self._size = b"", -1, 0
        most = min(MOST, machine.data_limit() or MOST)  # the system counts a file in memory against no limit
        end = files.read_bounded(behind, files.MOST_TEXT, within=path.parent)
        with files.open_regular(path, most=most, within=path.parent) as stream:
            if not _MEMORY_FILES:
                self._content = files.read_bounded(path, most, within=path.parent)
                self.source: bytes | Path = self._content + end
                return
            self._memory = os.memfd_create(path.name)
            try:
                while more := os.sendfile(
                    self._memory, stream.fileno(), self._size, min(_CHUNK, most + 1 - self._size)
                ):
                    self._size += more
                    if self._size > most:
                        raise files.too_large(path, "more", most)
            except BaseException:
                self.close()
                raise
        os.write(self._memory, end)
        self.source = _OPEN_FILES / str(self._memory)

    def content(self) -> bytes:
        """All of it."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def sha256(self) -> str:
        """The hash of the file as it was read, without what stands behind it."""
        if not self._size:
            return hashlib.sha256(self._content).hexdigest()
        with mmap.mmap(self._memory, self._size, prot=mmap.PROT_READ) as content:
            return hashlib.sha256(content).hexdigest()

    def close(self) -> None:
        """Gives the memory back."""
        if self._memory >= 0:
            os.close(self._memory)
