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
from bnexport.errors import EndedError, InputError, MachineError, UsageError
from bnexport.progress import Progress
from bnexport.results.releases import Release, ReleaseMatrix, ReleaseOutcome
from bnexport.results.runs import RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison, Side
from bnexport.system import environments
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
        UsageError: it cannot be read, or the package brings no runtime.
    """
    wanted = parse_range(text)
    return Matrix(wanted, runtime_of(wanted.package), every)


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
        UsageError: there is no such release, or the runtime executes no ONNX files.
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
    """What a release makes of the bundle."""
    begun, version = time.perf_counter(), str(one.version)
    target, python, reason = _prepare(one, matrix.runtime)
    release = Release(version, ReleaseOutcome.SKIPPED, reason=reason, python=python)
    if target is None:
        return ReleaseRun(replace(release, seconds=time.perf_counter() - begun))
    run = ReleaseRun(release, target)
    try:
        _replay(run, version, recorded)
    except EndedError as error:
        run.release = replace(release, outcome=ReleaseOutcome.ENDED, answer="ended", reason=str(error))
    except InputError as error:
        run.release = replace(release, outcome=ReleaseOutcome.REFUSED, answer="refused", reason=str(error))
    except MachineError as error:
        run.release, run.target = replace(release, reason=str(error)), None
    else:
        run.release = replace(run.release, answer=_answer(run, recorded, list(runs.values())))
    run.release = replace(run.release, seconds=time.perf_counter() - begun)
    return run


def _prepare(one: Candidate, runtime: str) -> tuple[Target | None, str, str]:
    """A release in its environment, the version of its Python, and why it does not run; None where it does not."""
    reasons: list[str] = []
    for environment in one.environments:
        try:
            target = open_target_in(runtime, environments.make(environment))
        except UsageError:
            raise
        except MachineError as error:
            reasons.append(str(error))
            continue
        about = target.about
        if ONNX not in about.formats:
            raise UsageError(
                f"the runtime {runtime} executes no ONNX files, and a bundle holds no other",
                expected=" or ".join(about.formats),
            )
        if about.unavailable:
            reasons.append(about.unavailable)
        elif not _is_release(about.version, str(one.version)):
            reasons.append(f"its environment runs version {about.version}")
        else:
            return target, environment.version, ""
    return None, "", reasons[0]


def _is_release(reported: str, version: str) -> bool:
    """Whether what a library says of itself can be this release: `2025.0.0-17942-1f68be9f594` is 2025.0.0."""
    return reported == version or reported.startswith((f"{version}-", f"{version}+", f"{version}."))


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
