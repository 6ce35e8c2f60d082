"""The report of the demo: training, predictions in every mode, the cause and the repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexport.reporting.text import safe
from bnexport.results.outcomes import Epoch
from bnexport.results.verdict import CheckReport, Side

if TYPE_CHECKING:
    from rich.console import Console


def show_story(epochs: Sequence[Epoch], asked: int, report: CheckReport, console: Console) -> None:
    """Prints the results of training, of Keras and ONNX in both modes, and the cause of the difference."""
    side = {s.id: s for s in report.sides}

    def show(title: str, text: str) -> None:
        console.print(f"\n[bold]{title}[/]")
        console.print(text, soft_wrap=True)

    show("Training", "\n".join(f"  epoch {e.number}: loss {e.loss:.4g}, accuracy {e.accuracy:.0%}" for e in epochs))
    if len(epochs) > asked:
        console.print(f"  ({asked} epochs did not reach 100 %, so training continued to epoch {len(epochs)}.)")
    show("Predictions for the same images (Keras, inference mode)", _answers(report, side["keras-inference"]))
    show(
        "Predictions in training mode (Keras, BatchNormalization by the batch, dropout off)",
        _answers(report, side["keras-training"]),
    )
    for name, title in (
        ("onnx-inference", "Predictions of the exported ONNX file"),
        ("onnx-training", "Predictions of its training-mode graph"),
    ):
        for s in report.sides:
            if s.id.startswith(f"{name}@"):
                show(f"{title} (onnxruntime, {s.provider})", _answers(report, s))
                console.print("  " + _parity(report, s.id), soft_wrap=True)
    show("Cause", _why(report, epochs[-1].number, side["keras-inference"], side["keras-training"]))


def _answers(report: CheckReport, side: Side) -> str:
    classes, images = report.images.classes, report.images
    lines = [f"  {side.correct} of {side.of} correct"]
    for i, name in enumerate(images.names):
        right = side.answers[i] == images.labels[i]
        mark = "[green]correct[/]" if right else "[red]wrong[/]"
        lines.append(f"  {safe(name)}: {safe(classes[side.answers[i]])} with {side.confidence[i]:.5f}  {mark}")
    return "\n".join(lines)


def _parity(report: CheckReport, actual: str) -> str:
    for c in report.comparisons:
        if c.actual == actual and c.tensor == "logits":
            return f"The logits differ from {c.reference} by {c.difference.max_rel:.1e}, relative to their scale of {c.difference.scale:.3g}."
    return ""


def _why(report: CheckReport, updates: int, inference: Side, training: Side) -> str:
    if inference.answers == training.answers:
        return "  Both modes predict the same classes: the moving statistics have converged, and the ONNX file is safe to deploy."
    stale = next(
        (f"\n  bnexport check finds the same in the file: {f.message}." for f in report.findings if f.code == "BN001"),
        "",
    )
    return f"""  In training mode, BatchNormalization uses the statistics of the batch. In inference mode, it uses moving averages.
  With momentum 0.99, each update moves an average by 1 %: after {updates} updates, {0.99**updates:.0%} of it is still the initial value.
  Inference therefore uses statistics that do not fit these images, in all {report.model.layers} BatchNormalization layers.
  The export is correct: the ONNX file computes the same as Keras in inference mode.{stale}"""


def show_repair(keras: Side, recalibrated: Side, folded: Side, residual: float, console: Console) -> None:
    """Prints the results of the repaired model in Keras, in ONNX, and folded."""
    console.print("\n[bold]Repair[/]")
    console.print(
        "  bnexport recalibrate computed new statistics from these images. The moving statistics of each layer now equal\n"
        f"  the statistics of its input in inference mode (residual: {residual:.0e} standard deviations).",
        soft_wrap=True,
    )
    results = (
        (keras, "Keras, repaired.keras loaded from disk"),
        (recalibrated, "onnxruntime, repaired.onnx"),
        (folded, "onnxruntime, folded.onnx"),
    )
    for side, name in results:
        console.print(f"  {side.correct} of {side.of} correct  ({name})", soft_wrap=True)
