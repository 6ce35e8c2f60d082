"""`verify --matrix`: the batches of a bundle on releases of a runtime, each in an environment of its own, bisected where the answer changes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bnexport.bundles.bisection import bisect
from bnexport.bundles.bundle import Bundle
from bnexport.bundles.release_candidates import Candidate, list_candidates, runtime_of
from bnexport.bundles.release_range import ReleaseRange, parse_range
from bnexport.comparison.engine import Baseline, replay, take
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.tally import Tally
from bnexport.comparison.targets import ONNX, Target, open_target_in, target_run
from bnexport.errors import EndedError, InputError, MachineError, UnexpectedError, UsageError
from bnexport.progress import Progress
from bnexport.results.releases import Release, ReleaseMatrix, ReleaseOutcome
from bnexport.results.runs import RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison, Side
from bnexport.runtimes.protocols import open_runtime
from bnexport.system import environments
from bnexport.system.environments import Environment
from bnexport.system.memory_file import MODEL

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Matrix:
    """Releases that a bundle is run on.

    Args:
        wanted: which.
        runtime: the runtime that the package brings.
        every: run all of them; otherwise the first, the last, those that were named, and what bisection needs.
    """

    wanted: ReleaseRange
    runtime: str
    every: bool = False


def read_matrix(text: str, *, every: bool = False) -> Matrix:
    """What `--matrix` asks for.

    Raises:
        UsageError: it cannot be read, or the package brings no runtime of ONNX files.
    """
    wanted = parse_range(text)
    runtime = runtime_of(wanted.package)
    formats = open_runtime(runtime).about().formats
    if ONNX not in formats:
        raise UsageError(
            f"the runtime {runtime} of --matrix executes no ONNX files, and a bundle holds no others",
            expected=" or ".join(formats),
        )
    return Matrix(wanted, runtime, every)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What every release is compared with.

    Args:
        index: of the bundle.
        stored: the run whose outputs are stored.
        baseline: the batches, with these outputs.
        graph: the packed graph, with everything that is compared among its outputs.
        tolerances: how close is close enough.
    """

    index: Bundle
    stored: RunSpec
    baseline: Baseline
    graph: Callable[[], onnx.ModelProto]
    tolerances: Tolerances


@dataclass(slots=True)
class ReleaseRun:
    """A release that was tried.

    Args:
        release: what became of it.
        target: where it runs; None where it does not.
        side: its answers; None where it computed nothing.
        comparisons: with the stored outputs.
        outputs: of each batch.
    """

    release: Release
    target: Target | None = None
    side: Side | None = None
    comparisons: tuple[Comparison, ...] = ()
    outputs: list[Outputs] = field(default_factory=list)


@dataclass(slots=True)
class Releases:
    """The releases of a matrix that were tried, by their position among the candidates."""

    matrix: ReleaseMatrix
    runs: dict[int, ReleaseRun]
    changes: tuple[tuple[int, int], ...]

    @property
    def sides(self) -> list[Side]:
        """The runs, the oldest release first."""
        return [run.side for _, run in sorted(self.runs.items()) if run.side is not None]

    @property
    def comparisons(self) -> list[Comparison]:
        """Theirs, too."""
        return [comparison for _, run in sorted(self.runs.items()) for comparison in run.comparisons]


def run_releases(matrix: Matrix, recorded: Recorded, progress: Progress) -> Releases:
    """The batches of a bundle on releases of a runtime.

    Args:
        matrix: which releases.
        recorded: the batches, and what is stored of them.
        progress: notified of each release.

    Raises:
        MachineError: none of them runs here, or uv is missing or cannot reach the package index.
        UsageError: there is no such release.
    """
    candidates, note = list_candidates(matrix.wanted, matrix.runtime, progress)
    named = [position for position, one in enumerate(candidates) if one.version in matrix.wanted.exact]
    most = len(candidates) if matrix.every else min(len(candidates), math.ceil(math.log2(len(candidates))) + 2)
    runs: dict[int, ReleaseRun] = {}

    def run(position: int) -> str | None:
        one = candidates[position]
        ran = sum(run.release.outcome.ran for run in runs.values())
        progress.stage(f"{matrix.wanted.package} {one.version} (run {ran + 1}, about {max(most, len(named))} in all)")
        runs[position] = _run(one, matrix, recorded, runs)
        release = runs[position].release
        return release.answer if release.outcome.ran else None

    result = bisect(len(candidates), run, named, every=matrix.every)
    if not result.states:
        first = runs[0].release
        raise MachineError(
            f"no release of {matrix.wanted.package} that --matrix asks for runs on this machine",
            found=f"{first.version}: {first.reason}",
        )
    judged = {max(result.states), *named}
    for position, tried in runs.items():
        tried.release = replace(tried.release, judged=position in judged and tried.release.outcome.ran)
    releases = tuple(
        runs[position].release if position in runs else Release(str(one.version), ReleaseOutcome.NOT_RUN)
        for position, one in enumerate(candidates)
    )
    changes = tuple((str(candidates[low].version), str(candidates[high].version)) for low, high in result.changes)
    facts = ReleaseMatrix(matrix.wanted.package, matrix.wanted.text, matrix.runtime, releases, changes, note)
    return Releases(facts, runs, result.changes)


