"""RT001 to RT009: what a runtime, a provider or a machine does to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bnexport.results.actions import NamedOptions, advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.actions import EXPORT, option
from bnexport.rules.measured import describe, evidence_of
from bnexport.rules.rule import Rule

RT001 = Rule(
    "RT001",
    "a provider that does not run",
    meaning="CUDA was asked for with --target cuda, and does not run here. What was asked for was not checked.",
    measured=(
        "By loading the libraries it needs and by running a real batch: onnxruntime lists CUDA as available, and "
        "makes sessions with it, where it cannot run."
    ),
    neighbours="--require-target cuda makes it exit with 3 instead.",
    remedy="Install what is missing, or check with --target cpu.",
)


def provider_not_running(provider: str, reason: str) -> Finding:
    """RT001: a provider was asked for and does not run."""
    message = f"{provider.upper()} was asked for and does not run here: {reason}"
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
        "CUDA runs, but it has no kernel for some of the graph's nodes, and they run on the CPU. The answer is "
        "right; each such node costs two copies."
    ),
    measured=(
        "onnxruntime is asked where it placed each node (session.record_ep_graph_assignment_info, from 1.23 on). "
        "Operators on shapes, which it leaves to the CPU on purpose, are not counted."
    ),
    neighbours="RT001: nothing runs on CUDA.",
    remedy=(
        "Export with operators that CUDA has kernels for, or use a newer onnxruntime-gpu. --no-cpu-fallback "
        "makes it an error."
    ),
)


def placed_on_cpu(side: str, nodes: Sequence[tuple[str, str]], *, strict: bool) -> Finding | None:
    """RT002: compute nodes of a side on CUDA that run on the CPU, as (operator, name); None where there is none."""
    if not nodes:
        return None
    counts = Counter(operator for operator, _ in nodes)
    shown = ", ".join(f"{count} {operator}" for operator, count in counts.most_common(5))
    message = f"{len(nodes)} compute nodes of {side} run on the CPU: {shown}; each costs a copy to the CPU and back"
    return RT002.finding(
        Severity.ERROR if strict else Severity.WARNING,
        message,
        {"side": side, "operators": dict(counts), "nodes": [name for _, name in nodes]},
        (
            advise("export with operators that CUDA has kernels for, or use a newer onnxruntime-gpu", EXPORT),
            advise((option("strict_placement"), " makes this an error")),
        ),
    )


RT003 = Rule(
    "RT003",
    "reduced precision in use",
    meaning=(
        "Under onnxruntime's defaults CUDA computes convolutions and matrix products in TF32 (10 bits of "
        "mantissa) on Ampere GPUs and later. Strictly, with use_tf32=0, the file is right; as deployed it is "
        "further from Keras than rounding to float32 explains. A warning; an error where images get another "
        "class."
    ),
    measured="By running both, and counting the error of the second in noise floors.",
    neighbours="EX001: the strict side is off too.",
    remedy="Deploy with use_tf32=0, or accept it.",
)


def reduced_precision(comparison: Comparison, noun: Noun = IMAGES) -> Finding | None:
    """RT003: as deployed, a side on CUDA is further from the reference than rounding to float32 explains; an error where images get another class."""
    floors = comparison.noise_floors
    far = f"{floors:,.0f} noise floors" if floors is not None else f"{comparison.difference.max_rel:.2g} of their size"
    message = (
        f"{comparison.actual} computes with reduced precision (TF32 is onnxruntime's default on CUDA): the "
        f"{comparison.tensor} are {far} from {comparison.reference}'s"
    )
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
        advise("deploy with the CUDA provider option use_tf32=0, at some cost in speed"),
        advise("or accept it: the strict side shows that the export is right"),
    )
    return RT003.finding(Severity.ERROR if differing else Severity.WARNING, message, evidence, actions)


RT004 = Rule(
    "RT004",
    "the runtime's optimisation changes the result",
    meaning=(
        "With onnxruntime's graph optimisations off the file computes what it should; with the default ones, with"
        " which it is deployed, it does not."
    ),
    measured=(
        "By running a failing batch with optimisations off; then the optimizer is found by switching them off by "
        "halves, and the node by keeping tensors from being fused away by halves. For an ONNX file alone the "
        "graph without optimisations (onnx-unoptimised@cpu) takes Keras' place."
    ),
    neighbours="EX001: the file itself is wrong.",
    remedy=(
        "Use bnexport export, which writes what the known faulty optimisations leave alone; or "
        "disabled_optimizers; or a version of onnxruntime where it is mended."
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
    who = " and ".join(optimizers) if optimizers else "an optimisation"
    message = f"onnxruntime's own optimisation {who} changes the result"
    if nodes:
        message += f", at {' -> '.join(nodes)}"
    message += f": right with optimisations off, {describe(failed)}"
    evidence = evidence_of(failed) | {"optimizers": list(optimizers), "nodes": list(nodes), "tensor_lost": tensor}
    actions = [advise("export with bnexport, which writes what the known faulty optimisations leave alone", EXPORT)]
    if optimizers:
        actions.append(advise(f"or create the session with disabled_optimizers={list(optimizers)!r}"))
    actions.append(advise("or use a version of onnxruntime where it is mended"))
    return RT004.finding(Severity.ERROR, message, evidence, tuple(actions))


RT005 = Rule(
    "RT005",
    "two providers differ",
    meaning="onnxruntime computes something else on CUDA than on the CPU, by more than float rounding.",
    measured="As EX001, without Keras; TF32 is switched off.",
    neighbours="EX001: the difference is to Keras.",
    remedy="Do not deploy on that provider before it is understood.",
)

RT006 = Rule(
    "RT006",
    "outputs that are not finite",
    meaning="A side computes NaN or infinity for some images.",
    measured="By looking at every output of every side.",
    neighbours="BN003: the moving statistics are not finite. EX001: only one of two sides is concerned.",
    remedy=(
        "Look for values that are not finite in the inputs and the weights; in half precision, for values above 65504."
    ),
)


def not_finite(sides: Mapping[str, int], images: int, noun: Noun = IMAGES) -> Finding | None:
    """RT006: sides that compute NaN or infinity, with the number of images each does so for; None where there is none."""
    if not sides:
        return None
    message = f"outputs that are not finite: {', '.join(f'{side} for {count} of {images} {noun.many}' for side, count in sides.items())}"
    actions = (
        advise("look for values that are not finite in the inputs and the weights"),
        advise("in half precision, look for values above 65504"),
    )
    return RT006.finding(Severity.ERROR, message, {"sides": dict(sides), "images": images}, actions)


RT007 = Rule(
    "RT007",
    "this machine computes something else",
    meaning=(
        "The file in a bundle agreed with Keras where it was packed, and is the same to the last bit. This "
        "machine makes something else of the same inputs: another onnxruntime, another provider, another "
        "processor."
    ),
    measured=(
        "bnexport verify runs the packed inputs and holds the outputs against the packed ones, within the packed "
        "noise floors."
    ),
    neighbours="RT004: the runtime's optimisations are to blame. IN006: the inputs are other ones.",
    remedy=(
        "Run with the onnxruntime that bundle.json names under environment, and bnexport doctor for what is "
        "installed here."
    ),
)

RT008 = Rule(
    "RT008",
    "another number of rows",
    meaning=(
        "An output's number of rows depends on the data (NonMaxSuppression, NonZero, Unique, Compress), and two "
        "sides select another number. Rounding moves scores across the threshold."
    ),
    measured=(
        "By the shapes of such outputs, batch by batch; batches where they differ are not compared. The tensors "
        "that are selected from have a fixed shape, and are compared."
    ),
    neighbours="RT004, RT005, EX001: what is selected from differs by more than rounding.",
    remedy="Compare the detections on labelled images.",
)


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
    return RT008.finding(Severity.WARNING, message, evidence, (advise("compare the detections on labelled images"),))


RT009 = Rule(
    "RT009",
    "another runtime computes something else",
    meaning=(
        "A runtime other than onnxruntime, which was asked for as a target, does not compute from the file what "
        "the reference computes."
    ),
    measured=(
        "As EX001, by the noise floors. Whether onnxruntime is right with the same file tells the runtime from the "
        "file."
    ),
    neighbours="EX001: onnxruntime is off too. RT004: onnxruntime's own optimisations.",
    remedy="Report it to the runtime's authors with the file, or deploy with onnxruntime.",
)


def runtime_differs(failed: Sequence[Comparison], onnxruntime_agrees: bool | None) -> Finding:
    """RT009: another runtime than onnxruntime computes something else.

    Args:
        failed: the comparisons that failed.
        onnxruntime_agrees: whether onnxruntime is right with the same file; None where it did not run it.
    """
    cause = {
        True: "onnxruntime computes from the same file what the reference computes, so that the difference is the runtime's",
        False: "onnxruntime is off with the same file too, so that the file has to be put right first",
        None: "onnxruntime did not run the same file: either the file or the runtime may be at fault",
    }[onnxruntime_agrees]
    actions = {
        True: (advise("do not deploy this file on this runtime, or in another version of it"),),
        False: (advise("do not deploy this file"),),
        None: (advise("run the file in onnxruntime too"),),
    }[onnxruntime_agrees]
    evidence = evidence_of(failed) | {"onnxruntime_agrees": onnxruntime_agrees}
    return RT009.finding(Severity.ERROR, f"{describe(failed)}; {cause}", evidence, actions)
