"""EX004: a file is called in another way than its model, or its outputs are called otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.results.actions import advise
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.measured import evidence_of
from bnexport.rules.rule import Rule

EX004 = Rule(
    "EX004",
    "the interface of the file differs from the model",
    meaning=(
        "The file has other names, another layout (channels first), another dtype, a fixed batch size, or "
        "expects other preprocessing. Differences that the interface shows are handled and listed as an "
        "information. It is an error where the file matches the model only with another layout, scaling or "
        "channel order, with the images turned or mirrored, or where it returns logits instead of "
        "probabilities, or the classes in another order."
    ),
    measured=(
        "From the interface and metadata of the file. Where the outputs differ, the same images are also run "
        "transposed, with each known scaling, with the channels reversed, with height and width exchanged, and mirrored. "
        "Columns of an output are compared with those of the model in any order."
    ),
    neighbours="EX001: the file does not match with any of these changes.",
    remedy="Change the calling code where the file is deployed, or export the model again.",
)


def taken_otherwise(failed: Sequence[Comparison], how: str) -> Finding:
    """EX004, as an error: the file is right if it is called in another way than the model.

    Args:
        failed: the comparisons that failed.
        how: which other way.
    """
    message = f"the file matches the model only with another interface: {how}"
    return EX004.finding(
        Severity.ERROR,
        message,
        evidence_of(failed) | {"otherwise": how},
        (advise("change the calling code where it is deployed, or export it again with the interface of the model"),),
    )


def interface_differs(differences: Sequence[str]) -> Finding | None:
    """EX004, as an information: the file is called in another way, which was allowed for."""
    if not differences:
        return None
    return EX004.finding(
        Severity.INFO,
        f"the interface of the file differs from the model: {'; '.join(differences)}",
        {"differences": list(differences)},
        (advise("make sure that the calling code handles this"),),
    )


def recorded_otherwise(failed: Sequence[Comparison], how: str) -> Finding:
    """EX004, as an error: recorded outputs are those of the same images prepared in another way.

    Args:
        failed: the comparisons that failed.
        how: which other way.
    """
    return EX004.finding(
        Severity.ERROR,
        f"the program that recorded the outputs prepared the images in another way: {how}",
        evidence_of(failed) | {"otherwise": how},
        (advise("prepare the images in the recording program as this file expects them, or the other way round"),),
    )


def recorded_in_another_form(failed: Sequence[Comparison], how: str, what_to_do: str) -> Finding:
    """EX004, as an error: recorded outputs are those of the file in another form.

    Args:
        failed: the comparisons that failed.
        how: in which form.
        what_to_do: what the recording program has to do.
    """
    return EX004.finding(
        Severity.ERROR,
        f"the recorded outputs are those of the file in another form: {how}",
        evidence_of(failed) | {"otherwise": how},
        (advise(what_to_do),),
    )


def outputs_matched(matches: Sequence[str]) -> Finding | None:
    """EX004, as an information: recorded outputs with other names or dtypes than the model's."""
    if not matches:
        return None
    return EX004.finding(
        Severity.INFO,
        f"the recorded outputs differ in form from those of the model: {'; '.join(matches)}",
        {"differences": list(matches)},
        (advise("make sure that they are the same outputs"),),
    )
