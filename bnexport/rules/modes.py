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
    "training and inference mode give different results",
    meaning=(
        "Some images get another class in inference mode than in training mode. Without classes: the outputs "
        "differ by more than {MODES_DIFFER:share} of their scale."
    ),
    measured=(
        "The training pass (BatchNormalization by the batch, dropout off) is compared with the inference pass "
        "on the same batches. It is an error where the statistics are known to be wrong (BN001, BN002, "
        "BN003), or where labels show that inference mode loses more images than chance explains "
        "({DEVIATIONS:g} standard deviations of a sign test and {LOST:share} of the images). Otherwise it is "
        "a warning, or an information where at most {SCATTER:share} of the images are affected. It is also a "
        "warning where the statistics could not be measured."
    ),
    neighbours=(
        "BN001, BN002 and BN003 name the cause where the statistics show it. Without them the statistics have "
        "converged: on small batches a healthy model differs for a few images, and a model whose head was "
        "trained on frozen statistics differs by design. The recalibrated graph (onnx-recalibrated@cpu) "
        "decides, best on labelled images."
    ),
    remedy="Follow the first action of the finding. It is based on measurements on your images.",
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
    far = f"the {comparison.tensor} differ by up to {difference.max_rel:.2g} of their scale"
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
    if comparison.task is not None:
        message += f"; {comparison.task.described}"
    severity = Severity.WARNING if agreement is None or 1 - agreement > SCATTER else Severity.INFO
    if right is not None:
        evidence |= {
            "inference_correct": right.inference,
            "training_correct": right.training,
            "labelled": right.labelled,
        }
        message += f"; inference mode is correct for {right.inference} of {right.labelled}, training mode for {right.training} of {right.labelled}"
    if causes or (right is not None and right.lost):
        severity = Severity.ERROR
    elif unexamined:
        severity = Severity.WARNING
        message += f"; the moving statistics could not be examined: {unexamined}"
    else:
        message += "; nothing shows that inference mode is wrong"
    return BN005.finding(severity, message, evidence, tuple(remedy))


BN006 = Rule(
    "BN006",
    "the output depends on the batch",
    meaning=(
        "In inference mode, the output for an image depends on the other images in its batch. Possible causes "
        "are an export in training mode, a layer called with training=True, or an operator that mixes the "
        "images of a batch. In production, the same image then gets different results from one request to the "
        "next."
    ),
    measured=(
        "Up to four images are run in one batch, and the first two of them again one by one, in each runtime. "
        "Logits and outputs with one row per image are compared within the tolerance of inference mode. The "
        "evidence states whether a node of the graph may normalise by the batch."
    ),
    neighbours=(
        "EX001: the graph differs from its reference for every batch. BN005: training mode differs from inference "
        "mode, which is expected."
    ),
    remedy=(
        "Export the model in inference mode with bnexport export. In Keras, do not call BatchNormalization "
        "with training=True."
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
        f"the output of {comparison.actual} for {noun.a} depends on the rest of its batch: the {comparison.tensor} of "
        f"{difference.images} {noun.many} in one batch and one by one: {comparison.reason}"
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
            "export in inference mode: a layer that normalises by the batch was exported or called with training=True",
            EXPORT,
        )
    else:
        action = advise(
            f"look for an operator that mixes {noun.many} (a sort, a selection, a reshape or a product over the first axis): "
            "nothing in the graph normalises by the batch"
        )
    return BN006.finding(Severity.ERROR, message, evidence, (action,))


BN007 = Rule(
    "BN007",
    "frozen layers",
    meaning=(
        "Layers with trainable=False use their moving statistics in training mode too. The training pass "
        "therefore shows nothing about these statistics."
    ),
    measured=(
        "From the model configuration, or from the metadata that bnexport export writes. The run "
        "onnx-recalibrated@cpu treats every layer as trainable. It shows how far the frozen statistics are "
        "from the input of each layer, and what the model would predict."
    ),
    neighbours=(
        "BN005 cannot occur because of frozen layers, even if their statistics are wrong. BN001 to BN004, "
        "IN001 and IN002 can, because they examine the statistics themselves."
    ),
    remedy=(
        "Nothing, where the head was trained on the frozen statistics: it depends on them. Use labelled "
        "images to decide about recalibration."
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
    message = f"{frozen_layers} of {layers} BatchNormalization layers are frozen, so the training pass does not show whether their statistics are right"
    evidence: dict[str, Any] = {"layers": layers, "frozen": frozen_layers}
    names = tuple(s.name for s in statistics if s.frozen)
    if names:
        evidence["misfit"] = misfit([s for s in statistics if s.frozen])
        message += f"; on these {noun.many} they are {evidence['misfit']:.2g} standard deviations from the inputs of the layers"
    if before is not None and after is not None and before.correct is not None and after.correct is not None:
        evidence |= {"inference_correct": before.correct, "thawed_correct": after.correct, "labelled": after.of}
        message += f"; with the statistics of these {noun.many}, {after.correct} of {after.of} would be correct instead of {before.correct}"
    actions = (
        advise(
            f"do not recalibrate unless labelled {noun.many} show a gain: a head trained on frozen statistics depends on them"
        ),
    )
    return BN007.finding(Severity.INFO, message, evidence, actions, names)
