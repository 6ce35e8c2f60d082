"""RT001 to RT007: what a runtime, a provider or a machine does to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bnexport.results.actions import NamedOptions, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.rounding import EXPLAINED, LARGEST
from bnexport.results.runs import Precision, RunSpec, runtime_title
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.actions import EXPORT, option
from bnexport.rules.measured import describe, evidence_of
from bnexport.rules.rule import Rule

RT001 = Rule(
    "RT001",
    "a provider does not run",
    meaning="CUDA was requested with --target cuda and does not run on this machine. It was not checked.",
    measured=(
        "The required libraries are loaded and a real batch is run. onnxruntime lists CUDA as available and "
        "creates sessions with it even where it cannot run."
    ),
    neighbours="With --require-target cuda the command exits with code 3 instead.",
    remedy="Install what is missing, or check with --target cpu.",
)


def provider_not_running(provider: str, reason: str) -> Finding:
    """RT001: a provider was asked for and does not run."""
    message = f"{provider.upper()} was requested and does not run on this machine: {reason}"
    return RT001.finding(
        Severity.ERROR,
        message,
        {"provider": provider, "reason": reason},
        (advise(("install what is missing, or check with ", NamedOptions({"providers": ("cpu",)}))),),
    )


RT002 = Rule(
    "RT002",
    "compute nodes on the CPU",
    meaning=(
        "CUDA, or another execution provider of onnxruntime, runs, but it has no kernel for some nodes of the graph. "
        "These nodes run on the CPU. The result is right, but each such node requires two copies."
    ),
    measured=(
        "onnxruntime reports where it placed each node (session.record_ep_graph_assignment_info, from 1.23 "
        "on). Operators on shapes, which it places on the CPU on purpose, are not counted."
    ),
    neighbours="RT001: nothing runs on CUDA.",
    remedy=(
        "Export with operators that the provider supports, or use a newer onnxruntime. --no-cpu-fallback makes "
        "this an error."
    ),
)


def placed_on_cpu(side: str, nodes: Sequence[tuple[str, str]], *, strict: bool) -> Finding | None:
    """RT002: compute nodes of a side on another device that run on the CPU, as (operator, name); None where there is none."""
    if not nodes:
        return None
    counts = Counter(operator for operator, _ in nodes)
    shown = ", ".join(f"{count} {operator}" for operator, count in counts.most_common(5))
    message = f"{len(nodes)} compute nodes of {side} run on the CPU: {shown}; each requires a copy to the CPU and back"
    return RT002.finding(
        Severity.ERROR if strict else Severity.WARNING,
        message,
        {"side": side, "operators": dict(counts), "nodes": [name for _, name in nodes]},
        (
            advise("export with operators that the provider supports, or use a newer onnxruntime", EXPORT),
            advise((option("strict_placement"), " makes this an error")),
        ),
    )


RT003 = Rule(
    "RT003",
    "reduced precision in use",
    meaning=(
        "A file in float16 or bfloat16 deviates from its reference by as much as its precision explains. Or: a runtime "
        "computes in less than float32 unless it is asked for float32, and as deployed the file deviates by more than "
        "float32 rounding. onnxruntime computes convolutions and matrix products on Ampere and later GPUs in TF32, with 10 bits "
        "of mantissa, OpenVINO computes in bfloat16 on processors that have it."
    ),
    measured=(
        "For 16 bits the expected error is measured: the graph is run in float32 with relative noise of half a step (2^-11 "
        "for float16, 2^-8 for bfloat16) on weights and on what each node computes. The file passes within {EXPLAINED:g} "
        "times that error as rms and {LARGEST:g} times the largest one. It is a warning where fewer than 99 % of the "
        "predictions stay the same, and an error where labels show fewer correct predictions, or beyond --min-agreement or "
        "--max-accuracy-drop. A runtime with such a default is run both ways, and the deviation of the default is counted in noise floors. "
        "It is a warning, or an error where images get another class."
    ),
    neighbours="EX001: the precision does not explain the difference, or the run in float32 deviates too.",
    remedy="Accept the difference, or deploy in float32 (for TF32 with use_tf32=0).",
    thresholds={"EXPLAINED": EXPLAINED, "LARGEST": LARGEST},
)


def reduced_precision(comparison: Comparison, spec: RunSpec, noun: Noun = IMAGES) -> Finding:
    """RT003: as deployed, a run is further from the reference than rounding to float32 explains; an error where images get another class.

    Args:
        comparison: of the tensor that is too far.
        spec: what was run.
        noun: what the model was run on.
    """
    tf32, title = spec.runtime == "onnxruntime", runtime_title(spec.runtime, spec.device)
    if tf32:
        how = "computes with reduced precision (TF32 is the default of onnxruntime on CUDA)"
    elif spec.precision == Precision.FLOAT32:
        how = f"loses digits by the defaults of {title}, which does not say what it computes in"
    else:
        how = f"computes with reduced precision ({spec.precision} is the default of {spec.runtime} here)"
    floors = comparison.noise_floors
    far = f"{floors:,.0f} noise floors" if floors is not None else f"{comparison.difference.max_rel:.2g} of their scale"
    message = f"{comparison.actual} {how}: the {comparison.tensor} differ from {comparison.reference} by {far}"
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
    precise = "the CUDA provider option use_tf32=0" if tf32 else spec.setting or "its option for float32"
    actions = (
        advise(f"deploy with {precise}, which is slower"),
        advise("or accept it: the run in float32 shows that the export is right"),
    )
    return RT003.finding(Severity.ERROR if differing else Severity.WARNING, message, evidence, actions)


RT004 = Rule(
    "RT004",
    "an optimisation of the runtime changes the result",
    meaning=(
        "With the graph optimisations of onnxruntime off, the file computes the right outputs. With the "
        "default optimisations, which are used in deployment, it does not."
    ),
    measured=(
        "A failing batch is run with optimisations off. The optimizer and the node are then found by "
        "bisection: optimizers are switched off, and tensors are kept from being fused. For an ONNX file "
        "alone, the graph without optimisations (onnx-unoptimised@cpu) is the reference."
    ),
    neighbours="EX001: the file itself is wrong.",
    remedy=(
        "Use bnexport export, which avoids the known faulty optimisations, set disabled_optimizers, or use a "
        "version of onnxruntime in which the bug is fixed."
    ),
)


def optimised_away(
    failed: Sequence[Comparison], optimizers: Sequence[str], nodes: Sequence[str], tensor: str
) -> Finding:
    """RT004: right with onnxruntime's optimisations off, wrong with them.

    Args:
        failed: the comparisons that failed.
        optimizers: switched off together, the result is right.
        nodes: the nodes around the tensor that must not be optimised away.
        tensor: that tensor; "" where it is not known.
    """
    who = f"the onnxruntime optimisation {' and '.join(optimizers)}" if optimizers else "an optimisation of onnxruntime"
    message = f"{who} changes the result"
    if nodes:
        message += f", at {' -> '.join(nodes)}"
    message += f": right with optimisations off, {describe(failed)}"
    evidence = evidence_of(failed) | {"optimizers": list(optimizers), "nodes": list(nodes), "tensor_lost": tensor}
    actions = [advise("export with bnexport, which avoids the known faulty optimisations", EXPORT)]
    if optimizers:
        actions.append(advise(f"or create the session with disabled_optimizers={list(optimizers)!r}"))
    actions.append(advise("or use a version of onnxruntime in which the bug is fixed"))
    return RT004.finding(Severity.ERROR, message, evidence, tuple(actions))


RT005 = Rule(
    "RT005",
    "two providers differ",
    meaning="The outputs of onnxruntime on CUDA and on the CPU differ by more than float rounding.",
    measured="As for EX001, without Keras. TF32 is switched off.",
    neighbours="EX001: the outputs differ from Keras.",
    remedy="Find the cause before deploying on this provider.",
)

SHOWN_INPUTS = 3
"""So many items are named whose inputs are not finite."""

RT006 = Rule(
    "RT006",
    "outputs that are not finite",
    meaning="A run computes NaN or infinity for some images.",
    measured="Every output of every run is checked, and the inputs of the images for which one is not finite.",
    neighbours="BN003: the moving statistics are not finite. EX001: only one of two runs is affected.",
    remedy=(
        "Look for values that are not finite in the inputs and the weights, and in half precision for values "
        "above 65504."
    ),
)


def not_finite(
    sides: Mapping[str, int], images: int, noun: Noun = IMAGES, inputs: tuple[Sequence[str], int] = ((), 0)
) -> Finding | None:
    """RT006: sides that compute NaN or infinity, with the number of images each does so for; None where there is none.

    Args:
        sides: how many images, by run.
        images: how many there are.
        noun: what they are.
        inputs: those of these images whose inputs are not finite themselves, and how many have finite inputs.
    """
    if not sides:
        return None
    message = f"outputs contain NaN or infinity: {', '.join(f'{side} for {count} of {images} {noun.many}' for side, count in sides.items())}"
    evidence: dict[str, object] = {"sides": dict(sides), "images": images}
    given, others = inputs
    actions = (
        advise("look for values that are not finite in the inputs and the weights"),
        advise("in half precision, look for values above 65504"),
    )
    if given:
        evidence |= {"inputs_not_finite": len(given), "inputs_finite": others}
        named = ", ".join(given[:SHOWN_INPUTS]) + (", ..." if len(given) > SHOWN_INPUTS else "")
        message += f"; the inputs of {len(given)} of these {noun.many} contain NaN or infinity themselves ({named})"
        message += (
            f", and those of {others} do not: the others of their batch may be the cause, or the weights"
            if others
            else ""
        )
        actions = (
            advise("correct the inputs that are not finite, or refuse such inputs before the model is called"),
            *(actions if others else ()),
        )
    return RT006.finding(Severity.ERROR, message, evidence, actions)


RT007 = Rule(
    "RT007",
    "this machine computes different outputs",
    meaning=(
        "The file in a bundle agreed with Keras where it was packed, and it is unchanged. On this machine it "
        "computes other outputs from the same inputs. Another onnxruntime, provider or processor may be the "
        "cause."
    ),
    measured=(
        "bnexport verify runs the packed inputs and compares the outputs with the packed outputs, within the "
        "packed noise floors."
    ),
    neighbours="RT004: an optimisation of onnxruntime is the cause. IN006: the inputs differ.",
    remedy=(
        "Use the version of onnxruntime that bundle.json lists under environment. bnexport doctor shows what "
        "is installed on this machine."
    ),
)
