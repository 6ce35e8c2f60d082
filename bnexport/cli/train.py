"""`bnexport train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import output_options, parsing, preprocessing_options
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.progress import show_progress
from bnexport.results.preprocessing import Fit, Order, Preprocessing, Resize, Scaling

TRAINING = "Training"
"""The panel that groups the options of training in the help."""


@with_exit_code
def command(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES", help="A folder of images. It has one subfolder per class, or each image is a class."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="MODEL",
            rich_help_panel=output_options.OUTPUT,
            help="The model file to write: .h5 or .keras.",
        ),
    ],
    arch: Annotated[
        str, typer.Option(rich_help_panel=TRAINING, help="The network, by its name in keras.applications.")
    ] = "ResNet50",
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=TRAINING, help="The number of passes over the images.")
    ] = 5,
    momentum: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=TRAINING,
            help="The momentum of every BatchNormalization layer, for example 0.9. By default the network keeps its own, which is 0.99 for most.",
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(metavar="N", min=0, rich_help_panel=TRAINING, help="The learning rate of Adam.")
    ] = 1e-3,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=TRAINING, help="The number of images in a training step.")
    ] = 32,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            rich_help_panel=TRAINING,
            help="The random seed for the initial weights and the order of the images.",
        ),
    ] = 0,
    size: preprocessing_options.Size = "197",
    color_mode: preprocessing_options.ColorMode = "gray",
    interpolation: preprocessing_options.Interpolation = Resize.PIL_LANCZOS,
    normalize: preprocessing_options.Normalize = Scaling.NONE,
    aspect: preprocessing_options.Aspect = Fit.STRETCH,
    channel_order: preprocessing_options.ChannelOrder = Order.RGB,
    quiet: output_options.Quiet = False,
) -> int:
    """Overfit ResNet50 or another network on a few images."""
    from bnexport.demo.train import train

    spec = Preprocessing(
        parsing.parse_image_size(size or "197"), parsing.parse_color_mode(color_mode or "gray")
    ).changed(resize=interpolation, scaling=normalize, fit=aspect, order=channel_order)
    with show_progress(quiet=quiet) as progress:
        done = train(
            images,
            output,
            spec=spec,
            arch=arch,
            epochs=epochs,
            momentum=momentum,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
    last = done.epochs[-1]
    typer.echo(
        f"{done.model}: {arch} with {len(done.classes)} classes; epoch {last.number}: loss {last.loss:.4g}, training accuracy {last.accuracy:.0%}"
    )
    typer.echo(f"next: bnexport check {done.model} {images}")
    return 0
