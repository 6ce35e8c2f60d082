"""The other end of `bnexport.system.child`: a process that serves one model.

It opens the model, writes one line of JSON about it to stdout, and then answers each line of stdin, an object with two paths and what
else is asked, with a line: the arrays in the file `given` were run, and the outputs are in the file `out`. It ends with its stdin.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import numpy as np

from bnexport.errors import BnexportError, EndedError, MachineError, UsageError
from bnexport.system.imports import own_process
from bnexport.types import Array

MEMORY = "BNEXPORT_CHILD_MEMORY"
"""The environment variable that says how much memory such a process may take, in bytes."""

SECONDS = "BNEXPORT_CHILD_SECONDS"
"""The one that says how long opening, or one batch, may take; whoever asks ends it first, if they are still there."""

FOLDER = "TMPDIR"
"""The one that names the folder in which it keeps what is gone after it."""

PRINTED = "stderr"
"""The file in that folder into which it prints."""

_LATE = 10.0
"""So many seconds later this process ends itself."""

KINDS: dict[str, type[BnexportError]] = {"machine": MachineError, "usage": UsageError}
"""Errors of opening that are no fault of the file, by what the answer calls them."""

Compute: TypeAlias = "Callable[[Sequence[Array], Mapping[str, Any]], Mapping[str, Array]]"
"""The outputs by name, of one array for each input and of what else was asked."""


@contextmanager
def _in_time() -> Iterator[None]:
    """Ends the process, from a thread that needs nothing of Python, where the block takes too long and nobody else ends it."""
    faulthandler.dump_traceback_later(float(os.environ.get(SECONDS, "600")) + _LATE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _end_with(asker: int) -> None:
    """Ends this process and all that it started, and removes its folder, when the one that asked for it is gone."""
    while os.getppid() == asker:
        time.sleep(1)
    _clean_up(asker)


def _clean_up(asker: int) -> None:
    """Where the asker is gone, which would do it: a process outside the group ends the group, and then removes its folder.

    In this order, because what still runs may write there.
    """
    if os.getppid() == asker:
        return
    group = os.getpgrp()
    if os.fork():
        time.sleep(_LATE)  # in which it is ended
        return
    os.setsid()
    patience = time.monotonic() + _LATE
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < patience:
            os.killpg(group, signal.SIGKILL)  # until there is none, or nobody collects those that have ended
            time.sleep(0.05)
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
    os._exit(0)


def serve(open_model: Callable[[], tuple[Mapping[str, object], Compute]]) -> None:
    """Serves a model.

    Args:
        open_model: returns the description of the model, and what computes its outputs.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    _limit()
    own_process()
    if os.getpgrp() == os.getpid():  # of its own, and not that of whoever asks
        atexit.register(_clean_up, os.getppid())
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    warnings.simplefilter("ignore")

    def answer(values: Mapping[str, object]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        with _in_time():
            description, compute = open_model()
        answer(description)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file is the answer
        answer(_failure(error) | _no_fault_of_the_file(error))
        return
    for line in sys.stdin:
        question = json.loads(line)
        try:
            with np.load(question["given"], allow_pickle=False) as file:
                arrays = [file[str(number)] for number in range(len(file.files))]
            begun = time.perf_counter()
            with _in_time():
                outputs: dict[str, Any] = dict(compute(arrays, question))
            elapsed = time.perf_counter() - begun
            np.savez(question["out"], **outputs)
            answer({"elapsed": elapsed})
        except Exception as error:  # noqa: BLE001 - as above
            answer(_failure(error))


def _limit() -> None:
    """Limits memory."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    memory = int(os.environ.get(MEMORY, 0)) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, least))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _failure(error: Exception) -> dict[str, object]:
    """An error as JSON has it: of a process that this one started and that came to an end, also how."""
    ended = {"cause": error.cause, "last_line": error.last_line} if isinstance(error, EndedError) else {}
    return {"error": _reason(error), "unexpected": not isinstance(error, BnexportError), **ended}


def _no_fault_of_the_file(error: Exception) -> dict[str, object]:
    """The class and the whole sentence of an error that says so."""
    return next(({"kind": name, "error": str(error)} for name, kind in KINDS.items() if isinstance(error, kind)), {})


def _reason(error: Exception) -> str:
    text = str(error).rsplit("Exception encountered:", maxsplit=1)[-1]
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line[:200]
