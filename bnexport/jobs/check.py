"""`bnexport check`: run every side on the same batches, compare, and say what that means."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnexport import __version__, files, images
from bnexport.cache import NOTHING_KEPT, Cache
from bnexport.errors import InputError, UsageError
from bnexport.files import Format
from bnexport.graph.sites import sites
from bnexport.numerics import findings
from bnexport.numerics.diagnose import STATISTICS_WRONG, diagnose
from bnexport.numerics.tolerance import Tolerances
from bnexport.numerics.verdict import CheckReport, Finding, ImageFacts
from bnexport.parity import floors, one_by_one, randomness
from bnexport.parity.mismatch import Inquiry
from bnexport.parity.tally import Tally
from bnexport.recalibration.remedy import advice
from bnexport.recalibration.trial import tried
from bnexport.runtimes import ort_session
from bnexport.runtimes.keras_passes import Mode
from bnexport.subjects import sides
from bnexport.subjects.deployed import Deployed, open_deployed
from bnexport.subjects.feeds import Feed
from bnexport.subjects.preparation import Overrides
from bnexport.subjects.progress import Progress
from bnexport.subjects.sides import Runner
from bnexport.subjects.subject import Subject, open_feeds, open_subject


def check(
    model: Path | str,
    source: Path | str | Sequence[Path] | None = None,
    *,
    inputs: Path | None = None,
    onnx: Path | str | None = None,
    labels: Path | None = None,
    providers: Sequence[str] = ("auto",),
    require: Sequence[str] = (),
    batch_size: int = 32,
    overrides: Overrides | None = None,
    rtol: float | Mapping[str, float] | None = None,
    atol: float | Mapping[str, float] | None = None,
    layers: bool = False,
    store: Cache = NOTHING_KEPT,
    trust: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Whether a model computes the same thing in Keras and in onnxruntime, and in training and in inference mode.

    Args:
        model: .h5, .hdf5 or .keras; or .onnx, then only the ONNX sides are run.
        source: a folder of images, one image, or a list of images.
        inputs: an .npz file in place of `source`, for models with several inputs or no images.
        onnx: the deployed ONNX file, to be held against the Keras model in place of bnexport's own export of it.
        labels: a CSV file with the columns file and label.
        providers: "auto", "cpu", "cuda".
        require: providers without which the check makes no sense.
        batch_size: the largest batch; training mode depends on it.
        overrides: what is known better than the sidecar about preprocessing.
        rtol: the largest error, relative to the tensor's scale, that passes; by tensor ("" for all others) or for all. None for both: the noise floors decide.
        atol: the same in the tensor's own unit; an error passes up to the sum of both.
        layers: compare layer by layer also where the outputs agree.
        store: what was computed before; nothing by default.
        trust: load a Keras model even where it holds code of its own.
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
    given = [_by_tensor(value) for value in (rtol, atol)]
    _refuse_odd_pair(model, onnx, layers=layers)
    pictures = images.find(source, labels=labels) if source is not None else []
    chosen, lost = sides.settle_providers(providers, require)

    file = Path(onnx) if onnx is not None else None
    subject = open_subject(model, progress, store=store, trust=trust, deployed=file)
    feeds, preparation = open_feeds(subject, pictures, inputs, overrides or Overrides(), batch_size)
    first = next(iter(feeds))
    progress.stage("opening onnxruntime")
    deployed = open_deployed(file, subject) if file is not None else None
    runners, failed = _runners(subject, deployed, chosen, first, providers, require)
    beside = ThreadPoolExecutor(1)  # tracing Keras keeps one core busy, and onnxruntime has use for the other
    try:
        measured = beside.submit(_tolerances, subject, first)
        trial = tried(subject, feeds, progress)
        for runner in [*runners, *([trial.runner] if trial else [])]:
            if runner.remembered:
                runner.compute(first.inputs)  # opens it, while Keras is busy
        progress.stage("measuring the noise floor")
        tolerances = replace(measured.result(), rtol=given[0], atol=given[1])
    finally:
        beside.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for it
    alone, dependent = (
        one_by_one.compared(runners, first, subject, tolerances, progress)
        if one_by_one.possible(subject, feeds.count)
        else ([], [])
    )
    runners += [trial.runner] if trial else []
    tally = Tally(runners, subject, feeds.classes, tolerances)
    progress.start("comparing", feeds.count)
    for feed in feeds:
        tally.add(feed, {runner.id: runner.run(feed.inputs) for runner in runners})
        progress.advance(len(feed.names))
    tally.refuse_unknown(given)
    if subject.reference is not None and tolerances.floors:
        floors.where_lost(tally, subject.reference, progress)

    unreadable = tuple((u.name, u.reason) for u in feeds.unreadable)
    answered = {runner.id: tally.side(runner) for runner in runners}
    before = answered.get("keras-inference" if deployed else "onnx-inference@cpu")
    after = answered[trial.runner.id] if trial else None
    causes = (
        diagnose(trial.evidence, answers_differ=tally.modes_differ, stored_iterations=subject.iterations)
        if trial
        else []
    )
    remedy = advice(str(model), _told(source or inputs), before, after, trial, causes)
    wrong = [f.code for f in causes if f.code in STATISTICS_WRONG] if trial else ["unknown"]
    comparisons, found = tally.judged(wrong, remedy)
    spec = preparation.spec if preparation else None
    inquiry = Inquiry(subject, tally, {r.id: r for r in runners}, spec, deployed, dependent, progress)
    explained, errors = inquiry.findings(first, layers=layers)
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
        preprocessing=spec.as_dict() if spec else {},
        preprocessing_origin=preparation.origin if preparation else "",
        sides=tuple(answered.values()),
        comparisons=(*comparisons, *alone),
        findings=findings.ordered(
            [
                *lost,
                *failed,
                *explained,
                *dependent,
                findings.not_finite(tally.not_finite, len(tally.names)),
                *(_remedied(finding, remedy) for finding in causes),
                *found,
                randomness.measured(subject.reference, subject.random_layers, first, progress)
                if subject.reference
                else None,
                findings.repaired(subject.repairs),
                findings.unreadable(unreadable),
                findings.frozen(
                    subject.facts.layers,
                    trial.evidence.statistics if trial else (),
                    subject.facts.frozen,
                    before,
                    after,
                ),
                findings.assumed_preprocessing(spec.described)
                if preparation and spec and preparation.origin.startswith("assumed")
                else None,
            ]
        ),
        environment=_environment(subject.versions),
        tolerance=tolerances.described,
        layers=errors,
    )


def _refuse_odd_pair(model: Path, onnx: Path | str | None, *, layers: bool) -> None:
    kind = files.model_format(model)
    if kind == Format.ONNX and (onnx is not None or layers):
        what = (
            "--onnx holds an ONNX file against a Keras model"
            if onnx is not None
            else "--layers compares with the layers of a Keras model"
        )
        raise UsageError(
            what,
            found=f"{model}, an ONNX file",
            fix=f"pass the Keras model first: bnexport check model.keras images/ --onnx {onnx or model}",
        )
    if onnx is not None and files.model_format(Path(onnx)) != Format.ONNX:
        raise UsageError(
            f"{onnx} is not an ONNX file", found="a Keras model", fix="leave out --onnx to check bnexport's own export"
        )


def _by_tensor(value: float | Mapping[str, float] | None) -> Mapping[str, float]:
    table = {} if value is None else value if isinstance(value, Mapping) else {"": value}
    for entry in table.values():
        if not 0 <= entry < math.inf:
            raise UsageError("the tolerance is not usable", found=str(entry), expected="a number, 0 or more")
    return table


def _tolerances(subject: Subject, feed: Feed) -> Tolerances:
    if subject.reference is None:
        return Tolerances(half=subject.half)
    try:
        found = floors.measured(subject.reference, feed, subject.reference.modes)
    except InputError as error:
        return Tolerances(half=subject.half, missing=str(error))
    return Tolerances(found, floors.IMAGES, "", half=subject.half)


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
    subject: Subject,
    deployed: Deployed | None,
    chosen: Sequence[ort_session.Provider],
    first: Feed,
    wanted: Sequence[str],
    require: Sequence[str],
) -> tuple[list[Runner], list[Finding]]:
    """Every side that runs here, and a finding where CUDA was asked for and failed on a real batch."""

    def opened(providers: Sequence[ort_session.Provider]) -> list[Runner]:
        if deployed is not None:
            return [deployed.runner(provider) for provider in providers]
        modes: list[Mode] = ["inference"] if providers == ["cpu"] else ["inference", "training"]
        return sides.onnx_sides(subject.graph, providers, modes, subject.whole)

    runners = (
        sides.keras_sides(subject.reference.run, subject.reference.modes, subject.reference.runtime)
        if subject.reference
        else [sides.unoptimised_side(subject.graph)]
    )
    if "cpu" in chosen:
        runners += opened(["cpu"])
        if deployed is None and sites(subject.graph):
            runners.append(sides.remembered_twin(subject.graph, subject.store, subject.facts.sha256))
    lost = []
    if "cuda" in chosen:
        cuda, reason = sides.running_cuda_sides(lambda: opened(["cuda"]), first.inputs, demanded="cuda" in require)
        runners += cuda
        if reason and "cuda" in wanted:
            lost.append(findings.provider_not_running("cuda", reason))
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
