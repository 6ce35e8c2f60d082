"""Running checks side by side, each in a process of its own: one that hangs or crashes ends alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

from bnexport import confined
from bnexport.batch.plan import Check
from bnexport.numerics.batched import Result


def run(wanted: Sequence[tuple[str, Check]], jobs: int, timeout: float, told: Callable[[Result], None]) -> None:
    """Runs checks, `jobs` at a time, and tells each result as it comes, in the caller's own thread.

    The CPU cores are shared out among the jobs.

    Args:
        wanted: the checks with their keys.
        jobs: how many at a time.
        timeout: seconds for one.
        told: called with each result.
    """
    slots: SimpleQueue[list[int]] = SimpleQueue()
    for share in _shares(jobs):
        slots.put(share)
    running: set[subprocess.Popen[str]] = set()
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting: set[Future[Result]] = {pool.submit(_one, key, check, timeout, slots, running) for key, check in wanted}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                told(future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(running):
            confined.end(child)


def cores() -> list[int]:
    """The CPU cores this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _shares(jobs: int) -> list[list[int]]:
    mine = cores()
    if jobs > len(mine):
        return [[] for _ in range(jobs)]
    return [mine[nth * len(mine) // jobs : (nth + 1) * len(mine) // jobs] for nth in range(jobs)]


def _one(
    key: str, check: Check, timeout: float, slots: SimpleQueue[list[int]], running: set[subprocess.Popen[str]]
) -> Result:
    share = slots.get()
    begun = time.perf_counter()
    child = confined.start([*check.command, "--format", "json", "--quiet"], cores=share, captured=True)
    running.add(child)
    try:
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            confined.end(child)
            child.communicate()  # closes its pipes
            return _result(key, check, begun, None, "timeout", f"it took longer than {timeout:g} s and was ended", None)
    finally:
        running.discard(child)
        slots.put(share)
    report = _report(out) if child.returncode in (0, 1) else None
    if report is not None:
        return _result(key, check, begun, child.returncode, report["verdict"], "", report)
    said = next((line for line in reversed(err.splitlines()) if line.strip()), "")
    if child.returncode < 0:
        said = f"the process was ended by signal {-child.returncode}; the file is damaged, made to do harm, or needs more memory"
    return _result(key, check, begun, child.returncode, "error", said.removeprefix("bnexport: ") or "no report", None)


def _report(out: str) -> dict[str, Any] | None:
    try:
        values = json.loads(out)
    except ValueError:
        return None
    return values if isinstance(values, dict) and values.get("verdict") in ("pass", "fail") else None


def _result(
    key: str, check: Check, begun: float, code: int | None, status: str, error: str, report: dict[str, Any] | None
) -> Result:
    return Result(
        key=key,
        name=check.name,
        command=tuple(check.command),
        status=status,
        exit_code=code,
        seconds=time.perf_counter() - begun,
        finished=time.time(),
        error=error,
        report=report,
    )
