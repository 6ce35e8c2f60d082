"""`bnexport check`: run every side on the same batches, compare, and say what that means."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnexport import __version__, files, images
from bnexport.errors import InputError, UsageError
from bnexport.jobs import one_by_one, sides
from bnexport.jobs.feeds import Source
from bnexport.jobs.preparation import Overrides
from bnexport.jobs.progress import Progress
from bnexport.jobs.remedy import advice, tried
from bnexport.jobs.sides import Runner
from bnexport.jobs.subject import Subject, open_feeds, open_subject
from bnexport.jobs.tally import Tally
from bnexport.numerics import findings
from bnexport.numerics.diagnose import STATISTICS_WRONG, diagnose
from bnexport.numerics.verdict import CheckReport, Finding, ImageFacts
from bnexport.runtimes import ort_session


def check(
    model: Path | str,
    source: Path | str | Sequence[Path] | None = None,
    *,
    inputs: Path | None = None,
    labels: Path | None = None,
    providers: Sequence[str] = ("auto",),
    require: Sequence[str] = (),
    batch_size: int = 32,
    overrides: Overrides | None = None,
    rtol: float | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Whether a model computes the same thing in Keras and in onnxruntime, and in training and in inference mode.

    Args:
        model: .h5, .hdf5 or .keras; or .onnx, then only the ONNX sides are run.
        source: a folder of images, one image, or a list of images.
        inputs: an .npz file in place of `source`, for models with several inputs or no images.
        labels: a CSV file with the columns file and label.
        providers: "auto", "cpu", "cuda".
        require: providers without which the check makes no sense.
        batch_size: the largest batch; training mode depends on it.
        overrides: what is known better than the sidecar about preprocessing.
        rtol: the largest error, relative to the tensor's scale, that passes; None for the default of each mode.
        progress: told of each stage.

    Returns:
        The report; truthy when the check passed.

    Raises:
        InputError: the model or the images cannot be read.
        UsageError: the arguments do not fit the model.
        MachineError: a required provider or TensorFlow is missing.
    """
    progress = progress or Progress()
    model, source = Path(model), Path(source) if isinstance(source, str) else source
    # Everything that can be wrong with the request is looked at before a framework is loaded, which takes seconds.
    if (source is None) == (inputs is None):
        raise UsageError("a check needs images or inputs", fix="pass a folder of images, or --inputs data.npz")
    if batch_size < 1:
        raise UsageError("the batch size is not usable", found=str(batch_size), expected="1 or more")
    if rtol is not None and not rtol >= 0:
        raise UsageError("the tolerance is not usable", found=str(rtol), expected="0 or more")
    files.model_format(model)
    pictures = images.find(source, labels=labels) if source is not None else []
    noticed: list[Finding | None]
    chosen, lost = sides.settle_providers(providers, require)

    subject = open_subject(model, progress)
    feeds, preparation = open_feeds(subject, pictures, inputs, overrides or Overrides(), batch_size)
    progress.stage("opening onnxruntime")
    runners, failed = _runners(subject, chosen, feeds, providers, require)
    trial = tried(subject, feeds, progress)
    alone, dependent = (
        one_by_one.compared(runners, next(iter(feeds)), subject, rtol, progress)
        if one_by_one.possible(subject, feeds.count)
        else ([], [])
    )
    runners += [trial.runner] if trial else []
    tally = Tally(runners, subject, feeds.classes, rtol)
    progress.start("comparing", feeds.count)
    for feed in feeds:
        tally.add(feed, {runner.id: runner.run(feed.inputs) for runner in runners})
        progress.advance(len(feed.names))
    unreadable = tuple((u.name, u.reason) for u in feeds.unreadable)
    answered = {runner.id: tally.side(runner) for runner in runners}
    before, after = answered.get("onnx-inference@cpu"), answered[trial.runner.id] if trial else None
    iterations = subject.loaded.iterations if subject.loaded else None
    causes = diagnose(trial.evidence, answers_differ=tally.modes_differ, stored_iterations=iterations) if trial else []
    remedy = advice(str(model), _told(source or inputs), before, after, trial, causes)
    wrong = [f.code for f in causes if f.code in STATISTICS_WRONG] if trial else ["unknown"]
    comparisons, found = tally.judged(wrong, remedy)
    noticed = [
        *lost,
        *failed,
        *dependent,
        findings.not_finite(tally.not_finite, len(tally.names)),
        *(_remedied(finding, remedy) for finding in causes),
        *found,
        findings.unreadable(unreadable),
        findings.frozen(
            subject.facts.layers, trial.evidence.statistics if trial else (), subject.facts.frozen, before, after
        ),
    ]
    if preparation and preparation.origin.startswith("assumed"):
        noticed.append(findings.assumed_preprocessing(preparation.spec.described))
    return CheckReport(
        model=subject.facts,
        images=ImageFacts(
            _told(source or inputs),
            len(tally.names),
            tuple(tally.names),
            tuple(tally.labels),
            tally.classes,
            unreadable,
        ),
        preprocessing=preparation.spec.as_dict() if preparation else {},
        preprocessing_origin=preparation.origin if preparation else "",
        sides=tuple(answered.values()),
        comparisons=(*comparisons, *alone),
        findings=findings.ordered(noticed),
        environment=_environment(subject.versions),
    )


def _remedied(finding: Finding, remedy: tuple[str, ...]) -> Finding:
    """Where recalibrating may be the repair, the fix is what it was seen to give on these images."""
    match finding.code:
        case "BN001":
            return replace(finding, fix=remedy)
        case "IN002":
            return replace(finding, fix=(finding.fix[0], remedy[0]))
    return finding


def _told(source: Path | Sequence[Path] | None) -> str:
    return str(source) if isinstance(source, Path) else "a list of images"


def _runners(
    subject: Subject, chosen: Sequence[str], feeds: Source, wanted: Sequence[str], require: Sequence[str]
) -> tuple[list[Runner], list[Finding]]:
    """Every side that runs here, and a finding where CUDA was asked for and failed on a real batch."""
    runners = [*subject.keras, *(sides.onnx_sides(subject.graph, ["cpu"]) if "cpu" in chosen else [])]
    lost = []
    if "cuda" in chosen:
        cuda, reason = sides.running_cuda_sides(subject.graph, next(iter(feeds)).inputs, demanded="cuda" in require)
        runners += cuda
        if reason and "cuda" in wanted:
            lost.append(findings.provider_not_running("cuda", reason))
    lone = not {(a.mode, a.runtime) for a in runners} - {("inference", "onnxruntime")}
    if lone and not one_by_one.possible(subject, feeds.count):
        raise InputError(
            f"there is nothing to compare {subject.facts.path} with",
            found=f"an ONNX file without BatchNormalization nodes and {feeds.count} images",
            fix="check the Keras model it came from, or pass several images and a model with an open batch axis",
        )
    return runners, lost


def _environment(versions: Mapping[str, str]) -> dict[str, Any]:
    import numpy
    import onnx

    return {
        "bnexport": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": numpy.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": ort_session.version(),
        **versions,
        "threads": ort_session.threads(),
    }
