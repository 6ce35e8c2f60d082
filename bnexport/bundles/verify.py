"""`bnexport verify`: does this machine compute what Keras computed when the bundle was packed? TensorFlow is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.comparison.options import CheckOptions
from bnexport.progress import Progress
from bnexport.system.memory_file import APPENDED, MODEL, MemoryFile

if TYPE_CHECKING:
    from bnexport.comparison.sides import Runner
    from bnexport.results.verdict import CheckReport, Finding
    from bnexport.runtimes.ort_session import Session


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose model is being read and opened by onnxruntime.

    That takes most of the time of a verification, and nothing else is waited for: what is needed afterwards is imported and looked at meanwhile, the
    hashes among it. No result is given before they are right.

    Args:
        folder: the bundle.
        model: its model.
        session: on the CPU; None where that is not asked for.
    """

    folder: Path
    model: Future[MemoryFile]
    session: Future[Session] | None


@contextmanager
def start_opening(folder: Path, how: CheckOptions) -> Iterator[Opened]:
    """The bundle in a folder, being opened."""
    with ThreadPoolExecutor(2) as beside:
        model = beside.submit(lambda: MemoryFile(folder / MODEL, folder / APPENDED))
        try:
            from bnexport.runtimes import ort_library, ort_session

            ort_library.version()  # imports onnxruntime, before anything else is imported
            wanted = {"auto", "cpu"} & {*how.providers, *how.require}
            session = beside.submit(lambda: ort_session.Session(model.result().source, "cpu")) if wanted else None
            yield Opened(folder, model, session)
        finally:
            if model.exception() is None:
                model.result().close()


def verify(
    path: Path | str,
    *,
    providers: Sequence[str] = ("auto",),
    require: Sequence[str] = (),
    rtol: Mapping[str, float] | None = None,
    atol: Mapping[str, float] | None = None,
    strict_placement: bool = False,
    gpu_memory_limit: int | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Whether onnxruntime on this machine computes what is stored in a bundle, from the stored inputs and from the stored pictures.

    The hashes of a bundle show what was damaged or changed by accident. They do not show a change by somebody who can
    rewrite the bundle, and its hashes with it: keep the hash of bundle.json elsewhere, or sign the folder, where that matters.

    Args:
        path: the bundle.
        providers: "auto", "cpu", "cuda".
        require: providers without which there is nothing to verify.
        rtol: the largest error, relative to the tensor's scale, that passes, by tensor ("" for all others), in place of the packed tolerance.
        atol: the same in the tensor's own unit; an error passes up to the sum of both.
        strict_placement: a compute node that CUDA leaves to the CPU is an error.
        gpu_memory_limit: the most GPU memory that onnxruntime may take, in bytes.
        progress: notified of each stage.

    Returns:
        The report, `bundle` set; truthy when everything agrees.

    Raises:
        InputError: a file of the bundle is missing, damaged or was changed.
        UsageError: a tolerance is invalid, or names a tensor that is not compared.
        MachineError: a required provider does not run.
    """
    how = CheckOptions(
        providers=providers,
        require=require,
        rtol=dict(rtol or {}),
        atol=dict(atol or {}),
        strict_placement=strict_placement,
        gpu_memory_limit=gpu_memory_limit,
    )
    with start_opening(Path(path), how) as being_opened:
        return compare_with_bundle(being_opened, how, progress or Progress())


def compare_with_bundle(bundle_files: Opened, how: CheckOptions, progress: Progress) -> CheckReport:
    """The report on a bundle that is being opened; the options are those of `verify`."""
    # Imported here, while onnxruntime opens the model.
    from bnexport import datasets
    from bnexport.bundles import bundle, golden
    from bnexport.comparison.cuda import cuda_sides, settle_providers
    from bnexport.comparison.engine import replay, take
    from bnexport.comparison.tally import Tally
    from bnexport.results.facts import SHOWN, ImageFacts
    from bnexport.results.verdict import BundleFacts, CheckReport
    from bnexport.rules import runtime
    from bnexport.rules.actions import Names, add_files
    from bnexport.rules.rule import sort_findings
    from bnexport.runtimes.environment import environment
    from bnexport.runtimes.ort_session import Cuda, Session

    folder = bundle_files.folder
    progress.stage("reading the bundle")
    index = bundle.read(folder)
    files = bundle.contents(index, folder)
    model = bundle.verify_model(bundle_files.model, index, folder)
    chosen, lost = settle_providers(how.providers, how.require)
    feeds = [golden.feed(index, part, files, folder) for part in index.sets]
    runners: list[Runner] = []
    stored, baseline = golden.stored_run(index), golden.baseline(index, feeds, files, folder)
    decoded = golden.decode_images(index, files, feeds)
    progress.stage("opening onnxruntime")
    if "cpu" in chosen:  # without having been asked for, where CUDA was and does not run
        session = bundle_files.session.result() if bundle_files.session else Session(model.source, "cpu")
        runners.append(golden.open_packed_graph(session, index, model.content))
    if "cuda" in chosen:
        cuda = cuda_sides(
            lambda how: [golden.open_packed_graph(Session(model.source, "cuda", cuda=how), index, model.content)],
            feeds[0].inputs,
            strict=Cuda(memory_limit=how.gpu_memory_limit),
            wanted=how.providers,
            require=how.require,
            strict_placement=how.strict_placement,
        )
        runners, lost = runners + cuda.runners, lost + cuda.findings
    tolerances = golden.tolerances(index)
    if how.rtol or how.atol:
        tolerances = replace(tolerances, rtol=how.rtol, atol=how.atol)
    tally = Tally([stored, *(run.spec for run in runners)], index.heads, tolerances)
    progress.start("comparing", baseline.count * len(runners))
    take(baseline, stored.id, tally)
    for run in runners:
        replay(baseline, run, tally, progress)
    items, count = tally.answers.items, baseline.count
    tally.refuse_unknown([how.rtol, how.atol])
    comparisons, reduced = tally.judge((), ())
    explained: list[Finding | None] = []
    if tally.lost():
        from bnexport.checking.mismatch import Inquiry  # most bundles need none of it

        inquiry = Inquiry(None, tally, {runner.id: runner for runner in runners}, None, None, None, (), progress)
        explained, _ = inquiry.findings(feeds[0], layers=False)
    return CheckReport(
        model=index.model,
        images=ImageFacts(
            str(folder),
            count,
            tuple(items.names),
            items.labels,
            index.heads.classes,
            (),
            tuple(datasets.Picture(str(folder / i.file), i.name) for p in index.sets for i in p.items if i.file)[
                :SHOWN
            ],
        ),
        preprocessing=index.preprocessing or {},
        preprocessing_origin=index.preprocessing_origin,
        sides=(
            tally.answers.side(stored, 0.0),
            *(tally.answers.side(run.spec, run.seconds) for run in runners),
        ),
        comparisons=tuple(comparisons),
        findings=add_files(
            sort_findings(
                [
                    *lost,
                    *explained,
                    runtime.not_finite(tally.answers.not_finite, count),
                    *reduced,
                    golden.preprocessing_difference(decoded, baseline, stored.id, runners, tally),
                ]
            ),
            Names(),
        ),
        environment=environment({}),
        tolerance=tolerances.described,
        bundle=BundleFacts(
            str(folder), len(files) + 2, index.reference, dict(index.tool), dict(index.environment), index.findings
        ),
    )
