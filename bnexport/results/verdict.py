"""What a check found: plain records, from the single number to the verdict. Reports format them; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bnexport.results.actions import Action
from bnexport.results.drift import Drift
from bnexport.results.facts import ImageFacts, ModelFacts
from bnexport.results.releases import ReleaseMatrix
from bnexport.results.rounding import LARGEST
from bnexport.results.speed import Speed
from bnexport.results.sweep import SweepCase
from bnexport.results.tasks import TaskResult
from bnexport.results.tolerance import FLOORS, LEAST, STATED


class Severity(StrEnum):
    """How much a finding matters: an error fails the check."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was noticed, with its numbers and what to do about it.

    Args:
        code: the stable code, such as "BN005".
        severity: an error fails the check.
        message: one sentence.
        evidence: the numbers behind it.
        actions: what to do next, most useful first.
        layers: the layers it happened in, where it happened in layers.
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def fix(self) -> tuple[str, ...]:
        """The actions as sentences, which JSON has had from the start."""
        return tuple(action.fix for action in self.actions)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one tensor is from its reference, over all images.

    Args:
        images: how many images were compared.
        scale: max |reference|, the size of the tensor.
        max_abs: max |actual - reference|; NaN where either side has NaN or infinity that the other has not.
        mean_abs: mean |actual - reference|.
        max_rel: max_abs / scale; 0 where both are 0.
        cosine: the cosine of the angle between the two as vectors; 1 where both are 0.
        snr_db: 10 log10(sum reference^2 / sum (actual - reference)^2); infinite where they are equal.
        worst_image: the position of the image with the largest difference.
        nonfinite: how many values are NaN or infinite on either side.
    """

    images: int
    scale: float
    max_abs: float
    mean_abs: float
    max_rel: float
    cosine: float
    snr_db: float
    worst_image: int
    nonfinite: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One tensor of one side held against another side; truthy when it passed.

    Args:
        actual: the id of the side that is judged.
        reference: the id of the side it is judged by.
        tensor: "logits", "probabilities" or the output's name.
        difference: how far they are apart.
        tolerance: the largest `max_rel` that passes.
        top1_agreement: the share of images that get the same class on both sides; None where there are no classes.
        passed: whether the difference is within the tolerance.
        reason: why it did not pass, "" where it did.
        noise_floor: the distance of the reference in float32 to itself in float64, relative to the scale; None where it is not known.
        expected_rms: the error that reduced precision explains, as rms in the tensor's unit; None where that does not apply.
        error_ratio: the error on the same items as a multiple of it.
        task: how far the sides are apart in the terms of the task; None where the output has none but classes.
    """

    actual: str
    reference: str
    tensor: str
    difference: Difference
    tolerance: float
    top1_agreement: float | None
    passed: bool
    reason: str = ""
    noise_floor: float | None = None
    expected_rms: float | None = None
    error_ratio: float | None = None
    task: TaskResult | None = None

    @property
    def agreement(self) -> float | None:
        """The share of answers that are the same, of classes or otherwise of what the task gives."""
        if self.top1_agreement is not None or self.task is None:
            return self.top1_agreement
        return self.task.agreement

    @property
    def noise_floors(self) -> float | None:
        """The error in noise floors."""
        return None if self.noise_floor is None else self.difference.max_rel / self.noise_floor

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True, slots=True)
class Side:
    """One way of computing the outputs, and how it did.

    Args:
        id: such as "onnx-inference@cpu".
        runtime: "keras" or "onnxruntime".
        mode: "inference" or "training".
        provider: "cpu" or "cuda"; "tensorflow" for Keras.
        correct: images whose class is right; None where no labels are known.
        of: images with a label.
        answers: the class of each image, -1 where an output is not finite; empty where there are no classes.
        confidence: the probability of that class, one per image; empty where there are no probabilities.
        seconds: time spent computing, tracing and loading included.
        scores: what the class is the largest of, for each class of the first images; empty where there are no classes.
        precision: what its artifact computes in (`bnexport.results.runs.Precision`).
    """

    id: str
    runtime: str
    mode: str
    provider: str
    correct: int | None
    of: int
    answers: Sequence[int]
    confidence: Sequence[float]
    seconds: float
    scores: tuple[tuple[float, ...], ...] = ()
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far the tensor of one layer, or of one node of a reference file, is from what the reference computes there.

    Args:
        name: the layer.
        kind: its class.
        inputs: the layers whose outputs it reads.
        tensor: the tensor in the graph; "" where none was found.
        max_rel: max |actual - reference| / max |reference|; NaN where it cannot be compared.
        noise_floor: how far rounding moves the reference there; None where it is not known.
        problem: why it cannot be compared, "" where it can.
        matched: how the tensor was recognised; "" by the layer's name.
        expected: the error that reduced precision explains there, relative to the scale; None where that does not apply.
        discrete: whether its values are integers or truth values, which hide what they are made of.
        reordered: on which axis it holds the values of the reference in another order, and in which; "" where it does not.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    tensor: str
    max_rel: float
    noise_floor: float | None
    problem: str = ""
    matched: str = ""
    expected: float | None = None
    discrete: bool = False
    reordered: str = ""

    @property
    def known(self) -> bool:
        """Whether a tensor was found."""
        return bool(self.tensor)

    @property
    def tolerance(self) -> float:
        """The largest error that is rounding."""
        if self.expected is not None:
            return max(LARGEST * self.expected, LEAST)
        return STATED["inference"] if self.noise_floor is None else max(FLOORS * self.noise_floor, LEAST)

    @property
    def off(self) -> bool:
        """Whether it is further from the reference than rounding explains."""
        return self.known and not self.max_rel <= self.tolerance


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """The bundle that was verified.

    Args:
        path: as it was given.
        files: how many files were held against their hashes.
        reference: the side whose outputs are stored in it.
        tool: name and version of what packed it.
        environment: versions and machine where it was packed.
        known: what the check found when it was packed.
        signer: whose signature was required, and is right; "" where none was.
    """

    path: str
    files: int
    reference: str
    tool: Mapping[str, str]
    environment: Mapping[str, Any]
    known: tuple[Finding, ...]
    signer: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything one check found; truthy when it passed.

    Args:
        model: what was checked.
        images: on what.
        preprocessing: how the images were prepared, as plain values; empty for `--arrays`.
        preprocessing_origin: where that was learned: "flags", "sidecar", "onnx metadata", "found" or "assumed".
        sides: every way the outputs were computed.
        comparisons: every pair of them that was compared.
        findings: most severe first.
        environment: versions and machine.
        tolerance: the rule by which comparisons passed or failed, in words.
        layers: the error of every layer, from the input to the output; empty where layers were not compared.
        bundle: the bundle that was verified; None for a check.
        drift: how far the moving statistics are from what the layers see; None where that was not measured.
        deployed: the deployed file that was held against the model; "" for an export of bnexport.
        sweep: what was tried beyond the data; empty unless that was asked for.
        speed: how fast each run is; empty unless that was asked for.
        releases: the releases of a runtime that a bundle was run on; None unless that was asked for.
    """

    model: ModelFacts
    images: ImageFacts
    preprocessing: Mapping[str, Any]
    preprocessing_origin: str
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    environment: Mapping[str, Any]
    tolerance: str = ""
    layers: tuple[LayerError, ...] = ()
    bundle: BundleFacts | None = None
    drift: Drift | None = None
    deployed: str = ""
    sweep: tuple[SweepCase, ...] = ()
    speed: tuple[Speed, ...] = ()
    releases: ReleaseMatrix | None = None

    @property
    def passed(self) -> bool:
        """True when something was compared, every comparison that must hold holds, and no finding is an error."""
        return bool(self.comparisons) and not any(f.severity == Severity.ERROR for f in self.findings)

    def __bool__(self) -> bool:
        return self.passed

    def _repr_html_(self) -> str:
        """The report as notebooks show it: the HTML page without its frame, with styles that apply to nothing else."""
        from bnexport.reporting.html import fragment

        return fragment(self)

    def __str__(self) -> str:
        """The verdict and the findings, one line each; what to do is written as calls of Python."""
        lines = [f"{'PASS' if self else 'FAIL'} {self.bundle.path if self.bundle else self.model.path}"]
        for finding in self.findings:
            lines += [
                f"{finding.code} {finding.severity}: {finding.message}",
                *(f"  -> {action}" for action in finding.actions),
            ]
        return "\n".join(lines)
