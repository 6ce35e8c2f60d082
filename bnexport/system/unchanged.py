"""Whether a file is still the one that was hashed."""

from __future__ import annotations

from pathlib import Path

from bnexport.errors import InputError


def facts(path: Path) -> tuple[int, ...]:
    """What changes with a file, also where its content is put back: the time of an inode's last change cannot be set by hand."""
    stat = path.stat()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def changed(path: Path) -> InputError:
    """The error where what was hashed is not what was read."""
    return InputError(f"{path} changed while it was read", fix="run again when nothing writes it")
