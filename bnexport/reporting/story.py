"""The report of the demo: training, predictions in every mode, the cause and the repair, on one screen or as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from bnexport.reporting.text import safe
from bnexport.results.outcomes import Epoch
from bnexport.results.verdict import CheckReport, Side

if TYPE_CHECKING:
    from rich.console import Console


MOMENTUM = 0.99
"""That of BatchNormalization in ResNet50."""


def show_short_story(
    epochs: Sequence[Epoch],
    report: CheckReport,
    repaired: Mapping[str, Side],
    residual: float | None,
    momentum: float,
    console: Console,
) -> None:
    """Prints on one screen what each form of the model answers, and why.

    Args:
        epochs: those of the training.
        report: the check of the model.
        repaired: what the repaired models answer, by what they are called; empty where nothing was wrong.
        residual: that of the new statistics, in standard deviations; None where nothing was wrong.
        momentum: of the BatchNormalization layers.
        console: where.
    """
    side, last = {s.id: s for s in report.sides}, epochs[-1]
    console.print(f"Training: {last.number} epochs, loss {last.loss:.4g}, accuracy {last.accuracy:.0%}\n")
    runs = {"Keras, inference mode": side["keras-inference"], "Keras, training mode": side["keras-training"]}
    for mode in ("inference", "training"):
        of_mode = [s for s in report.sides if s.id.startswith(f"onnx-{mode}@")]
        runs |= {f"ONNX, {mode} mode ({s.provider})": s for s in of_mode}
    table = Table("predictions of", "correct", box=None, pad_edge=False, header_style="dim")
    for name in report.images.names:
        table.add_column(safe(name))
    for name, run in {**runs, **repaired}.items():
        marks = zip(run.answers, report.images.labels, strict=True)
        words = [_mark(safe(report.images.classes[answer]), right=answer == label) for answer, label in marks]
        table.add_row(safe(name), f"{run.correct}/{run.of}", *words)
    console.print(table)
    differs = _modes_differ(report)
    cause = _short_cause(last.number, report.model.layers, momentum) if differs else _CONVERGED
    console.print(f"\nCause: {cause}", soft_wrap=True)
    if residual is not None:
        console.print(
            f"Repair: bnexport recalibrate gave each layer the statistics of its own input (residual: {residual:.0e} "
            "standard deviations).",
            soft_wrap=True,
        )
    console.print("[dim]-v shows every epoch and how sure each prediction is[/]")


def _modes_differ(report: CheckReport) -> bool:
    """Whether Keras answers otherwise in training mode than in inference mode."""
    answers = {side.id: side.answers for side in report.sides}
    return answers["keras-inference"] != answers["keras-training"]


def _mark(answer: str, *, right: bool) -> str:
    return answer if right else f"[red]{answer}[/]"


_CONVERGED = (
    "the moving statistics have converged: both modes predict the same classes, and the ONNX file is safe to deploy."
)


def _short_cause(updates: int, layers: int, momentum: float) -> str:
    return (
        f"in inference mode, {layers} BatchNormalization layers use moving averages, which after {updates} updates are "
        f"{momentum**updates:.0%} what they started from. The export is correct: ONNX computes what Keras computes in inference mode."
    )


def show_story(
    epochs: Sequence[Epoch], asked: int, report: CheckReport, console: Console, momentum: float = MOMENTUM
) -> None:
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
    show("Cause", _why(report, epochs[-1].number, momentum))


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


def _why(report: CheckReport, updates: int, momentum: float) -> str:
    if not _modes_differ(report):
        return f"  {_CONVERGED.capitalize()}"
    stale = next(
        (f"\n  bnexport check finds the same in the file: {f.message}." for f in report.findings if f.code == "BN001"),
        "",
    )
    return f"""  In training mode, BatchNormalization uses the statistics of the batch. In inference mode, it uses moving averages.
  With momentum {momentum:g}, each update moves an average by {1 - momentum:.0%}: after {updates} updates, \
{momentum**updates:.0%} of it is still the initial value.
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
