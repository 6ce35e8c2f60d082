"""`bnexport batch`: every check of a plan, those that were finished before left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bnexport.batch import plan, running
from bnexport.batch.plan import Check
from bnexport.batch.results import Folder
from bnexport.batch.running import Evaluate
from bnexport.results.batched import Batch, Result
from bnexport.system import confined, machine
from bnexport.system.cache import Cache


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, ready to run.

    Args:
        folder: of the results.
        checks: every check with its key.
        jobs: how many at a time.
        timeout: seconds for one.
    """

    folder: Folder
    checks: tuple[tuple[str, Check], ...]
    jobs: int
    timeout: float

    def earlier_results(self) -> dict[str, Result]:
        """The results of earlier runs that still hold, by key."""
        earlier = {key: self.folder.get(key) for key, _ in self.checks}
        return {key: result for key, result in earlier.items() if result is not None}


def read_plan(
    path: Path | Mapping[str, object],
    store: Cache,
    *,
    jobs: int = 0,
    timeout: float = 0.0,
    results: Path | None = None,
) -> Planned:
    """What a plan asks for.

    Args:
        path: the plan, or what it would hold; paths are then seen from the current folder.
        store: remembers the hashes of large files.
        jobs: how many at a time; 0 for what the plan says.
        timeout: seconds for one; 0 for what the plan says.
        results: the folder of the results; None for the plan's.

    Raises:
        InputError: the plan cannot be read.
        UsageError: it is none, or something in it is not there.
        MachineError: the folder of the results cannot be made.
    """
    if isinstance(path, Path):
        content, base = plan.read(path), path.resolve().parent
    else:
        content, base = plan.parse(path, "the plan"), Path.cwd()
    seconds = timeout or content.timeout
    confined.refuse_unusable(seconds, "the timeout of a check")
    checks = plan.checks(content, base)
    folder = Folder(results or base / content.output_dir, store)
    threads = len(machine.cores())
    return Planned(
        folder,
        tuple((folder.key(check), check) for check in checks),
        jobs or content.jobs or threads,
        seconds,
    )


def left(
    wanted: Planned,
    finished: Collection[str],
    evaluate: Evaluate,
    *,
    cluster: str | None = None,
    began: Callable[[str], None] = lambda _: None,
) -> Iterator[Result]:
    """Runs what has no result yet; each result is kept, and then given.

    Args:
        wanted: the plan.
        finished: the keys of what has one.
        evaluate: runs a check in a process of its own.
        cluster: the address of a Ray cluster, "" for the one that Ray finds or starts; None for this machine.
        began: called with the name of each check that starts.

    Raises:
        MachineError: there is no Ray, or no such cluster.
    """
    checks = [(key, check) for key, check in wanted.checks if key not in finished]
    if not checks:
        return
    if cluster is not None:
        from bnexport.batch import cluster as ray

        results = ray.run(checks, evaluate, cluster, wanted.jobs, wanted.timeout, began)
    else:
        shop = running.Workshop(evaluate, keras=any(check.keras for _, check in checks))
        results = shop.run(checks, min(wanted.jobs, len(checks)), wanted.timeout, began)
    checks_by_key = dict(checks)
    for result in results:
        wanted.folder.put(result, checks_by_key.get(result.key))
        yield result


def summarise(wanted: Planned, results: Mapping[str, Result], finished: Collection[str]) -> Batch:
    """What came of a plan that was gone through; the next run is compared with it.

    Args:
        wanted: the plan.
        results: of every check, by key.
        finished: the keys of those that an earlier run had finished.
    """
    ordered = tuple(results[key] for key, _ in wanted.checks)
    repeated = frozenset(result.name for result in ordered if result.key not in finished)
    batch = Batch(wanted.folder.path, ordered, repeated, wanted.folder.last())
    wanted.folder.finish(ordered)
    return batch
