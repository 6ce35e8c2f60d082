"""`bnexport batch`: every check of a plan, those that were finished before left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnexport import confined
from bnexport.batch import plan, running
from bnexport.batch.plan import Check
from bnexport.batch.results import Folder
from bnexport.batch.running import Watcher
from bnexport.cache import Cache
from bnexport.numerics.batched import Batch, Result


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

    def finished(self) -> dict[str, Result]:
        """The results of earlier runs that still hold, by key."""
        found = {key: self.folder.get(key) for key, _ in self.checks}
        return {key: result for key, result in found.items() if result is not None}


def planned(
    path: Path, known: Sequence[str], store: Cache, *, jobs: int = 0, timeout: float = 0.0, results: Path | None = None
) -> Planned:
    """What a plan asks for.

    Args:
        path: the plan.
        known: the options of `bnexport check`, without their dashes.
        store: remembers the hashes of large files.
        jobs: how many at a time; 0 for what the plan says.
        timeout: seconds for one; 0 for what the plan says.
        results: the folder of the results; None for the plan's.

    Raises:
        InputError: the plan cannot be read.
        UsageError: it is none, or something in it is not there.
        MachineError: the folder of the results cannot be made.
    """
    told, place = plan.read(path), path.resolve().parent
    checks = plan.checks(told, place, known)
    folder = Folder(results or place / told.results, store)
    threads = len(confined.cores())
    return Planned(
        folder,
        tuple((folder.key(check), check) for check in checks),
        jobs or told.jobs or threads,
        timeout or told.timeout,
    )


def batch(wanted: Planned, entry: running.Entry, watcher: Watcher, *, cluster: str | None = None) -> Batch:
    """Runs what has no result yet.

    Args:
        wanted: the plan.
        entry: the command line's entry point.
        watcher: told of each check.
        cluster: the address of a Ray cluster, "" for the one that Ray finds or starts; None for this machine.

    Raises:
        MachineError: there is no Ray, or no such cluster.
    """
    finished = wanted.finished()
    repeated: set[str] = set()

    class Keeping(Watcher):
        """Keeps each result before it is told."""

        def began(self, name: str) -> None:
            watcher.began(name)

        def ended(self, result: Result) -> None:
            wanted.folder.put(result)
            finished[result.key] = result
            repeated.add(result.name)
            watcher.ended(result)

    left = [(key, check) for key, check in wanted.checks if key not in finished]
    if left and cluster is not None:
        from bnexport.batch import cluster as ray

        ray.run(left, cluster, wanted.jobs, wanted.timeout, entry, Keeping())
    elif left:
        keras = any(check.model.suffix != ".onnx" for _, check in left)
        running.Workshop(entry, keras=keras).run(left, min(wanted.jobs, len(left)), wanted.timeout, Keeping())
    results = tuple(finished[key] for key, _ in wanted.checks)
    done = Batch(wanted.folder.path, results, frozenset(repeated), wanted.folder.last())
    wanted.folder.finish(results)
    return done
