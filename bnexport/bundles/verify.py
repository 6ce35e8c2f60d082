"""`bnexport verify`: does this machine compute what Keras computed when the bundle was packed? TensorFlow is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.bundles.opening import Opened, read_releases, settle_targets, start_opening
from bnexport.comparison.options import CheckOptions
from bnexport.errors import EndedError, RefusedError
from bnexport.progress import Progress

if TYPE_CHECKING:
    from bnexport.bundles.releases import Matrix
    from bnexport.bundles.signing import RequiredSignature
    from bnexport.comparison.sides import Runner
    from bnexport.comparison.tally import Tally
    from bnexport.results.verdict import CheckReport, Comparison, Finding


def verify(
    path: Path | str,
    *,
    providers: Sequence[str] = ("auto",),
    require: Sequence[str] = (),
    targets: Sequence[str] = (),
    python: Path | str | None = None,
    rtol: Mapping[str, float] | None = None,
    atol: Mapping[str, float] | None = None,
    strict_placement: bool = False,
    gpu_memory_limit: int | None = None,
    recorded: Path | str | None = None,
    matrix: str = "",
    matrix_all: bool = False,
    signature: RequiredSignature | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Whether a runtime on this machine computes what is stored in a bundle, from the stored inputs and from the stored pictures.

    The hashes of a bundle show what was damaged or changed by accident. They do not show a change by somebody who can
    rewrite the bundle, and its hashes with it: require a signature where that matters (`pack(..., signing=...)`).

    Args:
        path: the bundle.
        providers: "auto", "cpu", "cuda".
        require: providers and other targets without which there is nothing to verify.
        targets: runtimes to execute the file on, NAME[:DEVICE][:OPTION=VALUE], in place of onnxruntime unless that is
            among them or `providers` names it: "onnxruntime:cuda" takes the place of `providers`.
        python: the interpreter of targets that run in a process of their own; None for this one.
        rtol: the largest error, relative to the tensor's scale, that passes, by tensor ("" for all others), in place of the packed tolerance.
        atol: the same in the tensor's own unit; an error passes up to the sum of both.
        strict_placement: a compute node that CUDA leaves to the CPU is an error.
        gpu_memory_limit: the most GPU memory that onnxruntime may take, in bytes.
        recorded: a folder with the outputs, and optionally the inputs, that another program recorded for the bundle
            (`bnexport.bundles.recorded.folder`).
        matrix: releases of a runtime to execute the file on, such as "onnxruntime==1.20..1.31" (`bnexport.bundles.release_range`), in
            place of onnxruntime unless `targets` or `providers` names it.
        matrix_all: run every one of them, and not only the first, the last and what bisection needs.
        signature: the signature that the bundle must have; nothing of it is read before that is right. None for none.
        progress: notified of each stage.

    Returns:
        The report, `bundle` set; truthy when everything agrees.

    Raises:
        InputError: a file of the bundle is missing, damaged or was changed, or it lacks the signature.
        UsageError: a tolerance is invalid, or names a tensor that is not compared; or there is no such target.
        MachineError: a required provider, or another target, does not run here, or no release of the matrix does.
    """
    releases = read_releases(matrix, every=matrix_all)
    how = CheckOptions(
        providers=providers,
        require=require,
        targets=targets,
        python=Path(python) if python is not None else None,
        rtol=dict(rtol or {}),
        atol=dict(atol or {}),
        strict_placement=strict_placement,
        gpu_memory_limit=gpu_memory_limit,
    )
    how = settle_targets(how, releases)
    with start_opening(Path(path), how, signature) as being_opened:
        folder = None if recorded is None else Path(recorded)
        return compare_with_bundle(being_opened, how, progress or Progress(), folder, releases)


