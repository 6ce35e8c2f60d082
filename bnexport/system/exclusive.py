"""What only one thread of a process may do at a time (no framework enters here).

TensorFlow's and Keras' layers are patched while a pass is traced, and tf2onnx keeps the functions of a graph in a module. Whatever
uses one of these holds this lock; it may be taken again by its owner.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

PROCESS = threading.RLock()
"""Held while something is changed that all threads share."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def exclusive(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, run by one thread of the process at a time."""

    @functools.wraps(function)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with PROCESS:
            return function(*args, **kwargs)

    return alone


def run_beside(call: Callable[[], _R]) -> Future[_R]:
    """Starts a call in a thread that nobody waits for when the process ends; the future has what it gives or raises."""
    future: Future[_R] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
