"""The findings that follow from answers, comparisons and machines: what each code says, from which numbers. Those that follow from statistics are in `diagnose` and `inputs`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexport.numerics.drift import Statistics, misfit
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Action, Comparison, Finding, Severity, Side
from bnexport.rules.actions import EXPORT

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}

MODES_DIFFER = 0.1
"""Without classes: the modes answer differently when the root mean square of their difference is above this share of the reference's."""


SCATTER = 0.05
"""Batch statistics of a few dozen images change the class of about this share of the images of a healthy net."""


@dataclass(frozen=True, slots=True)
class Right:
    """How many of `labelled` images each mode gets right; `only_training` and `only_inference` by one mode alone."""

    labelled: int
    inference: int
    training: int
    only_inference: int
    only_training: int

    @property
    def lost(self) -> bool:
        """Whether inference mode gets fewer right than chance explains: by two standard deviations of a sign test and 2 % of the images."""
        lost = self.only_training - self.only_inference
        return lost > max(2 * math.sqrt(self.only_training + self.only_inference), 0.02 * self.labelled)


def ordered(found: Iterable[Finding | None]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then the rest; otherwise as they came. What was looked for and not found is None."""
    return tuple(
        sorted((finding for finding in found if finding is not None), key=lambda finding: _ORDER[finding.severity])
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
    return Finding("BN005", severity, message, evidence, tuple(remedy))


def frozen(
    layers: int,
    found: Sequence[Statistics],
    frozen_layers: int,
    before: Side | None,
    after: Side | None,
    noun: Noun = IMAGES,
) -> Finding | None:
    """BN007: frozen layers run on their moving statistics in training mode too, so the training pass says nothing about them.

    Args:
        layers: all BatchNormalization layers.
        found: what each site holds and sees with every layer thawed; empty where that could not be measured.
        frozen_layers: how many are frozen.
        before: the answers in inference mode.
        after: the answers with every layer thawed, that is, with the statistics of all these images.
        noun: what the model was run on.
    """
    if not frozen_layers:
        return None
    message = f"{frozen_layers} of {layers} BatchNormalization layers are frozen: the training pass says nothing about their statistics"
    evidence: dict[str, Any] = {"layers": layers, "frozen": frozen_layers}
    names = tuple(s.name for s in found if s.frozen)
    if names:
        evidence["misfit"] = misfit([s for s in found if s.frozen])
        message += (
            f"; on these {noun.many} they are {evidence['misfit']:.2g} standard deviations from what the layers see"
        )
    if before is not None and after is not None and before.correct is not None and after.correct is not None:
        evidence |= {"inference_correct": before.correct, "thawed_correct": after.correct, "labelled": after.of}
        message += f"; thawed, {after.correct} of {after.of} would be right instead of {before.correct}"
    actions = (
        Action(
            f"a head trained on frozen statistics needs just those: do not recalibrate unless labelled {noun.many} say so"
        ),
    )
    return Finding("BN007", Severity.INFO, message, evidence, actions, names)


def repaired(repairs: Sequence[str]) -> Finding | None:
    """EX006: Keras 3 does not read the file as it is, and what was checked is what was made of it."""
    if not repairs:
        return None
    message = (
        f"this Keras does not read the file as it was written; checked is what was made of it: {'; '.join(repairs)}"
    )
    actions = (
        Action("write an ONNX file, which is read everywhere", EXPORT),
        Action("save the model again with the Keras version that wrote it"),
    )
    return Finding("EX006", Severity.INFO, message, {"repairs": list(repairs)}, actions)


def unreadable(files: Sequence[tuple[str, str]], noun: Noun = IMAGES) -> Finding | None:
    """IN004: images that could not be read."""
    if not files:
        return None
    shown = "; ".join(f"{name} ({reason})" for name, reason in files[:3]) + ("; …" if len(files) > 3 else "")
    message = f"{len(files)} {noun.many} cannot be read and were left out: {shown}"
    return Finding(
        "IN004",
        Severity.WARNING,
        message,
        {"files": [list(entry) for entry in files]},
        (Action("replace or remove these files"),),
    )


def not_finite(sides: Mapping[str, int], images: int, noun: Noun = IMAGES) -> Finding | None:
    """RT006: sides that compute NaN or infinity, with the number of images each does so for; None where there is none."""
    if not sides:
        return None
    message = f"outputs that are not finite: {', '.join(f'{side} for {count} of {images} {noun.many}' for side, count in sides.items())}"
    actions = (
        Action("look for values that are not finite in the inputs and the weights"),
        Action("in half precision, look for values above 65504"),
    )
    return Finding("RT006", Severity.ERROR, message, {"sides": dict(sides), "images": images}, actions)


def provider_not_running(provider: str, reason: str) -> Finding:
    """RT001: a provider was asked for and does not run."""
    message = f"{provider.upper()} was asked for and does not run here: {reason}"
    return Finding(
        "RT001",
        Severity.ERROR,
        message,
        {"provider": provider, "reason": reason},
        (Action("install what is missing, or check with --provider cpu"),),
    )


def assumed_preprocessing(described: str) -> Finding:
    """IN005: nothing says how the images are to be prepared, so that something had to be assumed; it is said aloud."""
    message = f"the model does not say how its images are prepared; assumed: {described}"
    return Finding(
        "IN005",
        Severity.WARNING,
        message,
        {"assumed": described},
        (Action("say it with --size, --channels, --resize and --scaling"),),
    )


def placed_on_cpu(side: str, nodes: Sequence[tuple[str, str]], *, strict: bool) -> Finding | None:
    """RT002: compute nodes of a side on CUDA that run on the CPU, as (operator, name); None where there is none."""
    if not nodes:
        return None
    counts = Counter(operator for operator, _ in nodes)
    shown = ", ".join(f"{count} {operator}" for operator, count in counts.most_common(5))
    message = f"{len(nodes)} compute nodes of {side} run on the CPU: {shown}; each costs a copy to the CPU and back"
    return Finding(
        "RT002",
        Severity.ERROR if strict else Severity.WARNING,
        message,
        {"side": side, "operators": dict(counts), "nodes": [name for _, name in nodes]},
        (
            Action("export with operators that CUDA has kernels for, or use a newer onnxruntime-gpu", EXPORT),
            Action("--strict-placement makes this an error"),
        ),
    )


def reduced_precision(comparison: Comparison, noun: Noun = IMAGES) -> Finding | None:
    """RT003: as deployed, a side on CUDA is further from the reference than rounding to float32 explains; an error where images get another class."""
    floors = comparison.noise_floors
    far = f"{floors:,.0f} noise floors" if floors is not None else f"{comparison.difference.max_rel:.2g} of their size"
    message = f"{comparison.actual} computes with reduced precision (TF32 is onnxruntime's default on CUDA): the {comparison.tensor} are {far} from {comparison.reference}'s"
    differing = 0
    if comparison.top1_agreement is not None:
        differing = round((1 - comparison.top1_agreement) * comparison.difference.images)
        message += f"; {differing} of {comparison.difference.images} {noun.many} get another class"
    evidence = {
        "side": comparison.actual,
        "tensor": comparison.tensor,
        "max_rel": comparison.difference.max_rel,
        "noise_floors": floors,
        "images_differing": differing,
    }
    actions = (
        Action("deploy with the CUDA provider option use_tf32=0, at some cost in speed"),
        Action("or accept it: the strict side shows that the export is right"),
    )
    return Finding("RT003", Severity.ERROR if differing else Severity.WARNING, message, evidence, actions)


def decoded_otherwise(differing: Mapping[str, float], images: int, *, harmless: bool) -> Finding | None:
    """IN006: pictures that became other inputs than on the machine that packed them, with the largest difference of each; None where there is none.

    Args:
        differing: by the picture's name.
        images: how many there are.
        harmless: whether the outputs are within the tolerance all the same.
    """
    if not differing:
        return None
    worst = max(differing, key=lambda name: differing[name])
    message = f"this machine prepares {len(differing)} of {images} pictures otherwise than the one that packed them, by up to {differing[worst]:.3g} ({worst})"
    message += "; the outputs agree all the same" if harmless else "; the outputs do not agree then"
    return Finding(
        "IN006",
        Severity.WARNING if harmless else Severity.ERROR,
        message,
        {"images": images, "differing": dict(differing), "outputs_agree": harmless},
        (Action("install the versions of pillow and simplejpeg that bundle.json names under environment"),),
    )
