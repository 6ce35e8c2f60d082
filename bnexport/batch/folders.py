"""The temporary folder of a batch: everything it needs on disk while it runs, and what killed batches left behind.

It is the one that multiprocessing makes for the socket of its server: a path to a socket must be short, so nothing is nested.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from multiprocessing import util
from pathlib import Path

from bnexport.errors import MachineError

_LOCK = ".bnexport"
_LONGEST = 107 if sys.platform == "linux" else 103
"""The longest path of a socket, in bytes (sockaddr_un.sun_path less its final null byte)."""

_held: set[Path] = set()
"""The folders whose locks this process has."""


def batch_folder() -> Path:
    """The temporary folder of this process; it is locked for as long as the process lives.

    When it is made, folders of processes that were killed, whose locks are free, are removed.

    Raises:
        MachineError: the path of the system's temporary folder is too long for a socket.
    """
    temporary = os.fsencode(tempfile.gettempdir())
    if len(temporary) + len("/pymp-xxxxxxxx/listener-xxxxxxxx") > _LONGEST:
        raise MachineError(
            f"the path of the temporary folder is too long for a socket ({len(temporary)} bytes)",
            fix="set TMPDIR to a folder with a short path, such as /tmp",
        )
    folder = Path(util.get_temp_dir())
    if folder not in _held:
        _remove_abandoned()
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _held.add(folder)
    return folder


def remove() -> None:
    """Removes the folder of this process, which ends now, without what multiprocessing does at a normal end."""
    for folder in _held:
        shutil.rmtree(folder, ignore_errors=True)
    _held.clear()


def _remove_abandoned() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"pymp-*/{_LOCK}"):
        with suppress(OSError):  # another user's, in use, or another batch removes it too
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not lock.parent.is_symlink() and os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
