"""The findings about graphs that are unusual: outputs that depend on the batch, rows whose number depends on the data, files that had to be put in order."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Action, Comparison, Finding, Severity
from bnexport.rules.actions import EXPORT


def batch_dependent(comparison: Comparison, *, by_batch: bool, noun: Noun = IMAGES) -> Finding:
    """BN006: an image gets another output in a batch than alone.

    Args:
        comparison: the first images of a batch against the same images one by one.
        by_batch: whether the graph holds something that may normalise by the batch.
        noun: what the model was run on.
    """
    difference = comparison.difference
    message = (
        f"what {comparison.actual} computes for {noun.a} depends on the rest of its batch: the {comparison.tensor} of {difference.images} {noun.many} in one batch and "
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
        action = Action(
            "a layer that normalises by the batch was exported or called with training=True: export in inference mode",
            EXPORT,
        )
    else:
        action = Action(
            f"nothing in the graph normalises by the batch: look for an operator that mixes {noun.many} (a sort, a selection, a "
            "reshape or a product over the first axis)"
        )
    return Finding("BN006", Severity.ERROR, message, evidence, (action,))


def uneven_rows(uneven: Sequence[tuple[str, str, str, int]]) -> Finding | None:
    """RT008: two sides select another number of rows; None where they do not.

    Args:
        uneven: both sides, the output, and in how many batches.
    """
    if not uneven:
        return None
    shown = "; ".join(
        f"{tensor} of {actual} against {reference} in {count} batches" for actual, reference, tensor, count in uneven
    )
    message = (
        f"the number of rows depends on the data, and is another one on both sides: {shown}. Rounding moves scores across "
        "the threshold of the selection; what is selected from is compared where it can be"
    )
    evidence = {"outputs": [dict(zip(("actual", "reference", "tensor", "batches"), u, strict=True)) for u in uneven]}
    return Finding("RT008", Severity.WARNING, message, evidence, (Action("compare the detections on labelled images"),))


def file_notes(notes: Sequence[str]) -> Finding | None:
    """EX008: what is unusual in an ONNX file, or was changed in memory before it was run; None where nothing is."""
    if not notes:
        return None
    actions = (
        Action("other runtimes may refuse the file: write it anew with a tool that follows the ONNX specification"),
    )
    return Finding(
        "EX008", Severity.INFO, f"the ONNX file is unusual: {'; '.join(notes)}", {"notes": list(notes)}, actions
    )


def training_graph_differs(failed: Sequence[Comparison]) -> Finding:
    """EX007: the training-mode graph differs from Keras' training pass, and the inference graph, which is deployed, does not.

    Args:
        failed: the comparisons of the training-mode graph that failed.
    """
    first = failed[0]
    message = (
        f"the training-mode graph differs from Keras' training pass: {first.tensor} of {first.actual} against "
        f"{first.reference}: {first.reason}. The inference graph, which is what gets deployed, agrees with Keras; what is "
        "said about training mode is less certain"
    )
    evidence = {
        "actual": first.actual,
        "reference": first.reference,
        "tensor": first.tensor,
        "max_rel": first.difference.max_rel,
        "noise_floors": first.noise_floors,
        "tolerance": first.tolerance,
    }
    actions = (
        Action("the file may be deployed: no training-mode graph is in it"),
        Action("where BN005 is raised too, trust Keras' training pass"),
    )
    return Finding("EX007", Severity.WARNING, message, evidence, actions)
