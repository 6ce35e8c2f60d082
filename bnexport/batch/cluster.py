"""Running checks on a Ray cluster: a task for each, tried again where a node is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bnexport.batch.plan import Check
from bnexport.batch.running import Evaluate, Workshop
from bnexport.results.batched import Result
from bnexport.system.cluster import connect, core, cpus, describe_failure

RETRIES = 5
"""How often a check is tried again whose node was lost."""


def run(
    wanted: Sequence[tuple[str, Check]],
    evaluate: Evaluate,
    address: str,
    jobs: int,
    timeout: float,
    began: Callable[[str], None],
) -> Iterator[Result]:
    """Runs checks on a cluster, each on one CPU, and on a GPU where it requires CUDA; gives each result as it comes.

    Args:
        wanted: the checks with their keys.
        evaluate: runs one of them.
        address: of the cluster.
        jobs: how many are handed over at a time, at least; as many as the cluster has CPUs where that is more.
        timeout: seconds for one.
        began: called with the name of each that is handed over.

    Raises:
        MachineError: there is no cluster, or a check's node was lost too often.
    """
    ray = connect(address)
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_one)
    waiting = list(reversed(wanted))
    running: dict[Any, str] = {}
    try:
        while waiting or running:
            ahead = max(jobs, cpus(ray))
            while waiting and len(running) < ahead:
                key, check = waiting.pop()
                gpus = 1 if check.needs_cuda else 0
                began(check.name)
                running[task.options(num_gpus=gpus).remote(key, check, evaluate, timeout, dict(os.environ))] = (
                    check.name
                )
            ready, _ = ray.wait(list(running), timeout=1.0)
            for reference in ready:
                name = running.pop(reference)
                try:
                    result: Result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    raise describe_failure(ray, error, f"run the check {name}") from error
                yield result
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _one(key: str, check: Check, evaluate: Evaluate, timeout: float, environment: dict[str, str]) -> Result:
    """A check on a node, on a core that no other task of the node has."""
    os.environ.update({name: value for name, value in environment.items() if name.startswith("BNEXPORT_")})
    with core() as mine:
        return Workshop(evaluate, keras=check.keras).one(key, check, timeout, [mine])
