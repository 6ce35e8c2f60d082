"""A bundle's model held in memory with a few bytes behind it, to be read as if it were one file."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

MODEL, APPENDED = "model.onnx", "appended.pb"
"""What a bundle calls its model, and what is put behind it."""

_CHUNK = 1 << 30
_OPEN_FILES = Path("/proc/self/fd")
_MEMORY_FILES = hasattr(os, "memfd_create") and _OPEN_FILES.is_dir()


class Held:
    """A file and what stands behind it.

    In a file in memory where there are such (Linux): what is hashed there is what is read later, and onnxruntime copies a file once less than bytes.

    Args:
        path: the file.
        behind: the file that is put behind it.

    Raises:
        OSError: one of them cannot be read.
    """

    def __init__(self, path: Path, behind: Path) -> None:
        self._content, self._memory, self._size = b"", -1, 0
        with path.open("rb") as stream:
            if not _MEMORY_FILES:
                self._content = stream.read()
                self.source: bytes | Path = self._content + behind.read_bytes()
                return
            self._memory = os.memfd_create(path.name)
            while more := os.sendfile(self._memory, stream.fileno(), self._size, _CHUNK):
                self._size += more
        os.write(self._memory, behind.read_bytes())
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
