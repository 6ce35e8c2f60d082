"""EX001, EX003 and EX005: why a graph does not compute what Keras computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bnexport.numerics.clamped import Clamped
from bnexport.numerics.permuted import Permuted
from bnexport.results.actions import Action, NamedOptions, advise
from bnexport.results.runs import RECORDED, STORED, RunSpec
from bnexport.results.tolerance import FLOORS, STATED, STATED_HALF
from bnexport.results.verdict import Comparison, Finding, LayerError, Severity
from bnexport.rules import half_precision
from bnexport.rules.actions import DOCTOR, EXPORT, option
from bnexport.rules.measured import (
    describe,
    describe_inputs,
    describe_layer,
    describe_output,
    evidence_of,
    is_within_a_tolerance,
)
from bnexport.rules.rule import Rule
from bnexport.rules.runtime import RT005, RT007

SHOWN = 3
"""So many weights are named."""

EX001 = Rule(
    "EX001",
    "the graph differs from its reference",
    meaning=(
        "In the same mode, the graph computes other outputs in onnxruntime than the reference: Keras, PyTorch, "
        "another ONNX file or recorded outputs; or a .tflite file or an OpenVINO IR does so in the runtime that executes it. The difference is larger than float rounding."
    ),
    measured=(
        "Logits, where available, and every output are compared, relative to the scale of the tensor (1 for "
        "probabilities). The limit is {FLOORS:g} noise floors. The noise floor is the distance between the "
        "pass of the reference in float32 and in float64, measured on 8 images and again on the batch with the largest "
        "difference. Of an ONNX file as the reference, floors are measured where two runs are further apart than 16 "
        "float32 eps; where float64 takes too long, weights are moved by one unit in the last place instead. Without a floor "
        "the limit is {STATED[inference]:g} in inference mode, "
        "{STATED[training]:g} in training mode and {STATED_HALF:g} in half precision. If it is exceeded, "
        "every layer is compared with the tensor of the same layer, with optimisations off. The finding names "
        "the first layer that deviates although its input agrees, and states whether the layer or its kernel holds the same values "
        "in another order. Weights of a file in float16 that are cut or raised to a limit, and equal otherwise, are named with the limit. With --deployed the layers are compared "
        "even where the outputs agree, because an error may not show on these images; and so are the weights of a file that has "
        "the operators, attributes and edges of the export. Layers that differ and whose readers have the weights that undo it, as "
        "after cross-layer equalisation, are information, if they undo it for random values, too. Of a file of reduced precision, whose layers differ by more than one "
        "wrong weight shows, the kernels are compared by the signs of their large values, which rounding, calibration, pruning "
        "and folding keep; channels may be in another order that another kernel has, too. With --reference keras2 "
        "the reference is tf_keras, and the message states whether the graph equals Keras 3 on the same data, "
        "which means that Keras 3 loads the file as another model. The noise floors are then those of Keras "
        "3."
    ),
    neighbours=(
        "RT004: an optimisation of onnxruntime is the cause. EX003, EX004 and EX005: the file is from "
        "training mode, has another interface, or has other weights. RT005: two providers differ."
    ),
    remedy=(
        "Check how the named layer was exported. Do not deploy the file. If the difference is acceptable, set "
        "the tolerance with --rtol."
    ),
    thresholds={"FLOORS": FLOORS, "STATED": STATED, "STATED_HALF": STATED_HALF},
)


def parity_lost(
    failed: Sequence[Comparison],
    actual: RunSpec,
    reference: RunSpec,
    first: LayerError | None,
    layers: Sequence[LayerError],
    title: str = "Keras",
    *,
    scaled: bool = False,
    permuted: Sequence[Permuted] = (),
    clamped: Sequence[Clamped] = (),
) -> Finding:
    """EX001, RT005 between two providers, or RT007 against what a bundle holds: a side that must equal its reference does not.

    Args:
        failed: the comparisons that failed.
        actual: the side.
        reference: what it must equal.
        first: the layer where the error begins; None where that is not known.
        layers: all layers that were compared.
        title: what sentences call the reference.
        scaled: the file takes pixels, and scales them itself.
        permuted: the kernels that it holds with channels in another order.
        clamped: the weights that a conversion to float16 cut or raised to a limit.
    """
    rule, what = EX001, f"the exported graph differs from {title}"
    if reference.runtime == STORED:
        rule, what = RT007, "this machine computes other outputs than the machine that packed the bundle"
    elif reference.runtime == RECORDED:
        what = f"the file differs from {title}"
    elif actual.artifact not in ("", "onnx"):
        made = "deployed file" if actual.external else f"converted .{actual.artifact} file"
        what = f"the {made} differs from {title}"
    elif actual.external and reference.artifact:
        what = f"the deployed file differs from {title}"
    elif reference.artifact:
        rule, what = RT005, "two providers compute different outputs"
    evidence = evidence_of(failed)
    message = f"{what}: {describe(failed)}"
    names: tuple[str, ...] = ()
    inside = scaled and first is not None and not any(layer.known for layer in layers if layer.name in first.inputs)
    if first is not None:
        names = (first.name,)
        agreed = (
            "the pixels before it are scaled inside the file, which may be the cause"
            if inside
            else describe_inputs(first, layers)
        )
        message += f"; the error begins in {describe_layer(first, node=bool(reference.artifact), layers=layers)}: {agreed}, {describe_output(first)}"
        if moved := [kernel for kernel in permuted if kernel.name.rpartition("/")[0] == first.name]:
            message += "" if first.reordered else f"; the file has {moved[0].described}"
            evidence["kernel_permuted"] = asdict(moved[0])
        evidence |= {
            "first_layer": first.name,
            "first_layer_tensor": first.tensor,
            "first_layer_max_rel": first.max_rel,
        }
    elif layers:
        message += "; with optimisations off, all layers that could be compared agree"
    actions: tuple[Action, ...] = (advise("do not deploy this file"),)
    if all(map(is_within_a_tolerance, failed)):  # of another shape or type, or of other rows, none makes it pass
        what = "rtol" if all(c.difference.scale for c in failed) else "atol"
        actions += (advise(("if the difference is acceptable, set the tolerance with ", option(what))),)
    if rule is RT007:
        actions = (
            advise("compare the versions installed here with those that bundle.json lists under environment", DOCTOR),
            *actions,
        )
    if first is not None:
        actions = (look_at(first), *actions)
    if clamped:
        listed = "; ".join(weight.described for weight in clamped[:SHOWN]) + ("; ..." if clamped[SHOWN:] else "")
        message += f"; the conversion to float16 changed weights: {listed}"
        evidence["weights_clamped"] = [asdict(weight) for weight in clamped]
        actions = (*half_precision.keep_weights(clamped), *actions)
    if inside:
        actions = (
            advise("compare how the file scales pixels with how the images are prepared for the model"),
            *actions,
        )
    return rule.finding(Severity.ERROR, message, evidence, actions, names)


def look_at(layer: LayerError) -> Action:
    """Advice to look at the export of a layer."""
    return advise(
        (
            f"check how {layer.name} was exported: its weights, attributes and padding (",
            option("layers"),
            " shows every layer)",
        )
    )


def read_otherwise(failed: Sequence[Comparison], *, as_keras3: bool | None) -> Finding:
    """EX001 with Keras 2 as the reference: an old file computes something else there.

    Args:
        failed: the comparisons with Keras 2 that failed.
        as_keras3: whether the graph computes what Keras 3 makes of the file; None where Keras 3 cannot read it.
    """
    difference = describe(failed)
    match as_keras3:
        case True:
            message = (
                f"Keras 3 loads the file as another model than Keras 2: {difference}; "
                "the ONNX graph equals Keras 3 on the same data, so loading differs, not the export"
            )
        case False:
            message = f"the ONNX graph differs from the file in Keras 2: {difference}; it differs from Keras 3 too"
        case None:
            message = f"the ONNX graph differs from the file in Keras 2: {difference}"
    evidence = evidence_of(failed) | {"equals_keras3": as_keras3}
    actions = (
        advise("do not deploy this file if the model was trained in Keras 2"),
        advise(
            (
                "export the model in Keras 2 (tf_keras), and check that file with ",
                option("onnx"),
                " and ",
                NamedOptions({"reference": "keras2"}),
            )
        ),
    )
    return EX001.finding(Severity.ERROR, message, evidence, actions)


EX003 = Rule(
    "EX003",
    "the file computes the training pass",
    meaning=(
        "The BatchNormalization layers of the file normalise by the batch, as in training. The output for an "
        "image depends on the other images in the batch."
    ),
    measured=(
        "The file agrees with the training pass of Keras (BatchNormalization by the batch, dropout off) but "
        "not with the inference pass, or the output for an image differs between a batch and the image alone."
    ),
    neighbours=(
        "BN006 is the same finding for any graph, without Keras. BN005: the modes differ, but the file was "
        "exported in inference mode, as it should be."
    ),
    remedy=(
        "Export the model in inference mode with bnexport export, without training=True in the calls of its layers; "
        "in PyTorch call model.eval() before torch.onnx.export."
    ),
)


def training_exported(failed: Sequence[Comparison]) -> Finding:
    """EX003: the file computes what Keras computes in training mode.

    Args:
        failed: the comparisons with the inference pass that failed; none where Keras' own inference pass depends on the batch.
    """
    message = "the file was exported in training mode: BatchNormalization normalises by the batch, not by the moving statistics"
    evidence = evidence_of(failed) if failed else {}
    if failed:
        message += f" ({describe(failed)}; the training pass agrees)"
    actions = (
        advise(
            "export the model in inference mode: without training=True in the calls of its layers, in PyTorch after "
            "model.eval()",
            EXPORT,
        ),
        advise("do not deploy this file: the output for an image depends on the rest of the batch"),
    )
    return EX003.finding(Severity.ERROR, message, evidence, actions)


EX005 = Rule(
    "EX005",
    "weights of another checkpoint",
    meaning="The file has the structure of the model, but other weights in most of its kernels.",
    measured=(
        "Kernels are compared in every order of axes and up to a factor per channel, which folding "
        "BatchNormalization and equalisation introduce. Kernels that agree to 1 % count as equal, and those whose channels are in another "
        "order are no other weights: EX001 names them."
    ),
    neighbours="EX001 with a layer: one kernel is wrong, and the others are equal to those of the model.",
    remedy="Export the file again from this model, or check the model that it was exported from.",
)


def other_checkpoint(
    failed: Sequence[Comparison], compared: int, other: Sequence[str], file: str = "ONNX file"
) -> Finding:
    """EX005: the file holds other weights.

    Args:
        failed: the comparisons that failed; empty where the precision of the file explains how far its outputs are apart.
        compared: how many kernels there are in both.
        other: those that have other values.
        file: what sentences call the file.
    """
    count = len(other)
    message = (
        f"the {file} contains the weights of another checkpoint: {count} of {compared} kernels have other values, first {other[0]}"
        f"{f'; {describe(failed)}' if failed else ''}"
    )
    evidence = (evidence_of(failed) if failed else {}) | {"kernels_other": count, "kernels_compared": compared}
    return EX005.finding(
        Severity.ERROR,
        message,
        evidence,
        (advise("export the file again from this model, or check the model that it was exported from", EXPORT),),
        tuple(other[:8]),
    )