def compare_with_bundle(
    bundle_files: Opened,
    how: CheckOptions,
    progress: Progress,
    recorded: Path | None = None,
    releases: Matrix | None = None,
) -> CheckReport:
    """The report on a bundle that is being opened; the options are those of `verify`."""
    # Imported here, while onnxruntime opens the model.
    from bnexport import datasets
    from bnexport.bundles import bundle, checksums, golden, matrix_runs
    from bnexport.comparison.cuda import cuda_sides, settle_providers
    from bnexport.comparison.engine import replay, take
    from bnexport.comparison.tally import Tally
    from bnexport.results.facts import SHOWN, ImageFacts
    from bnexport.results.nouns import noun_of
    from bnexport.results.verdict import BundleFacts, CheckReport
    from bnexport.rules import runtime
    from bnexport.rules.actions import Names, add_files
    from bnexport.rules.rule import sort_findings
    from bnexport.runtimes.environment import environment
    from bnexport.runtimes.ort_session import Cuda, Session

    folder = bundle_files.folder
    progress.stage("reading the bundle")
    signed = bundle_files.signed
    index = bundle.read(folder, signed)
    files = bundle.contents(index, folder)
    model = bundle.verify_model(bundle_files.model, index, folder)
    wanted = bool(how.providers or {"cpu", "cuda"} & {*how.require})  # onnxruntime
    chosen, lost = settle_providers(how.providers, how.require) if wanted else ([], [])
    feeds = [golden.feed(index, part, files, folder) for part in index.sets]
    runners: list[Runner] = []
    stored, baseline = golden.stored_run(index), golden.baseline(index, feeds, files, folder)
    decoded = golden.decode_images(index, files, feeds)

    def open_onnxruntime() -> Runner:
        session = bundle_files.session.result() if bundle_files.session else Session(model.source, "cpu")
        return golden.open_packed_graph(session, index, model.content)

    progress.stage("opening the runtimes")
    if "cpu" in chosen:  # without having been asked for, where CUDA was and does not run
        runners.append(open_onnxruntime())
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
    elsewhere = None
    if how.targets:
        from bnexport.bundles.packed_targets import open_packed_targets  # most verifications need none of it

        elsewhere = open_packed_targets(how, index, model.content, folder, feeds[0].inputs, progress)
        runners += elsewhere.runners
    tolerances = golden.tolerances(index)
    if how.rtol or how.atol:
        tolerances = replace(tolerances, rtol=how.rtol, atol=how.atol)
    spec = golden.preprocessing(index)
    count, noun, on_releases = baseline.count, noun_of(spec), matrix_runs.NONE
    if releases is not None:
        on_releases = matrix_runs.run_matrix(releases, index, stored, baseline, model.content, tolerances, progress)

    def compare_runs(runners: list[Runner]) -> tuple[Tally, Sequence[Comparison], list[Finding | None]]:
        quantised = {run.id: run.quantised for run in runners if run.quantised}
        tally = Tally([stored, *(run.spec for run in runners)], index.heads, tolerances, quantised=quantised, noun=noun)
        progress.start("comparing", count * len(runners))
        take(baseline, stored.id, tally)
        for run in runners:
            replay(baseline, run, tally, progress)
        if runners:
            tally.refuse_unknown([how.rtol, how.atol])
        comparisons, reduced = tally.judge((), ())
        explained: list[Finding | None] = []
        if tally.lost():
            from bnexport.checking.mismatch import Inquiry  # most bundles need none of it

            by_id = {runner.id: runner for runner in runners}
            inquiry = Inquiry(None, tally, by_id, spec, None, None, (), progress, onnxruntime=open_onnxruntime)
            explained, _ = inquiry.findings(feeds[0], layers=False)
        if elsewhere:
            explained += elsewhere.examine_servers(runners, feeds[0], tally, open_onnxruntime, progress)
        pictures = golden.preprocessing_difference(decoded, baseline, stored.id, runners or on_releases.newest, tally)
        return tally, comparisons, [*explained, *reduced, pictures]

    while True:
        try:
            tally, comparisons, findings = compare_runs(runners)
            break
        except (EndedError, RefusedError) as error:
            if elsewhere is None:
                raise
            runners = elsewhere.leave_out(error, runners)
    items = tally.answers.items
    judgement = None
    if recorded is not None:
        from bnexport.bundles.recorded.judge import judge
        from bnexport.bundles.recorded.recording import open_recording

        progress.stage("comparing what was recorded")
        recording = open_recording(recorded, index, baseline, stored.id)
        judgement = judge(recording, index, files, stored, open_onnxruntime, tolerances, progress)
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
            noun,
        ),
        preprocessing=index.preprocessing or {},
        preprocessing_origin=index.preprocessing_origin,
        sides=(
            tally.answers.side(stored, 0.0),
            *(tally.answers.side(run.spec, run.seconds) for run in runners),
            *([judgement.side] if judgement else []),
            *on_releases.sides,
        ),
        comparisons=(*comparisons, *(judgement.comparisons if judgement else ()), *on_releases.comparisons),
        findings=add_files(
            sort_findings(
                [
                    *lost,
                    *(elsewhere.findings if elsewhere else ()),
                    *findings,
                    *on_releases.findings,
                    runtime.not_finite(
                        broken := tally.answers.not_finite, count, noun, tally.answers.broken_before(broken)
                    ),
                    *(judgement.findings if judgement else ()),
                ]
            ),
            Names(),
        ),
        environment=environment(elsewhere.versions if elsewhere else {}),
        tolerance=tolerances.described,
        releases=on_releases.facts,
        bundle=BundleFacts(
            str(folder),
            len(files) + 2 + checksums.verify_sums(index, folder),
            index.reference,
            dict(index.tool),
            dict(index.environment),
            index.findings,
            signed.signer if signed else "",
        ),
    )
