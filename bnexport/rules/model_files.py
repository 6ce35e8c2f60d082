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
    meaning="A layer uses an operation, or sizes, that ONNX or tf2onnx does not support. No file is written.",
    measured="From the operators that are left in the graph after the conversion, and from the checks of ONNX on the graph.",
    remedy="Replace the layer with one that ONNX supports, or correct its sizes.",
)

EX006 = Rule(
    "EX006",
    "a file was converted",
    meaning=(
        "Keras 3 rejects or misreads files of Keras 1 and 2, for example because of a removed argument or a "
        "Sequential model without an input. It also misreads some HDF5 files of its own: it takes the default axis of a layer for a "
        "list of axes, and a mean of 0 and a variance of 1 for the statistics of a Normalization layer inside of another layer. "
        "The configuration was converted in memory. The file is unchanged."
    ),
    measured=(
        "By known changes of the format. None of them changes what the model computes. The converted model is "
        "run once before the check."
    ),
    remedy="Nothing is required for the check. Save the model again, so that it loads elsewhere.",
)


def repair_note(repairs: Sequence[str]) -> Finding | None:
    """EX006: Keras 3 does not read the file as it is, and what was checked is what was made of it."""
    if not repairs:
        return None
    message = (
        "Keras 3 cannot load this file as written, or loads another model; it was converted in memory before the check: "
        + "; ".join(repairs)
    )
    actions = (
        advise("export an ONNX file, which every runtime loads", EXPORT),
        advise("save the model again with the Keras version that wrote it"),
    )
    return EX006.finding(Severity.INFO, message, {"repairs": list(repairs)}, actions)


EX007 = Rule(
    "EX007",
    "the training-mode graph differs",
    meaning=(
        "The training-mode graph computes other outputs than the training pass of Keras, while the inference "
        "graph agrees with Keras. The training-mode graph is never deployed. Findings about training mode are "
        "less certain."
    ),
    measured=(
        "As for EX001, in training mode. A possible cause: batch statistics of many values amplify float32 rounding."
    ),
    neighbours="EX001: the inference graph differs too.",
    remedy="Nothing is required before deploying the file.",
)


def training_graph_differs(failed: Sequence[Comparison]) -> Finding:
    """EX007: the training-mode graph differs from Keras' training pass, and the inference graph, which is deployed, does not.

    Args:
        failed: the comparisons of the training-mode graph that failed.
    """
    first = failed[0]
    message = (
        f"the training-mode graph differs from Keras' training pass: {first.tensor} of {first.actual} against "
        f"{first.reference}: {first.reason}. The inference graph, which is deployed, agrees with Keras; "
        "findings about training mode are less certain"
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
        advise("the file can be deployed: it does not contain the training-mode graph"),
        advise("if BN005 is raised too, rely on the training pass of Keras"),
    )
    return EX007.finding(Severity.WARNING, message, evidence, actions)


EX008 = Rule(
    "EX008",
    "an unusual ONNX file",
    meaning=(
        "The file was checked after it was corrected in memory, or without one part of the check. Examples "
        "are nodes that are not sorted, and BatchNormalization nodes whose parameters are computed by the "
        "graph."
    ),
    measured=(
        "From the graph. Parameters that follow from constants are computed first, so only those that depend "
        "on an input are reported."
    ),
    remedy=(
        "Nothing is required if the file runs where it is deployed. Other runtimes may reject it: write it "
        "again with another tool."
    ),
)


def file_notes(notes: Sequence[str]) -> Finding | None:
    """EX008: what is unusual in an ONNX file, or was changed in memory before it was run; None where nothing is."""
    if not notes:
        return None
    actions = (
        advise("other runtimes may reject the file: write it again with a tool that follows the ONNX specification"),
    )
    return EX008.finding(
        Severity.INFO, f"the ONNX file is unusual: {'; '.join(notes)}", {"notes": list(notes)}, actions
    )
