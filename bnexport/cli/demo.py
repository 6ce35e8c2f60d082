"""`bnexport demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.options import open_cache
from bnexport.cli.output_options import ProgressOptions
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
    output: ProgressOptions,
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
    _tell(result, folder)
    return 0


def _tell(result: Demo, folder: Path) -> None:
    from rich.console import Console

    from bnexport.reporting.story import show_repair, show_story

    console = Console(highlight=False)
    show_story(result.training.epochs, result.asked_epochs, result.report, console)
    written = "images/, model.h5 with model.h5.toml, model.onnx, check.json"
    steps = [
        (f"bnexport check {folder}/model.h5 {folder}/images", "the check again, with all numbers"),
        (f"bnexport check {folder}/model.onnx {folder}/images", "check the ONNX file alone, without TensorFlow"),
    ]
    if result.repair is not None:
        repaired = next(side for side in result.repair.keras.sides if side.id == "keras-inference")
        show_repair(
            repaired, result.repair.onnx, result.repair.folded, result.repair.recalibration.residual.largest, console
        )
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
