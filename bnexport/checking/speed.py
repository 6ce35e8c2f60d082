"""How fast each run is: batches of all runs interleaved, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bnexport.comparison.sides import Feeds, Runner
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.progress import Progress
from bnexport.results.runs import Role
from bnexport.results.speed import Speed

ROUNDS = 6
"""Each run computes so many batches of each size, behind one that is not counted;"""

BUDGET = 20.0
"""fewer where those of a size take so many seconds, but at least one."""


def measure(runners: Sequence[Runner], sizes: Sequence[int], first: Feed, progress: Progress) -> tuple[Speed, ...]:
    """The speed of every run of a file in inference mode.

    The time is that inside the runtime: how a batch travels to a process of its own is not part of it.

    Args:
        runners: everything that was run.
        sizes: the numbers of items in a batch.
        first: a batch, whose items are repeated for larger ones.
        progress: notified of each size.
    """
    candidates = [r for r in runners if r.spec.role == Role.CANDIDATE and not r.remembered]
    of_files = [r for r in candidates if r.spec.artifact and r.mode == "inference"]
    speeds: list[Speed] = []
    for size in sizes:
        progress.stage(f"measuring the speed at batch size {size}")
        feeds = _of_size(first, size)
        seconds = _fastest([runner for runner in of_files if _runs(runner, feeds, progress)], feeds)
        usual = next((s for run, s in seconds if run.spec.runtime == "onnxruntime" and run.spec.device == "cpu"), None)
        speeds += [Speed(run.id, size, s, usual / s if usual else None) for run, s in seconds]
    return tuple(speeds)


def _fastest(runners: Sequence[Runner], feeds: Feeds) -> list[tuple[Runner, float]]:
    """The shortest time of each."""
    best = [float("inf")] * len(runners)
    begun = time.perf_counter()
    for nth in range(ROUNDS):
        if nth and time.perf_counter() - begun > BUDGET:
            break
        best = [min(seconds, _seconds(runner, feeds)) for runner, seconds in zip(runners, best, strict=True)]
    return list(zip(runners, best, strict=True))


def _seconds(runner: Runner, feeds: Feeds) -> float:
    inside, begun = runner.elapsed(), time.perf_counter()
    runner.compute(feeds)
    outside = time.perf_counter() - begun
    return runner.elapsed() - inside or outside


def _runs(runner: Runner, feeds: Feeds, progress: Progress) -> bool:
    """Whether a run takes batches of this size; it computes one, which is not counted."""
    try:
        runner.compute(feeds)
    except InputError as error:
        progress.note(f"the speed of {runner.id} is not measured: {error}")
        return False
    return True


def _of_size(first: Feed, size: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    rows = np.arange(size) % len(first.names)
    return {name: x[rows] for name, x in first.inputs.items()}
