"""BN005 to BN007: what training mode and inference mode answer, and what either depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bnexport.numerics.drift import Statistics, misfit
from bnexport.results.actions import Action, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Comparison, Finding, Severity, Side
from bnexport.rules.actions import EXPORT
from bnexport.rules.measured import DEVIATIONS, LOST, Right
from bnexport.rules.rule import Rule

MODES_DIFFER = 0.1
"""Without classes: the modes answer differently when the root mean square of their difference is above this share of the reference's."""

SCATTER = 0.05
"""Batch statistics of a few dozen images change the class of about this share of the images of a healthy net."""

BN005 = Rule(
    "BN005",
    "training and inference mode answer differently",
    meaning=(
        "Some images get another class in inference mode than in training mode; without classes, the outputs "
        "differ by more than {MODES_DIFFER:share} of their size."
    ),
    measured=(
        "The training pass (BatchNormalization by the batch, dropout off) against the inference pass, on the same"
        " batches. An error where the statistics are known to be wrong (BN001, BN002, BN003), or where labels "
        "show that inference mode gets fewer right than chance explains ({DEVIATIONS:g} standard deviations of a "
        "sign test, and {LOST:share} of the images). Otherwise a warning, or an information where at most "
        "{SCATTER:share} of the images are concerned. A warning, too, where the statistics could not be examined."
    ),
    neighbours=(
        "BN001, BN002 and BN003 say why, where the statistics tell. Without them the statistics were converged: "
        "on small batches a healthy net differs in a few images; and a net whose head was trained on frozen "
        "statistics differs by design. What recalibrating would give (onnx-recalibrated@cpu) decides, best on "
        "images with labels."
    ),
    remedy="What the finding says first: it was measured on your images.",
    thresholds={"MODES_DIFFER": MODES_DIFFER, "SCATTER": SCATTER, "DEVIATIONS": DEVIATIONS, "LOST": LOST},
)


def modes_disagree(
    comparison: Comparison,
    *,
    right: Right | None,
    causes: Sequence[str],
    unexamined: str = "",
    remedy: Sequence[Action],
    noun: Noun = IMAGES,
) -> Finding | None:
    """BN005: training mode and inference mode answer differently.

    It is an error where the moving statistics are wrong, or where labels show that inference mode loses more than chance takes.
    Otherwise the modes differ and nothing says that inference mode, which is what gets deployed, is the wrong one.

    Args:
        comparison: training mode held against inference mode on the tensor that decides (logits where there are).
        right: how many labelled images each mode gets right; None without labels.
        causes: the codes of findings that say that the moving statistics are wrong.
        unexamined: why the moving statistics could not be examined; "" where they were.
        remedy: what to do about it.
        noun: what the model was run on.

    Returns:
        The finding; None where every image gets the same class, or where there are no classes and the outputs are
        within `MODES_DIFFER` of each other.
    """
    difference, agreement = comparison.difference, comparison.top1_agreement
    differing = 0 if agreement is None else round((1 - agreement) * difference.images)
    evidence: dict[str, Any] = {
        "images": difference.images,
        "max_rel": difference.max_rel,
        "snr_db": difference.snr_db,
        "tensor": comparison.tensor,
        "causes": ["unknown"] if unexamined else list(causes),
    }
    far = f"the {comparison.tensor} differ by up to {difference.max_rel:.2g} of their size"
    if agreement is None:
        if difference.snr_db > -20 * math.log10(MODES_DIFFER):
            return None
        message = f"training and inference mode compute different outputs: {far}"
    elif not differing:
        return None
    else:
        message = (
            f"training and inference mode give {differing} of {difference.images} {noun.many} different classes; {far}"
        )
        evidence |= {"images_differing": differing}
    severity = Severity.WARNING if agreement is None or 1 - agreement > SCATTER else Severity.INFO
    if right is not None:
        evidence |= {
            "inference_correct": right.inference,
            "training_correct": right.training,
            "labelled": right.labelled,
        }
        message += f"; right in inference mode {right.inference} of {right.labelled}, in training mode {right.training} of {right.labelled}"
    if causes or (right is not None and right.lost):
        severity = Severity.ERROR
    elif unexamined:
        severity = Severity.WARNING
        message += f"; whether the moving statistics are right could not be examined: {unexamined}"
    else:
        message += "; nothing shows that inference mode is the wrong one"
    return BN005.finding(severity, message, evidence, tuple(remedy))


