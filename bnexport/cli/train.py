"""`bnexport train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, values
from bnexport.cli.guard import guarded
from bnexport.cli.progress import shown
from bnexport.results.preprocessing import Fit, Order, Preprocessing, Resize, Scaling


@guarded
def command(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES", help="A folder: one subfolder for each class, or each image a class of its own."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="MODEL", help="Where the model goes: .h5 or .keras.")
    ],
    arch: Annotated[str, typer.Option(help="A net of keras.applications.")] = "ResNet50",
    epochs: Annotated[int, typer.Option(min=1, help="How often to go through the images.")] = 5,
    momentum: Annotated[
        float | None, typer.Option(help="For every BatchNormalization layer; default: the net's own (.99).")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0, help="Adam's.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in one step.")] = 32,
    seed: Annotated[int, typer.Option(help="For the initial weights and the shuffling.")] = 0,
    size: options.Size = "197",
    channels: options.Channels = 1,
    resize: options.ResizeKernel = Resize.PIL_LANCZOS,
    scaling: options.ScalingKind = Scaling.NONE,
    fit: options.FitKind = Fit.STRETCH,
    channel_order: options.ChannelOrder = Order.RGB,
    quiet: options.Quiet = False,
) -> int:
    """Overfit ResNet50, or another net, on a few images."""
    from bnexport.demo.train import train

    spec = Preprocessing(values.size(size or "197"), channels or 1).changed(
        resize=resize, scaling=scaling, fit=fit, order=channel_order
    )
    with shown(quiet=quiet) as progress:
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
        f"{done.model}: {arch}, {len(done.classes)} classes, after epoch {last.number} loss {last.loss:.4g}, training accuracy {last.accuracy:.0%}"
    )
    typer.echo(f"next: bnexport check {done.model} {images}")
    return 0
