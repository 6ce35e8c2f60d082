"""RT003 for files in 16 bits: what float16 or bfloat16 costs; EX009: values that float16 cannot hold."""

from __future__ import annotations

from collections.abc import Sequence

from bnexport.numerics.clamped import Clamped
from bnexport.results.actions import Action, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import Cost
from bnexport.results.runs import Precision
from bnexport.results.tasks import OutputKind
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.measured import (
    NO_LIMITS,
    AnswerLimits,
    Right,
    answering,
    describe_answers,
    describe_right,
    fewer_right,
    kind_of,
)
from bnexport.rules.quantization import KEPT
from bnexport.rules.rule import Rule
from bnexport.rules.runtime import RT003


def cost_of_half_precision(
    comparisons: Sequence[Comparison],
    precision: Precision,
    cost: Cost | None,
    *,
    right: Right | None,
    limits: AnswerLimits = NO_LIMITS,
    noun: Noun = IMAGES,
    computes: bool = True,
) -> Finding | None:
    """RT003: what a file in 16 bits computes, against its reference.

    Args:
        comparisons: the comparisons of the two sides, the deciding tensor first.
        precision: float16 or bfloat16.
        cost: what the precision explains; None where that is not known.
        right: how many labelled items the reference (`inference`) and the file (`training`) get right; None without labels.
        limits: how many answers it may cost.
        noun: what the model was run on.
        computes: whether it computes in 16 bits, too; otherwise its weights are stored so.

    Returns:
        The finding; None where the precision does not explain the difference.
    """
    comparable = [c for c in comparisons if c.difference.images]
    if not comparable or len(comparable) < len(comparisons) or any(c.difference.nonfinite for c in comparable):
        return None
    if not (all(comparisons) if cost is None else cost.explained):
        return None
    first = comparable[0]
    what = "computes in" if computes else "stores its weights in"
    message = (
        f"the file {what} {precision}: {first.tensor} of {first.actual} differ from {first.reference} by "
        f"{first.difference.max_rel:.2g} of their scale (signal-to-noise ratio {first.difference.snr_db:.3g} dB), "
        + (cost.described if cost is not None else "the error that the precision explains was not measured")
    )
    evidence: dict[str, object] = {
        "side": first.actual,
        "tensor": first.tensor,
        "max_rel": first.difference.max_rel,
        "noise_floors": first.noise_floors,
        "snr_db": first.difference.snr_db,
        "precision": str(precision),
        **(cost.evidence if cost is not None else {}),
    }
    severity = Severity.INFO
    answers = answering(comparable)
    if answers is not None and (share := answers.agreement) is not None:
        images = answers.difference.images
        message += f"; {describe_answers(answers, noun.many)}"
        if answers.top1_agreement is not None:
            evidence["images_differing"] = images - round(share * images)
        else:
            evidence |= {"task": str(kind_of(answers)), "agreement": share}
        if share < KEPT:
            severity = Severity.WARNING
    if right is not None:
        message += f"; {describe_right(right, first.reference)}"
        evidence |= {
            "reduced_correct": right.training,
            "reference_correct": right.inference,
            "labelled": right.labelled,
        }
        if fewer_right(right.only_training, right.only_inference, right.labelled):
            severity = Severity.ERROR
    agreement, kind = (None, OutputKind.CLASSES) if answers is None else (answers.agreement, kind_of(answers))
    if reasons := limits.violations(agreement, right, kind):
        severity = Severity.ERROR
        message += "; " + "; ".join(reasons)
    actions = (advise(f"judge it on labelled {noun.many}, or keep float32"),) if severity != Severity.INFO else ()
    return RT003.finding(severity, message, evidence, actions)


def keep_weights(clamped: Sequence[Clamped]) -> tuple[Action, ...]:
    """What to do about weights that a conversion to float16 cut or raised to a limit."""
    actions = []
    if any(not weight.raised and weight.limit < LARGEST and weight.furthest <= LARGEST for weight in clamped):
        actions.append(
            advise(
                f"convert again with max_finite_val={LARGEST:g}: float16 ends there, and onnxconverter_common cuts at 10000 "
                "unless that is set"
            )
        )
    if any(weight.raised or weight.furthest > LARGEST for weight in clamped):
        actions.append(
            advise(
                "keep the nodes that read these weights in float32 (node_block_list), or deploy in bfloat16 or float32: "
                "float16 does not hold them"
            )
        )
    return tuple(actions)


LARGEST = 65504.0
"""The largest number of float16."""

SHOWN = 8
"""So many tensors are listed."""

EX009 = Rule(
    "EX009",
    "values exceed float16",
    meaning="The file computes in float16, and some layers reach values above 65504, the largest number of float16.",
    measured=(
        "The graph of a file in float16 is run in float32, and the largest value of each tensor is compared with 65504. It is an "
        "error where the file is further from its reference than float16 explains, and the same file in float32 is not: no other "
        "cause is looked for then. It is a warning otherwise: on the CPU "
        "onnxruntime computes most of float16 in float32, so that only other targets overflow."
    ),
    neighbours="RT006: the outputs are not finite. RT003: float16 explains the difference.",
    remedy="Convert again and keep these layers in float32 (node_block_list), or use bfloat16 or float32.",
)


def overflows(
    tensors: Sequence[tuple[str, tuple[str, ...], float]], largest: float, *, shows: bool, apart: bool = False
) -> Finding | None:
    """EX009: tensors that float16 cannot hold, in the order of the graph; None where there is none.

    Args:
        tensors: the name, the nodes that make it, and the largest magnitude in float32.
        largest: the largest number of float16.
        shows: whether the outputs are further off than float16 explains, and the file in float32 is not; a warning otherwise.
        apart: whether the file in float32 is further off than float16 explains already.
    """
    if not tensors:
        return None
    name, nodes, size = tensors[0]
    where = f" (node {nodes[0]})" if nodes else ""
    block = list(dict.fromkeys(node for _, makers, _ in tensors for node in makers))
    hidden = "; this run does not show it, because onnxruntime computes float16 in float32 where it lacks kernels"
    if apart:
        hidden = "; the file differs from its reference in float32 already, which this does not explain"
    return EX009.finding(
        Severity.ERROR if shows else Severity.WARNING,
        f"values exceed the largest number of float16, {largest:g}, in {len(tensors)} tensors: the first is {name}{where}, "
        f"which reaches {size:.3g} in float32{'' if shows else hidden}",
        {
            "first_tensor": name,
            "tensors": [{"tensor": t, "nodes": list(n), "largest": s} for t, n, s in tensors],
            "node_block_list": block,
        },
        (
            advise(f"convert again with node_block_list={block!r} (onnxconverter_common.float16)"),
            advise("or deploy in bfloat16 or float32"),
        ),
        tuple(t for t, _, _ in tensors[:SHOWN]),
    )