def _run(one: Candidate, matrix: Matrix, recorded: Recorded, runs: dict[int, ReleaseRun]) -> ReleaseRun:
    """What a release makes of the bundle, in the first of its environments in which it runs."""
    begun, tried = time.perf_counter(), list[ReleaseRun]()
    for environment in one.environments:
        tried.append(_run_in(environment, matrix.runtime, recorded))
        if tried[-1].release.outcome.ran:
            break
    run = tried[-1] if tried[-1].release.outcome.ran else tried[0]
    if not run.release.answer and run.release.outcome.ran:
        run.release = replace(run.release, answer=_answer(run, recorded, list(runs.values())))
    run.release = replace(run.release, seconds=time.perf_counter() - begun)
    return run


def _run_in(environment: Environment, runtime: str, recorded: Recorded) -> ReleaseRun:
    """What a release makes of the bundle in an environment; skipped where it does not run there."""
    version = environment.release
    run = ReleaseRun(Release(version, ReleaseOutcome.SKIPPED, python=environment.version))
    try:
        target = open_target_in(runtime, environments.make(environment))
        if problem := target.about.unavailable or _other_release(target.about.version, version):
            raise MachineError(problem)
        run.target = target
        _replay(run, version, recorded)
    except EndedError as error:
        ended = run.target is not None  # while it was asked whether it runs here, that is the answer
        outcome = ReleaseOutcome.ENDED if ended else ReleaseOutcome.SKIPPED
        run.release = replace(run.release, outcome=outcome, answer="ended" if ended else "", reason=str(error))
    except InputError as error:
        if isinstance(error, UnexpectedError) or isinstance(error.__cause__, UnexpectedError):
            run.release = replace(run.release, reason=f"bnexport cannot use this release ({error})")
        else:
            run.release = replace(run.release, outcome=ReleaseOutcome.REFUSED, answer="refused", reason=str(error))
    except MachineError as error:
        run.release = replace(run.release, reason=str(error))
    if not run.release.outcome.ran:
        run.target = None
    return run


def _other_release(reported: str, version: str) -> str:
    """What is wrong where a library says that it is another release; "" where it can be this one.

    >>> _other_release("2025.0.0-17942-1f68be9f594", "2025.0.0"), _other_release("4.10.0", "4.11.0")
    ('', 'its environment runs version 4.10.0')
    """
    same = reported == version or reported.startswith((f"{version}-", f"{version}+", f"{version}."))
    return "" if same else f"its environment runs version {reported}"


def open_runner(target: Target, version: str, recorded: Recorded) -> Runner:
    """The packed graph on a release."""
    names = {tensor.name: tensor.tensor for tensor in recorded.index.tensors}
    runner = target_run(recorded.graph(), target, MODEL, names=names)
    runner.spec = replace(runner.spec, release=version)
    return runner


def _replay(run: ReleaseRun, version: str, recorded: Recorded) -> None:
    """Runs the batches, and compares what comes out with what is stored."""
    if run.target is None:
        return
    runner = open_runner(run.target, version, recorded)
    spec, compute = runner.spec, runner.compute

    def keep(feeds: Feeds) -> Outputs:
        run.outputs.append(compute(feeds))
        return run.outputs[-1]

    runner.compute = keep
    quantised = {runner.id: runner.quantised} if runner.quantised else {}
    tally = Tally([recorded.stored, spec], recorded.index.heads, recorded.tolerances, quantised=quantised)
    take(recorded.baseline, recorded.stored.id, tally)
    replay(recorded.baseline, runner, tally, Progress())
    tally.refuse_unknown([recorded.tolerances.rtol, recorded.tolerances.atol])
    comparisons, _ = tally.judge((), ())
    failed = [comparison for comparison in comparisons if not comparison]
    worst = max(
        failed or comparisons, key=lambda comparison: (comparison.noise_floors or 0.0, comparison.difference.max_rel)
    )
    run.side, run.comparisons = tally.answers.side(spec, runner.seconds), tuple(comparisons)
    run.release = replace(
        run.release,
        outcome=ReleaseOutcome.WRONG if failed else ReleaseOutcome.RIGHT,
        run=spec.id,
        max_rel=worst.difference.max_rel,
        noise_floors=worst.noise_floors,
    )


def new_tally(recorded: Recorded) -> Tally:
    """An empty tally of the bundle, which says whether outputs agree."""
    return Tally([recorded.stored], recorded.index.heads, recorded.tolerances)


def _answer(run: ReleaseRun, recorded: Recorded, earlier: Sequence[ReleaseRun]) -> str:
    """Which answer a release gives: "right", or that of an earlier one which computes the same, or a new one."""
    if run.release.outcome == ReleaseOutcome.RIGHT:
        return "right"
    tally = new_tally(recorded)
    wrong = [other for other in earlier if other.release.outcome == ReleaseOutcome.WRONG]
    for other in wrong:
        if all(tally.agree("inference", a, b) for a, b in zip(run.outputs, other.outputs, strict=True)):
            return other.release.answer
    return f"wrong {len({other.release.answer for other in wrong}) + 1}"
