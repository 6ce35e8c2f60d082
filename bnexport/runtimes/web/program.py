"""node and Chromium as processes that end with whoever started them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bnexport.errors import EndedError
from bnexport.system.child import last_line, name_status

_GRACE = 5.0
"""Seconds to end in."""

_PIPE = """exec "$0" "$@" 3<&0 4>/dev/null"""
"""How a shell starts a Chromium that listens to its pipe 3: it ends when nobody can write to that any more."""

_QUIET = (
    *("--headless=new", "--no-first-run", "--mute-audio", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-breakpad", "--disable-crash-reporter", "--disable-extensions"),
)


class Program:
    """A process that computes, in the process group of this one.

    Args:
        name: what errors call it.
        command: what runs.
        folder: for what it prints and keeps; it is removed with this object.
        listens: whether it ends when its standard input does, and cleans up.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, *, listens: bool = False) -> None:
        self._name, self._printed = name, folder / "stderr"
        with self._printed.open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - node or Chromium, with arguments of our own
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr, cwd=folder
            )
        self._close = weakref.finalize(self, _end, self._process, folder, _GRACE if listens else 0)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, and says that something is wrong."""
        return (self._process.poll() or 0) > 0

    def check(self) -> None:
        """Makes sure that it runs.

        Raises:
            EndedError: it does not.
        """
        status = self._process.poll()
        if status is not None:
            raise EndedError(
                f"the process of {self._name} ended", cause=name_status(status), last_line=self._last_words()
            )

    def _last_words(self) -> str:
        """The line in which node or Chromium says what is fatal; otherwise its last line."""
        with suppress(OSError):
            lines = self._printed.read_text(errors="replace").splitlines()
            if fatal := [line.partition("FATAL")[2] for line in lines if "FATAL" in line]:
                return fatal[0].partition(": ")[2] or fatal[0]
        return last_line(self._printed)

    def close(self) -> None:
        """Ends it, and removes its folder."""
        self._close()


def start_node(node: str, script: Path, address: str) -> Program:
    """Runs a script in node."""
    return Program("node", [node, str(script), address], _folder())


def start_browser(browser: str, page: str, flags: Sequence[str]) -> Program:
    """Opens a page in Chromium.

    As root Chromium has no sandbox; for others it insists on one.
    """
    folder = _folder()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    arguments = [*_QUIET, *sandbox, *flags, f"--user-data-dir={folder / 'profile'}", page]
    return Program("Chromium", ["/bin/sh", "-c", _PIPE, browser, *arguments], folder, listens=True)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="bnexport-web-"))


def _end(process: subprocess.Popen[bytes], folder: Path, patience: float) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
