"""node and Chromium as processes that end with whoever started them."""

from __future__ import annotations

import json
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
"""How a shell starts a Chromium that reads messages of the DevTools protocol from its pipe 3, and ends when that does."""

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
        message: for its standard input: what other users of the machine, who see command lines, are not to know.
        patience: seconds to end in, and to clean up, after its standard input has ended.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, message: str, patience: float = 0) -> None:
        self._name, self._printed = name, folder / "stderr"
        with self._printed.open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - node or Chromium, with arguments of our own
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr, cwd=folder
            )
        self._close = weakref.finalize(self, _end, self._process, folder, patience)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended: `check` says so
                self._process.stdin.write(message.encode())
                self._process.stdin.flush()

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
    return Program("node", [node, str(script)], _folder(), f"{address}\n")


def start_browser(browser: str, page: str, flags: Sequence[str]) -> Program:
    """Opens a page in Chromium.

    As root Chromium has no sandbox; for others it insists on one.
    """
    folder = _folder()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    arguments = [*_QUIET, *sandbox, *flags, f"--user-data-dir={folder / 'profile'}"]
    message = {"id": 1, "method": "Target.createTarget", "params": {"url": page}}
    return Program(
        "Chromium", ["/bin/sh", "-c", _PIPE, browser, *arguments], folder, f"{json.dumps(message)}\0", _GRACE
    )


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
