"""What to do about statistics, from what recalibrating was seen to give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from bnexport.recalibration.trial import Trial
from bnexport.results.actions import Action, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, Side
from bnexport.rules import inputs
from bnexport.rules.actions import RECALIBRATE
from bnexport.rules.diagnose import STATISTICS_WRONG, Evidence


def in_inference_mode(answered: Collection[Side], *, foreign: bool) -> Side | None:
    """What the model answers in inference mode, to hold the recalibrated graph against.

    bnexport's own export on the CPU, where it runs; else, and where somebody else's file is deployed, the first side of inference mode: Keras,
    or the graph without optimisations.
    """
    plain = [s for s in answered if s.mode == "inference" and s.id != "onnx-recalibrated@cpu"]
    own = [s for s in plain if s.id == "onnx-inference@cpu" and not foreign]
    return next(iter([*own, *plain]), None)


def harm(before: Side, after: Side | None, evidence: Evidence, causes: Sequence[Finding]) -> str:
    """Why the statistics of these images must not be written into the model; "" where nothing speaks against it.

    Args:
        before: the answers with the old statistics.
        after: the answers with those of the images; None where nobody asked for them.
        evidence: where they come from.
        causes: what `bnexport.rules.diagnose` found in it.
    """
    by_code = {finding.code: finding for finding in causes}
    if reason := inputs.unfit(evidence.variety, evidence.noun):
        return f"{reason}, so no statistics can be measured"
    if wrong := by_code.get("IN001"):
        return f"{wrong.message}; recalibration would hide this mistake, not correct it"
    if before.correct is not None and after is not None and after.correct is not None:
        if after.correct < before.correct:
            return f"accuracy falls from {before.correct} to {after.correct} of {after.of}: the old statistics fit these {evidence.noun.many} better"
        return ""
    if not STATISTICS_WRONG & by_code.keys():
        return (
            "nothing shows that the old statistics are wrong, and without labels nothing shows that new ones are better"
        )
    return ""


def advice(
    before: Side | None,
    after: Side | None,
    trial: Trial | None,
    causes: Sequence[Finding],
    noun: Noun = IMAGES,
) -> tuple[Action, ...]:
    """What to do where the modes answer differently, from what recalibrating was seen to give.

    Args:
        before: the answers in inference mode.
        after: the answers of the recalibrated graph; None where it could not be made, or nobody asked for them.
        trial: the recalibration; None where it could not be made.
        causes: what was found about the statistics and the images.
        noun: what the model was run on.
    """
    train = advise("train for more updates, or with a lower BatchNormalization momentum")
    prepare = advise(f"make sure that the {noun.many} are prepared as in training")
    if trial is None or before is None:
        return (train, prepare)
    if any(finding.code == "IN001" for finding in causes):
        reason = f"first prepare the {noun.many} as in training (IN001): until then the results of both modes are meaningless"
        return (advise(reason),)
    if any(finding.code == "IN009" for finding in causes):
        reason = "first make sure that labels and outputs count the classes in the same order (IN009): until then nothing shows which answers are correct"
        return (advise(reason), prepare)
    if reason := harm(before, after, trial.evidence, causes):
        return (advise(f"do not recalibrate: {reason}"), prepare)
    if after is None:
        return (train, prepare)
    if before.correct is None:
        reason = f"gives the model the statistics of these {noun.many}; verify the result on labelled {noun.many}"
        return (advise(reason, RECALIBRATE), prepare, train)
    if after.correct == before.correct:
        reason = f"recalibration would not change the number of correct results ({before.correct} of {before.of})"
        return (advise(reason), prepare)
    return (advise(f"{after.correct} of {after.of} correct instead of {before.correct}", RECALIBRATE), train, prepare)


def with_remedy(finding: Finding, remedy: tuple[Action, ...]) -> Finding:
    """Where recalibrating may be the repair, the fix is what it was seen to give on these images."""
    match finding.code:
        case "BN001":
            return replace(finding, actions=remedy)
        case "IN002":
            return replace(finding, actions=(finding.actions[0], remedy[0]))
    return finding
