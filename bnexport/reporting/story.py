"""The demo's report: the story in the order in which the newcomer met it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexport.reporting.text import safe
from bnexport.results.outcomes import Epoch
from bnexport.results.verdict import CheckReport, Side

if TYPE_CHECKING:
    from rich.console import Console


def show_story(epochs: Sequence[Epoch], asked: int, report: CheckReport, console: Console) -> None:
    """Prints what fit said, what predict says, what training mode says, what ONNX says, and why."""
    side = {s.id: s for s in report.sides}

    def tell(title: str, text: str) -> None:
        console.print(f"\n[bold]{title}[/]")
        console.print(text, soft_wrap=True)

    tell(
        "What fit said", "\n".join(f"  epoch {e.number}: loss {e.loss:.4g}, accuracy {e.accuracy:.0%}" for e in epochs)
    )
    if len(epochs) > asked:
        console.print(f"  ({asked} epochs did not reach 100 % here, so it went on to {len(epochs)})")
    tell("What predict says about the same images (Keras, inference mode)", _answers(report, side["keras-inference"]))
    tell(
        "What training mode says (Keras, BatchNormalization by the batch, dropout off)",
        _answers(report, side["keras-training"]),
    )
    for name, title in (
        ("onnx-inference", "What the exported ONNX file says"),
        ("onnx-training", "What its training-mode twin says"),
    ):
        for s in report.sides:
            if s.id.startswith(f"{name}@"):
                tell(f"{title} (onnxruntime, {s.provider})", _answers(report, s))
                console.print("  " + _parity(report, s.id), soft_wrap=True)
    tell("Why", _why(report, epochs[-1].number, side["keras-inference"], side["keras-training"]))


def _answers(report: CheckReport, side: Side) -> str:
    classes, images = report.images.classes, report.images
    lines = [f"  {side.correct} of {side.of} right"]
    for i, name in enumerate(images.names):
        right = side.answers[i] == images.labels[i]
        mark = "[green]right[/]" if right else "[red]wrong[/]"
        lines.append(f"  {safe(name)}: {safe(classes[side.answers[i]])} with {side.confidence[i]:.5f}  {mark}")
    return "\n".join(lines)


def _parity(report: CheckReport, actual: str) -> str:
    for c in report.comparisons:
        if c.actual == actual and c.tensor == "logits":
            return f"its logits are within {c.difference.max_rel:.1e} of {c.reference}'s, relative to their size {c.difference.scale:.3g}"
    return ""


def _why(report: CheckReport, updates: int, inference: Side, training: Side) -> str:
    if inference.answers == training.answers:
        return "  Both modes answer alike: here the moving statistics kept up with the weights, and the ONNX file is safe to deploy."
    stale = next(
        (f"\n  bnexport check reads it off the file: {f.message}." for f in report.findings if f.code == "BN001"), ""
    )
    return f"""  In training BatchNormalization normalises by the batch; in inference by moving averages of what it saw in training.
  At momentum .99 each update moves an average by 1 %: after {updates} updates {0.99**updates:.0%} of it is still the value it started from.
  So predict normalises by numbers that have little to do with these images, in all {report.model.layers} BatchNormalization layers.
  The export is not to blame: the ONNX file computes what Keras' inference mode computes, mistake included.{stale}"""


def show_repair(keras: Side, recalibrated: Side, folded: Side, residual: float, console: Console) -> None:
    """Prints how the repaired model does in Keras, in ONNX, and folded."""
    console.print("\n[bold]The repair[/]")
    console.print(
        "  New statistics, measured on these images level by level in one pass: each layer's moving statistics now equal\n"
        f"  those of its own input in inference mode (to {residual:.0e} of a standard deviation).",
        soft_wrap=True,
    )
    told = (
        (keras, "Keras, repaired.keras loaded again"),
        (recalibrated, "onnxruntime, repaired.onnx"),
        (folded, "onnxruntime, folded.onnx"),
    )
    for side, name in told:
        console.print(f"  {side.correct} of {side.of} right  ({name})", soft_wrap=True)
