"""QT001: what quantisation costs, from the answers where there are classes, from the signal-to-noise ratio where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bnexport.results.actions import Action, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import EXPLAINED, LARGEST, Cause, Cost
from bnexport.results.tasks import OutputKind
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.actions import option
from bnexport.rules.measured import (
    DEVIATIONS,
    LOST,
    NO_LIMITS,
    AnswerLimits,
    Right,
    answering,
    describe_answers,
    describe_right,
    fewer_right,
    interval,
    kind_of,
)
from bnexport.rules.rule import Rule

CHANGED = 0.10
"""An error: more than this share of the answers changes, beyond what so few images leave to chance (Wilson's lower bound at 95 %)."""

KEPT = 0.99
"""A warning: fewer than this share of the answers stay. MLPerf Inference asks quantised models for 99 % of the float model's accuracy."""

LOST_DB = 10.0
"""Without classes an error below: the noise is a third of the signal."""

NOISY_DB = 20.0
"""A warning below: the noise is a tenth of the signal. 8 bits with a good calibration leave 30 to 40 dB."""

QT001 = Rule(
    "QT001",
    "cost of quantisation",
    meaning=(
        "The file computes with 8 bits or fewer. It cannot equal a float model up to rounding. What matters "
        "is whether its predictions stay the same. If they do not, calibration is the usual cause."
    ),
    measured=(
        "A graph is quantised if it contains QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, or "
        "operators on integers (QLinearConv, MatMulInteger, QGemm, MatMulNBits). The error that this explains is "
        "measured: the graph is run in float32 with uniform noise of one step at each quantised tensor, and with "
        "weights moved within half a step. The file passes within {EXPLAINED:g} times that error as rms and "
        "{LARGEST:g} times the largest one. Healthy files measured so far have up to 1.7 times. Within it, it is a warning where "
        "fewer than {KEPT:share} of the predictions stay the same, the limit of MLPerf Inference, and an error "
        "where labels show fewer correct predictions (a sign test at {DEVIATIONS:g} standard deviations and "
        "{LOST:share} of the images), or beyond --min-agreement or --max-accuracy-drop. Where the error cannot be "
        "measured (an operator that has no float form here), it is an error where more than {CHANGED:share} of the "
        "predictions change, beyond chance (Wilson's lower bound at 95 %), or, without classes, below {LOST_DB:g} "
        "dB, and a warning below {NOISY_DB:g} dB. A file alone is compared with the same file with the "
        "optimisations of onnxruntime off."
    ),
    neighbours=(
        "EX005: the dequantised kernels are those of another checkpoint. EX001 and RT004: files in floating "
        "point. Quantisation may explain only a part of the difference: check the float export first."
    ),
    remedy=(
        "Calibrate again per channel with a few hundred images prepared as in deployment, or keep the most "
        "sensitive layers in float."
    ),
    thresholds={
        "EXPLAINED": EXPLAINED,
        "LARGEST": LARGEST,
        "CHANGED": CHANGED,
        "KEPT": KEPT,
        "LOST_DB": LOST_DB,
        "NOISY_DB": NOISY_DB,
        "DEVIATIONS": DEVIATIONS,
        "LOST": LOST,
    },
)


def cost_of_quantisation(
    comparisons: Sequence[Comparison],
    described: str,
    *,
    dynamic: bool,
    right: Right | None,
    alone: bool,
    cost: Cost | None = None,
    limits: AnswerLimits = NO_LIMITS,
    noun: Noun = IMAGES,
) -> Finding | None:
    """QT001: what a quantised file computes, against its reference.

    Args:
        comparisons: the comparisons of the two sides, the deciding tensor first.
        described: the quantising operators, in words.
        dynamic: whether ranges are measured on each batch.
        right: how many labelled images the reference (`inference`) and the file (`training`) get right; None without labels.
        alone: whether the reference is the same file with the runtime's optimisations off, not the float model.
        cost: what quantisation explains of the difference; None where that is not known.
        limits: how many answers it may cost.
        noun: what the model was run on.

    Returns:
        The finding; None where nothing can be compared. `severity` is an error where answers are lost.
    """
    comparable = [c for c in comparisons if c.difference.images]
    if not comparable:
        return None
    first = comparable[0]
    images = first.difference.images
    worst_db = min(c.difference.snr_db for c in comparable if not c.tensor.endswith("probabilities") or c is first)
    evidence: dict[str, Any] = {
        "operators": described,
        "actual": first.actual,
        "reference": first.reference,
        "tensor": first.tensor,
        "max_rel": first.difference.max_rel,
        "snr_db": first.difference.snr_db,
        "lowest_snr_db": worst_db,
        "images": images,
        "error_below_snr_db": LOST_DB,
        "warning_below_snr_db": NOISY_DB,
    }
    what = (
        "the file is quantised: the optimisations of onnxruntime compute parts of it with integers"
        " (the difference from the original float model is not measured here)"
        if alone
        else "the file is quantised, so it cannot equal the float model up to rounding"
    )
    message = (
        f"{what}: {first.tensor} of {first.actual} differ from {first.reference} by {first.difference.max_rel:.2g} of "
        f"their scale (signal-to-noise ratio {first.difference.snr_db:.3g} dB)"
    )
    severity = _by_noise(worst_db)
    if cost is not None:
        message += f", {cost.described}"
        evidence |= cost.evidence
        if cost.cause == Cause.UNKNOWN:
            severity = Severity.INFO if cost.explained else Severity.ERROR
    else:
        message += ", the error that quantisation explains was not measured"
    answers = answering(comparable)
    if answers is not None and (share := answers.agreement) is not None:
        of = answers.difference.images
        differing = (1 - share) * of
        message += f"; {describe_answers(answers, noun.many)}"
        evidence |= {"error_above_changed": CHANGED, "warning_below_kept": KEPT}
        if answers.top1_agreement is not None:
            differing = evidence["images_differing"] = round(differing)
        else:
            evidence |= {"task": str(kind_of(answers)), "agreement": share}
        by_answers = _by_answers(differing, of)
        if cost is None or cost.cause != Cause.UNKNOWN:
            severity = max(by_answers, min(severity, Severity.WARNING, key=_RANK.index), key=_RANK.index)
        elif by_answers != Severity.INFO and cost.explained:
            severity = Severity.WARNING
        if right is not None:
            message += f"; {describe_right(right, first.reference)}"
            evidence |= {
                "quantised_correct": right.training,
                "reference_correct": right.inference,
                "labelled": right.labelled,
            }
            if fewer_right(right.only_training, right.only_inference, right.labelled):
                severity = Severity.ERROR
    agreement, kind = (None, OutputKind.CLASSES) if answers is None else (answers.agreement, kind_of(answers))
    if reasons := limits.violations(agreement, right, kind):
        severity = Severity.ERROR
        message += "; " + "; ".join(reasons)
    if any(c.difference.nonfinite for c in comparisons) or len(comparable) < len(comparisons):
        severity = Severity.ERROR
    if dynamic:
        message += "; ranges are measured on each batch (DynamicQuantizeLinear), so outputs depend slightly on the batch by design"
    saturated = cost is not None and cost.cause == Cause.SATURATION
    return QT001.finding(severity, message, evidence, _actions(severity, alone=alone, saturated=saturated, noun=noun))


_RANK = [Severity.INFO, Severity.WARNING, Severity.ERROR]


def _by_noise(snr_db: float) -> Severity:
    if not snr_db >= LOST_DB:
        return Severity.ERROR
    return Severity.INFO if snr_db >= NOISY_DB else Severity.WARNING


def _by_answers(differing: float, images: int) -> Severity:
    if interval(differing, images)[0] > CHANGED:
        return Severity.ERROR
    return Severity.WARNING if differing > (1 - KEPT) * images else Severity.INFO


def _actions(severity: Severity, *, alone: bool, saturated: bool, noun: Noun) -> tuple[Action, ...]:
    calibrate = advise(
        f"calibrate again per channel with a few hundred {noun.many} prepared as in deployment, or keep the most sensitive layers in float"
    )
    if saturated:
        calibrate = advise("the kernels of this processor saturate, whatever the calibration: do what RT012 says")
    if alone:
        float_model = advise(
            ("to measure the cost of quantisation, check the file against the original model: ", option("onnx"))
        )
        return (float_model,) if severity == Severity.INFO else (calibrate, float_model)
    if saturated:
        return (calibrate,)
    if severity == Severity.ERROR:
        return (advise("do not deploy this file"), calibrate)
    if severity == Severity.WARNING:
        return (advise(f"judge it on labelled {noun.many}"), calibrate)
    return ()
