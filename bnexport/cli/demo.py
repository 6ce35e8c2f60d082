"""`bnexport demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli import options
from bnexport.cli.guard import guarded
from bnexport.cli.progress import shown

if TYPE_CHECKING:
    from bnexport.demo.demo import Demo


@guarded
def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where the pictures, the model, the ONNX file and the JSON go.")
    ] = Path("bnexport-demo"),
    epochs: Annotated[int, typer.Option(min=1, help="How often to go through the images.")] = 5,
    momentum: Annotated[
        float | None, typer.Option(help="For every BatchNormalization layer; default: ResNet50's .99.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="For the initial weights and the shuffling; default: one whose training settles in 5 epochs."
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Overfit ResNet50 on three pictures and see what goes wrong."""
    from bnexport.cli import telling
    from bnexport.demo.demo import SEED, demo

    with shown(quiet=quiet) as progress:
        done = demo(folder, epochs=epochs, momentum=momentum, seed=SEED if seed is None else seed, progress=progress)
    telling.save(done.report, [folder / "check.json"])
    _tell(done, folder)
    return 0


def _tell(done: Demo, folder: Path) -> None:
    from rich.console import Console

    from bnexport.reporting.story import show_repair, show_story

    console = Console(highlight=False)
    show_story(done.training.epochs, done.asked_epochs, done.report, console)
    left = "images/, model.h5 with model.h5.toml, model.onnx, check.json"
    steps = [
        (f"bnexport check {folder}/model.h5 {folder}/images", "everything again, in numbers"),
        (f"bnexport check {folder}/model.onnx {folder}/images", "the ONNX file alone, without TensorFlow"),
    ]
    if done.repair is not None:
        again = next(side for side in done.repair.keras.sides if side.id == "keras-inference")
        show_repair(again, done.repair.onnx, done.repair.folded, done.repair.recalibration.residual.largest, console)
        left += ", repaired.keras with its .toml, repaired.onnx, folded.onnx"
        steps += [
            (f"bnexport check {folder}/repaired.keras {folder}/images", "the repaired model passes"),
            (f"bnexport demo {folder} --momentum 0.01 --epochs 20", "the other way out: statistics that keep up"),
        ]
    typer.echo(f"\nLeft in {folder}: {left}. Go on with\n")
    width = max(len(step) for step, _ in steps)
    for step, why in steps:
        typer.echo(f"  {step:{width}}    {why}")
