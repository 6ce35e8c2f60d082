"""EX002, EX006 to EX008: models that cannot be exported, and files that are unusual, or were repaired before they were checked."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.results.actions import advise
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.actions import EXPORT
from bnexport.rules.rule import Rule

EX002 = Rule(
    "EX002",
    "an operator that cannot be exported",
    meaning="A layer uses an operation that ONNX or tf2onnx does not know. Nothing is written.",
    measured="By what the converter leaves in the graph.",
    remedy="Replace the layer by one that ONNX can express.",
)

EX006 = Rule(
    "EX006",
    "an old file that was repaired",
    meaning=(
        "Keras 3 refuses, or reads wrongly, what Keras 1 and 2 wrote: an argument it no longer knows, a "
        "Sequential model without an input. The configuration was rewritten in memory; the file is as it was."
    ),
    measured=(
        "By known changes of the format, each of which leaves what the model computes as it is. The repaired "
        "model is run once before anything else."
    ),
    remedy="Nothing has to be done. Whoever loads the file elsewhere meets the same difficulty: save it anew.",
)


def repair_note(repairs: Sequence[str]) -> Finding | None:
    """EX006: Keras 3 does not read the file as it is, and what was checked is what was made of it."""
    if not repairs:
        return None
    message = (
        f"this Keras does not read the file as it was written; checked is what was made of it: {'; '.join(repairs)}"
    )
    actions = (
        advise("write an ONNX file, which is read everywhere", EXPORT),
        advise("save the model again with the Keras version that wrote it"),
    )
    return EX006.finding(Severity.INFO, message, {"repairs": list(repairs)}, actions)


EX007 = Rule(
    "EX007",
    "the training-mode graph differs",
    meaning=(
        "The graph that normalises by the batch computes something else than Keras' training pass, while the "
        "inference graph agrees with Keras. It is never deployed: only what is said about training mode is less "
        "certain."
    ),
    measured="As EX001, in training mode. Batch statistics of many values amplify float32 rounding, for instance.",
    neighbours="EX001: the inference graph differs too.",
    remedy="Nothing has to be done before deploying the file.",
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
        advise("the file may be deployed: no training-mode graph is in it"),
        advise("where BN005 is raised too, trust Keras' training pass"),
    )
    return EX007.finding(Severity.WARNING, message, evidence, actions)


EX008 = Rule(
    "EX008",
    "an unusual ONNX file",
    meaning=(
        "The file could be checked, after it was put in order in memory, or with one part of the check left out: "
        "nodes that are not sorted, BatchNormalization nodes whose parameters the graph computes."
    ),
    measured=(
        "By reading the graph. Parameters that follow from constants are computed first; only those that depend "
        "on an input are left."
    ),
    remedy="Nothing, where the file runs where it is deployed. Other runtimes may refuse it: write it anew.",
)


def file_notes(notes: Sequence[str]) -> Finding | None:
    """EX008: what is unusual in an ONNX file, or was changed in memory before it was run; None where nothing is."""
    if not notes:
        return None
    actions = (
        advise("other runtimes may refuse the file: write it anew with a tool that follows the ONNX specification"),
    )
    return EX008.finding(
        Severity.INFO, f"the ONNX file is unusual: {'; '.join(notes)}", {"notes": list(notes)}, actions
    )