BN006 = Rule(
    "BN006",
    "the output depends on the batch",
    meaning=(
        "What the model computes for an image in inference mode depends on the other images in its batch: an "
        "exporter baked training mode in, a layer was called with training=True, or an operator mixes the images "
        "of a batch. In production the same image gets different answers from one request to the next."
    ),
    measured=(
        "Up to four images in one batch against the first two of them one by one, in each runtime, on logits and "
        "outputs that have a row for each image, at the tolerance of inference mode. Whether something in the "
        "graph may normalise by the batch is in the evidence."
    ),
    neighbours=(
        "EX001: the export differs from Keras whatever the batch. BN005: training mode differs, which is what it "
        "is for."
    ),
    remedy=(
        "Export the model in inference mode, with bnexport export; in Keras, do not call BatchNormalization with "
        "training=True."
    ),
)


def batch_dependent(comparison: Comparison, *, by_batch: bool, noun: Noun = IMAGES) -> Finding:
    """BN006: an image gets another output in a batch than alone.

    Args:
        comparison: the first images of a batch against the same images one by one.
        by_batch: whether the graph holds something that may normalise by the batch.
        noun: what the model was run on.
    """
    difference = comparison.difference
    message = (
        f"what {comparison.actual} computes for {noun.a} depends on the rest of its batch: the {comparison.tensor} of "
        f"{difference.images} {noun.many} in one batch and "
        f"one by one: {comparison.reason}"
    )
    evidence = {
        "side": comparison.actual,
        "tensor": comparison.tensor,
        "images": difference.images,
        "max_rel": difference.max_rel,
        "normalises_by_batch": by_batch,
    }
    if by_batch:
        action = advise(
            "a layer that normalises by the batch was exported or called with training=True: export in inference mode",
            EXPORT,
        )
    else:
        action = advise(
            f"nothing in the graph normalises by the batch: look for an operator that mixes {noun.many} (a sort, a selection, a "
            "reshape or a product over the first axis)"
        )
    return BN006.finding(Severity.ERROR, message, evidence, (action,))


BN007 = Rule(
    "BN007",
    "frozen layers",
    meaning=(
        "Layers with trainable=False run on their moving statistics in training mode too: the training pass "
        "proves nothing about them."
    ),
    measured=(
        "From the model's configuration, or the metadata that bnexport export writes. The side "
        "onnx-recalibrated@cpu treats every layer as thawed: how far the frozen statistics are from what the "
        "layers see, and what the model would answer, come from it."
    ),
    neighbours=(
        "BN005 cannot show for frozen layers, however wrong their statistics are; BN001 to BN004 and IN001, IN002"
        " can, they look at the statistics themselves."
    ),
    remedy=(
        "Nothing, where the head was trained on the frozen statistics: recalibrating would take them from under "
        "it. Labelled images decide."
    ),
)


def frozen(
    layers: int,
    statistics: Sequence[Statistics],
    frozen_layers: int,
    before: Side | None,
    after: Side | None,
    noun: Noun = IMAGES,
) -> Finding | None:
    """BN007: frozen layers run on their moving statistics in training mode too, so the training pass says nothing about them.

    Args:
        layers: all BatchNormalization layers.
        statistics: what each site holds and sees with every layer thawed; empty where that could not be measured.
        frozen_layers: how many are frozen.
        before: the answers in inference mode.
        after: the answers with every layer thawed, that is, with the statistics of all these images.
        noun: what the model was run on.
    """
    if not frozen_layers:
        return None
    message = f"{frozen_layers} of {layers} BatchNormalization layers are frozen: the training pass says nothing about their statistics"
    evidence: dict[str, Any] = {"layers": layers, "frozen": frozen_layers}
    names = tuple(s.name for s in statistics if s.frozen)
    if names:
        evidence["misfit"] = misfit([s for s in statistics if s.frozen])
        message += (
            f"; on these {noun.many} they are {evidence['misfit']:.2g} standard deviations from what the layers see"
        )
    if before is not None and after is not None and before.correct is not None and after.correct is not None:
        evidence |= {"inference_correct": before.correct, "thawed_correct": after.correct, "labelled": after.of}
        message += f"; thawed, {after.correct} of {after.of} would be right instead of {before.correct}"
    actions = (
        advise(
            f"a head trained on frozen statistics needs just those: do not recalibrate unless labelled {noun.many} say so"
        ),
    )
    return BN007.finding(Severity.INFO, message, evidence, actions, names)
