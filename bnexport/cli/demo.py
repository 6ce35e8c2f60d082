"""`bnexport demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.options import open_cache
from bnexport.cli.output_options import TextOutput
from bnexport.cli.records import with_options
from bnexport.demo.options import TRAINING

if TYPE_CHECKING:
    from bnexport.demo.demo import Demo


@with_exit_code
@with_options
def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The folder for the images, the models and the reports.")
    ] = Path("bnexport-demo"),
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=TRAINING, help="The number of passes over the images.")
    ] = 5,
    momentum: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=TRAINING,
            help="The momentum of every BatchNormalization layer, for example 0.9. By default it is 0.99, as in ResNet50.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=TRAINING,
            help="The random seed for the initial weights and the order of the images. By default it is a seed with which 5 epochs suffice.",
        ),
    ] = None,
    *,
    output: TextOutput,
) -> int:
    """Overfit ResNet50 on three images and see what goes wrong."""
    from bnexport.cli import report_output
    from bnexport.demo.demo import SEED, demo

    with output.show_progress() as progress:
        result = demo(
            folder,
            epochs=epochs,
            momentum=momentum,
            seed=SEED if seed is None else seed,
            store=open_cache(),
            progress=progress,
        )
    report_output.write_reports(result.report, [folder / "check.json"])
    _show(result, folder, momentum, verbose=output.verbose)
    return 0


def _show(result: Demo, folder: Path, momentum: float | None, *, verbose: bool) -> None:
    from bnexport.cli.console import stdout_console
    from bnexport.reporting.story import MOMENTUM, show_repair, show_short_story, show_story

    console, repair, momentum = stdout_console()[0], result.repair, MOMENTUM if momentum is None else momentum
    if repair is not None:
        keras = next(side for side in repair.keras.sides if side.id == "keras-inference")
        residual = repair.recalibration.residual.largest
    if verbose:
        show_story(result.training.epochs, result.asked_epochs, result.report, console, momentum)
        if repair is not None:
            show_repair(keras, repair.onnx, repair.folded, residual, console)
    else:
        forms = {"repaired.keras": keras, "repaired.onnx": repair.onnx, "folded.onnx": repair.folded} if repair else {}
        show_short_story(result.training.epochs, result.report, forms, residual if repair else None, momentum, console)
    written = "images/, model.h5 with model.h5.toml, model.onnx, check.json"
    steps = [
        (f"bnexport check {folder}/model.h5 {folder}/images", "the check again, with all numbers"),
        (f"bnexport check {folder}/model.onnx {folder}/images", "check the ONNX file alone, without TensorFlow"),
    ]
    if repair is not None:
        written += ", repaired.keras with its .toml, repaired.onnx, folded.onnx"
        steps += [
            (f"bnexport check {folder}/repaired.keras {folder}/images", "check the repaired model, which passes"),
            (
                f"bnexport demo {folder} --momentum 0.01 --epochs 20",
                "train again with a lower momentum, so that the statistics converge",
            ),
        ]
    typer.echo(f"\nFiles written to {folder}: {written}.\nNext commands:\n")
    width = max(len(step) for step, _ in steps)
    for step, why in steps:
        typer.echo(f"  {step:{width}}    {why}")
