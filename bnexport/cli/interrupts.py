"""Ctrl-C, and what ends a command as Ctrl-C does, also where a library does not return.

Python raises KeyboardInterrupt when the main thread is back from the library that it has called. A model can keep a
library busy for ever, so a second thread learns of each signal at once. It stops what onnxruntime runs, and ends the
process where the main thread still does not come back.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from typing import NoReturn

from bnexport.cli import exit_codes

PATIENCE = 1.0
"""Seconds until what onnxruntime runs is stopped."""

GRACE = 10.0
"""Seconds from then until the process is ended."""

_MOMENT = 0.01
"""Seconds until a signal comes again."""

_delivered = threading.Event()
_last: list[signal.Signals] = [signal.SIGINT]


def watch() -> None:
    """SIGINT, SIGTERM and SIGHUP interrupt this process from now on, except those that are ignored (as under nohup)."""
    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT)}
    handled = {number for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in handled:
        signal.signal(number, _interrupt)  # a container that stops lets us clean up, as Ctrl-C does
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_insist, args=(reader, handled), daemon=True).start()


def repeat() -> None:
    """The last signal once more, a moment later: what is raised where Python can only print it ends nothing."""
    threading.Timer(_MOMENT, _send_last).start()


def _send_last() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, _last[0])  # wakes the main thread where it waits
    else:
        _thread.interrupt_main(_last[0])


def _interrupt(number: int, _: object) -> NoReturn:
    _last[0] = signal.Signals(number)
    _delivered.set()
    raise KeyboardInterrupt


def _restore_terminal() -> None:
    """Ends what is drawn on the terminal, unless that takes too long: whoever draws may be what does not return."""
    if (progress := sys.modules.get("bnexport.cli.progress")) is not None:
        ending = threading.Thread(target=progress.end_display, daemon=True)
        ending.start()
        ending.join(PATIENCE)


def _insist(reader: int, handled: set[signal.Signals]) -> None:
    """Reads the numbers of signals as they arrive, and sees to it that each of them interrupts."""
    while True:
        if not handled & set(os.read(reader, 64)):
            continue
        time.sleep(PATIENCE)
        sessions = sys.modules.get("bnexport.runtimes.ort_session")
        if sessions is not None:
            sessions.stop_runs()
        if not _delivered.wait(GRACE):
            _restore_terminal()
            os._exit(exit_codes.print_error(exit_codes.INTERRUPTION, exit_codes.INTERRUPTED))
        _delivered.clear()
