"""What `verify --matrix` adds to the report on a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from bnexport.comparison.engine import Baseline
from bnexport.comparison.sides import Runner
from bnexport.onnx_graph.protobuf import model_from
from bnexport.progress import Progress
from bnexport.results.releases import ReleaseMatrix
from bnexport.results.runs import RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison, Finding, Side
from bnexport.rules.releases import release_findings

if TYPE_CHECKING:
    from bnexport.bundles.bundle import Bundle
    from bnexport.bundles.releases import Matrix


@dataclass(frozen=True, slots=True)
class MatrixRuns:
    """Releases, as a report has them.

    Args:
        facts: the releases; None where none were asked for.
        sides: those that computed something.
        comparisons: with what is stored.
        findings: about them.
        newest: the newest one that computed something, ready to run.
    """

    facts: ReleaseMatrix | None = None
    sides: tuple[Side, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    newest: tuple[Runner, ...] = ()


NONE = MatrixRuns()


def run_matrix(
    matrix: Matrix,
    index: Bundle,
    stored: RunSpec,
    baseline: Baseline,
    model: Callable[[], bytes],
    tolerances: Tolerances,
    progress: Progress,
) -> MatrixRuns:
    """The batches of a bundle on releases of a runtime.

    Args:
        matrix: which releases.
        index: of the bundle.
        stored: the run whose outputs are stored.
        baseline: the batches, with these outputs.
        model: the model's bytes.
        tolerances: how close is close enough.
        progress: notified of each release.

    Raises:
        MachineError: none of them runs here, or uv is missing or cannot reach the package index.
        UsageError: there is no such release.
    """
    from bnexport.bundles.release_causes import find_causes
    from bnexport.bundles.releases import Recorded, open_runner, run_releases

    recorded = Recorded(index, stored, baseline, cache(lambda: model_from(model())), tolerances)
    releases = run_releases(matrix, recorded, progress)
    causes = find_causes(releases, recorded, progress)
    runs = [run for _, run in sorted(releases.runs.items()) if run.target is not None and run.side is not None]
    newest: tuple[Runner, ...] = ()
    if runs and (target := runs[-1].target) is not None:
        version = runs[-1].release.version
        spec = RunSpec(target.name, "inference", target.device, release=version)
        newest = (Runner(spec, lambda feeds: open_runner(target, version, recorded).compute(feeds)),)
    return MatrixRuns(
        releases.matrix,
        tuple(releases.sides),
        tuple(releases.comparisons),
        tuple(release_findings(releases.matrix, causes)),
        newest,
    )
