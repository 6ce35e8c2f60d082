"""The findings that say why a graph does not compute what Keras computes: what each code says, from which numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Action, Comparison, Finding, LayerError, Severity
from bnexport.rules.actions import DOCTOR, EXPORT


def evidence_of(failed: Sequence[Comparison]) -> dict[str, Any]:
    """The numbers of the comparison that failed, and the names of the others."""
    first = failed[0]
    difference = first.difference
    return {
        "actual": first.actual,
        "reference": first.reference,
        "tensor": first.tensor,
        "also": [c.tensor for c in failed[1:]],
        "max_abs": difference.max_abs,
        "max_rel": difference.max_rel,
        "noise_floors": first.noise_floors,
        "tolerance": first.tolerance,
        "worst_image": difference.worst_image,
    }


def _said(failed: Sequence[Comparison]) -> str:
    first = failed[0]
    return f"{first.tensor} of {first.actual} against {first.reference}: {first.reason}"


def parity_lost(failed: Sequence[Comparison], first: LayerError | None, layers: Sequence[LayerError]) -> Finding:
    """EX001, RT005 between two providers, or RT007 against what a bundle holds: a side that must equal its reference does not.

    Args:
        failed: the comparisons that failed.
        first: the layer where the error begins; None where that is not known.
        layers: all layers that were compared.
    """
    code, what = "EX001", "the exported graph differs from Keras"
    if failed[0].reference.startswith("onnx"):
        code, what = "RT005", "two providers compute different outputs"
    elif failed[0].reference.startswith("golden"):
        code, what = "RT007", "this machine computes something else than the one that packed the bundle"
    evidence = evidence_of(failed)
    message = f"{what}: {_said(failed)}"
    names: tuple[str, ...] = ()
    if first is not None:
        names = (first.name,)
        far = first.problem or f"it is off by {first.max_rel:.2g}, rounding explains {first.tolerance:.1g}"
        message += f"; the error begins in the layer {first.name} ({first.kind}): what it reads agrees, {far}"
        evidence |= {
            "first_layer": first.name,
            "first_layer_tensor": first.tensor,
            "first_layer_max_rel": first.max_rel,
        }
    elif layers:
        message += "; with optimisations off every layer that was found agrees"
    actions: tuple[Action, ...] = (
        Action("do not deploy this file"),
        Action("if the difference is acceptable, say so with --rtol"),
    )
    if code == "RT007":
        actions = (
            Action("see what runs here; bundle.json names under environment what ran where it was packed", DOCTOR),
            *actions,
        )
    if first is not None:
        actions = (_look_at(first), *actions)
    return Finding(code, Severity.ERROR, message, evidence, actions, names)


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
        True: (Action("do not deploy this file on this runtime, or in another version of it"),),
        False: (Action("do not deploy this file"),),
        None: (Action("run the file in onnxruntime too"),),
    }[onnxruntime_agrees]
    evidence = evidence_of(failed) | {"onnxruntime_agrees": onnxruntime_agrees}
    return Finding("RT009", Severity.ERROR, f"{_said(failed)}; {cause}", evidence, actions)


def _look_at(layer: LayerError) -> Action:
    return Action(
        f"look at how {layer.name} was exported: its weights, attributes and padding (--layers shows every layer)"
    )


def read_otherwise(failed: Sequence[Comparison], *, as_keras3: bool | None) -> Finding:
    """EX001 with Keras 2 as the reference: an old file computes something else there.

    Args:
        failed: the comparisons with Keras 2 that failed.
        as_keras3: whether the graph computes what Keras 3 makes of the file; None where Keras 3 cannot read it.
    """
    said = _said(failed)
    match as_keras3:
        case True:
            message = (
                f"Keras 3 reads the file as another model than Keras 2: {said}; "
                "the ONNX graph equals Keras 3 on the same data, so that the reading differs, not the export"
            )
        case False:
            message = (
                f"the ONNX graph differs from what the file computes in Keras 2: {said}; it differs from Keras 3 too"
            )
        case None:
            message = f"the ONNX graph differs from what the file computes in Keras 2: {said}"
    evidence = evidence_of(failed) | {"equals_keras3": as_keras3}
    actions = (
        Action("do not deploy this file if the model was trained in Keras 2"),
        Action("export the model in Keras 2 (tf_keras), and check that export with --onnx and --reference keras2"),
    )
    return Finding("EX001", Severity.ERROR, message, evidence, actions)


def hidden_error(first: LayerError, layers: Sequence[LayerError], noun: Noun = IMAGES) -> Finding:
    """EX001 where the outputs agree on these images, and a layer does not.

    Args:
        first: the layer where the error begins.
        layers: all layers that were compared.
        noun: what the model was run on.
    """
    off = [layer.name for layer in layers if layer.off]
    far = first.problem or f"it is off by {first.max_rel:.2g}, rounding explains {first.tolerance:.1g}"
    message = (
        f"the ONNX file differs from Keras in the layer {first.name} ({first.kind}): what it reads agrees, {far}; {len(off)} layers are off, "
        f"and on these {noun.many} the outputs do not show it"
    )
    evidence = {
        "first_layer": first.name,
        "first_layer_tensor": first.tensor,
        "first_layer_max_rel": first.max_rel,
        "layers_off": off,
    }
    actions = (_look_at(first), Action(f"do not deploy this file: other {noun.many} may show it"))
    return Finding("EX001", Severity.ERROR, message, evidence, actions, (first.name,))


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
    message += f": right with optimisations off, {_said(failed)}"
    evidence = evidence_of(failed) | {"optimizers": list(optimizers), "nodes": list(nodes), "tensor_lost": tensor}
    actions = [Action("export with bnexport, which writes what the known faulty optimisations leave alone", EXPORT)]
    if optimizers:
        actions.append(Action(f"or create the session with disabled_optimizers={list(optimizers)!r}"))
    actions.append(Action("or use a version of onnxruntime where it is mended"))
    return Finding("RT004", Severity.ERROR, message, evidence, tuple(actions))


def training_exported(failed: Sequence[Comparison]) -> Finding:
    """EX003: the file computes what Keras computes in training mode.

    Args:
        failed: the comparisons with the inference pass that failed; none where Keras' own inference pass depends on the batch.
    """
    message = "the ONNX file computes the training pass: its BatchNormalization normalises by the batch, not by the moving statistics"
    evidence = evidence_of(failed) if failed else {}
    if failed:
        message += f" ({_said(failed)}; the training pass agrees)"
    actions = (
        Action("export the model in inference mode, without training=True in the calls of its layers", EXPORT),
        Action("do not deploy this file: what it answers for an image depends on the rest of the batch"),
    )
    return Finding("EX003", Severity.ERROR, message, evidence, actions)


def taken_otherwise(failed: Sequence[Comparison], how: str) -> Finding:
    """EX004, as an error: the file is right if it is called in another way than the model.

    Args:
        failed: the comparisons that failed.
        how: which other way.
    """
    message = f"the ONNX file computes what the model computes if it is called otherwise: {how}"
    return Finding(
        "EX004",
        Severity.ERROR,
        message,
        evidence_of(failed) | {"otherwise": how},
        (Action("call it so where it is deployed, or export it again so that both take the same"),),
    )


def interface_differs(differences: Sequence[str]) -> Finding | None:
    """EX004, as an information: the file is called in another way, which was allowed for."""
    if not differences:
        return None
    return Finding(
        "EX004",
        Severity.INFO,
        f"the ONNX file is called otherwise than the model: {'; '.join(differences)}",
        {"differences": list(differences)},
        (Action("make sure that the code around it does the same"),),
    )


def other_checkpoint(failed: Sequence[Comparison], count: int, kept: Sequence[str], other: Sequence[str]) -> Finding:
    """EX005: the file holds other weights.

    Args:
        failed: the comparisons that failed.
        count: how many kernels have other values.
        kept: the kernels that are the same.
        other: those that are not.
    """
    of = count + len(kept)
    message = f"the ONNX file holds the weights of another checkpoint: {count} of {of} kernels have other values, first {other[0]}; {_said(failed)}"
    evidence = evidence_of(failed) | {"kernels_other": count, "kernels_compared": of}
    return Finding(
        "EX005",
        Severity.ERROR,
        message,
        evidence,
        (Action("export the file again from this model, or check the model it was exported from", EXPORT),),
        tuple(other[:8]),
    )
