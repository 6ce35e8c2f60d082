"""The findings: what each code says, from which numbers. A code is stable; `bnexport explain` will know every one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bnexport.numerics.verdict import Comparison, Finding, Severity

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}

MODES_DIFFER = 0.1
"""Without classes: the modes answer differently when the root mean square of their difference is above this share of the reference's."""


def ordered(found: Iterable[Finding | None]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then the rest; otherwise as they came. What was looked for and not found is None."""
    return tuple(
        sorted((finding for finding in found if finding is not None), key=lambda finding: _ORDER[finding.severity])
    )


def modes_disagree(
    comparison: Comparison, *, top1: tuple[int, int] | None, labelled: int, remedy: Sequence[str]
) -> Finding | None:
    """BN005: training mode and inference mode answer differently.

    Args:
        comparison: training mode held against inference mode on the tensor that decides (logits where there are).
        top1: right answers in inference and in training mode; None without labels.
        labelled: images with a label.
        remedy: what to do about it.

    Returns:
        The finding; None where every image gets the same class, or where there are no classes and the outputs are
        within `MODES_DIFFER` of each other.
    """
    difference, agreement = comparison.difference, comparison.top1_agreement
    differing = 0 if agreement is None else round((1 - agreement) * difference.images)
    evidence = {
        "images": difference.images,
        "max_rel": difference.max_rel,
        "snr_db": difference.snr_db,
        "tensor": comparison.tensor,
    }
    far = f"the {comparison.tensor} differ by up to {difference.max_rel:.2g} of their size"
    if agreement is None:
        if difference.snr_db > -20 * math.log10(MODES_DIFFER):
            return None
        message = f"training and inference mode compute different outputs: {far}"
    elif not differing:
        return None
    else:
        message = f"training and inference mode give {differing} of {difference.images} images different classes; {far}"
        evidence |= {"images_differing": differing}
    if top1 is not None:
        evidence |= {"inference_correct": top1[0], "training_correct": top1[1], "labelled": labelled}
        message += f"; right in inference mode {top1[0]} of {labelled}, in training mode {top1[1]} of {labelled}"
    return Finding("BN005", Severity.ERROR, message, evidence, tuple(remedy))


def frozen(layers: int, frozen_layers: int) -> Finding | None:
    """BN007: frozen layers run on their moving statistics in training mode too, so the training pass says nothing about them."""
    if not frozen_layers:
        return None
    message = f"{frozen_layers} of {layers} BatchNormalization layers are frozen: the training pass says nothing about their statistics"
    return Finding(
        "BN007",
        Severity.INFO,
        message,
        {"layers": layers, "frozen": frozen_layers},
        ("set trainable = True and save again to see what their batch statistics would do",),
    )


def unreadable(files: Sequence[tuple[str, str]]) -> Finding | None:
    """IN004: images that could not be read."""
    if not files:
        return None
    shown = "; ".join(f"{name} ({reason})" for name, reason in files[:3]) + ("; …" if len(files) > 3 else "")
    message = f"{len(files)} images cannot be read and were left out: {shown}"
    return Finding(
        "IN004",
        Severity.WARNING,
        message,
        {"files": [list(entry) for entry in files]},
        ("replace or remove these files",),
    )


def parity_lost(comparison: Comparison) -> Finding:
    """EX001, or RT005 between two providers: a side that must equal its reference does not."""
    between_providers = comparison.reference.startswith("onnx")
    code = "RT005" if between_providers else "EX001"
    what = "two providers compute different outputs" if between_providers else "the exported graph differs from Keras"
    message = f"{what}: {comparison.tensor} of {comparison.actual} against {comparison.reference}: {comparison.reason}"
    difference = comparison.difference
    evidence = {
        "actual": comparison.actual,
        "reference": comparison.reference,
        "tensor": comparison.tensor,
        "max_abs": difference.max_abs,
        "max_rel": difference.max_rel,
        "tolerance": comparison.tolerance,
        "worst_image": difference.worst_image,
    }
    return Finding(
        code,
        Severity.ERROR,
        message,
        evidence,
        ("do not deploy this file", "if the difference is acceptable, say so with --rtol"),
    )


def provider_not_running(provider: str, reason: str) -> Finding:
    """RT001: a provider was asked for and does not run."""
    message = f"{provider.upper()} was asked for and does not run here: {reason}"
    return Finding(
        "RT001",
        Severity.ERROR,
        message,
        {"provider": provider, "reason": reason},
        ("install what is missing, or check with --provider cpu",),
    )


def assumed_preprocessing(described: str) -> Finding:
    """IN005: nothing says how the images are to be prepared, so that something had to be assumed; it is said aloud."""
    message = f"the model does not say how its images are prepared; assumed: {described}"
    return Finding(
        "IN005",
        Severity.WARNING,
        message,
        {"assumed": described},
        ("say it with --size, --channels, --resize and --scaling",),
    )
