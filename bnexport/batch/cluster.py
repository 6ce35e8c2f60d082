"""The same on a Ray cluster: a task for each check, tried again where a node is lost.

Models, images and the results' folder have the same names on every node (a shared file system), or are URLs; bnexport is installed on each.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bnexport.batch.plan import Check
from bnexport.batch.running import Entry, Watcher, Workshop, cores
from bnexport.errors import MachineError, reason
from bnexport.numerics.batched import Result

RETRIES = 5
"""How often a check is tried again whose node was lost."""


def connected(address: str) -> Any:
    """Ray, connected to a cluster.

    Args:
        address: of the cluster; "" for the one that Ray finds (RAY_ADDRESS), else one on this machine.

    Raises:
        MachineError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MachineError("this needs Ray", fix="install it with: pip install 'bnexport[ray]'") from error
    try:
        if not ray.is_initialized():
            ray.init(address=address or None, log_to_driver=False, logging_level="ERROR", include_dashboard=None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MachineError(
            f"cannot reach the Ray cluster {address or 'of this machine'} ({reason(error)})",
            fix="start one with: ray start --head",
        ) from error
    return ray


def run(
    wanted: Sequence[tuple[str, Check]], address: str, jobs: int, timeout: float, entry: Entry, watcher: Watcher
) -> None:
    """Runs checks on a cluster, each on one CPU, and on a GPU where it requires CUDA.

    Args:
        wanted: the checks with their keys.
        address: of the cluster.
        jobs: how many are handed over at a time, at least; as many as the cluster has CPUs where that is more.
        timeout: seconds for one.
        entry: the command line's entry point.
        watcher: told of each, in the caller's own thread.

    Raises:
        MachineError: there is no cluster, or a check's node was lost too often.
    """
    ray = connected(address)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_one)
    waiting = list(reversed(wanted))
    running: dict[Any, str] = {}
    try:
        while waiting or running:
            ahead = max(jobs, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < ahead:
                key, check = waiting.pop()
                gpus = 1 if "--require=cuda" in check.arguments else 0
                watcher.began(check.name)
                running[task.options(num_gpus=gpus).remote(key, check, timeout, entry, dict(os.environ))] = check.name
            done, _ = ray.wait(list(running), timeout=1.0)
            for reference in done:
                name = running.pop(reference)
                try:
                    watcher.ended(ray.get(reference))
                except ray.exceptions.RayError as error:
                    raise MachineError(f"the cluster could not run the check {name} ({reason(error)})") from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _one(key: str, check: Check, timeout: float, entry: Entry, environment: dict[str, str]) -> Result:
    """A check on a node, on a core that no other task of the node has."""
    os.environ.update({name: value for name, value in environment.items() if name.startswith("BNEXPORT_")})
    with _core() as core:
        return Workshop(entry, keras=check.model.suffix != ".onnx").one(key, check, timeout, [core])


@contextmanager
def _core() -> Iterator[int]:
    """A CPU core, by a lock that goes with the process; any core where Ray was promised more of them than there are."""
    mine = cores()
    with ExitStack() as stack:
        for core in mine:
            stream = stack.enter_context(Path(tempfile.gettempdir(), f"bnexport-core-{core}").open("w"))
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield core
            return
        yield mine[os.getpid() % len(mine)]
