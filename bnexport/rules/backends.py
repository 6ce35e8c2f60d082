"""RT010 and RT011: what another backend of Keras makes of the same file."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.results.actions import advise
from bnexport.results.runs import RunSpec
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.actions import option
from bnexport.rules.measured import describe, evidence_of
from bnexport.rules.rule import Rule

RT010 = Rule(
    "RT010",
    "a backend of Keras computes other outputs",
    meaning="The same Keras file gives other outputs on another backend of Keras than on the one of the reference.",
    measured=(
        "The file is run by both backends on the same batches, in inference and in training mode. The difference is compared "
        "with the noise floors of both backends: the larger one counts."
    ),
    neighbours="RT011: the difference is large, and the rounding of that backend explains it.",
    remedy="Train and run the model on one backend, or look for the layer whose implementation differs.",
)


def backend_differs(failed: Sequence[Comparison], reference: RunSpec) -> Finding:
    """RT010: a backend differs from the reference by more than rounding.

    Args:
        failed: the comparisons that failed.
        reference: what they were made with.
    """
    return RT010.finding(
        Severity.ERROR,
        f"Keras computes other outputs than on {reference.device}: {describe(failed)}; rounding does not explain it",
        evidence_of(failed) | {"reference_backend": reference.device},
        (
            advise("run the model on the backend that it was trained on"),
            advise(("if the difference is acceptable, set the tolerance with ", option("rtol"))),
        ),
    )


RT011 = Rule(
    "RT011",
    "a backend of Keras rounds more",
    meaning=(
        "A backend of Keras is further from the reference than the noise floors of the reference explain, and its own "
        "rounding on these inputs explains the difference."
    ),
    measured=(
        "The floors of that backend are measured as those of the reference are: its float32 pass is compared with its float64 "
        "pass on the batch with the largest difference."
    ),
    neighbours="RT010: not even the rounding of that backend explains the difference.",
    remedy=(
        "Nothing has to be repaired. In training mode Keras on PyTorch computes the variance of a batch as E[x^2] - E[x]^2, "
        "which loses digits where the mean of a channel is large beside its spread: normalise the inputs."
    ),
)

CANCELLING = frozenset({"torch"})
"""The backends on which Keras computes the variance of a batch as E[x^2] - E[x]^2."""


def backend_rounds(failed: Sequence[Comparison], run: RunSpec, own: float) -> Finding:
    """RT011: a backend's own rounding explains a difference that the floors of the reference do not.

    Args:
        failed: the comparisons that fail by the floors of the reference.
        run: the run on the backend.
        own: the largest of the backend's own floors, relative to the scale.
    """
    cause = f"rounding on {run.device} explains it: its own float32 and float64 passes are {own:.2g} of the scale apart"
    if run.mode == "training" and run.device in CANCELLING:
        cause += (
            ". Two causes add up in training mode: statistics of a batch amplify rounding, and Keras on PyTorch computes their "
            "variance as E[x^2] - E[x]^2, which loses digits where means are large"
        )
    return RT011.finding(
        Severity.INFO,
        f"{describe(failed)}, more than the noise floors of the reference allow; {cause}",
        evidence_of(failed) | {"own_floor": own},
        (advise("nothing has to be repaired; if inputs have a large mean, normalise them"),),
    )
