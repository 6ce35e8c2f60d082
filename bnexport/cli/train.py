"""`bnexport train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import ProgressOptions
from bnexport.cli.records import Chosen, with_options
from bnexport.demo.options import TrainingOptions
from bnexport.results.options import OUTPUT, keywords_of
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Fit, Order, Preprocessing, Resize, Scaling

PREPROCESSED = {
    "size": "197",
    "color-mode": "gray",
    "interpolation": Resize.PIL_LANCZOS,
    "normalize": Scaling.NONE,
    "aspect": Fit.STRETCH,
    "channel-order": Order.RGB,
}
"""How images are prepared by default."""


@with_exit_code
@with_options
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
            rich_help_panel=OUTPUT,
            help="The model file to write: .h5 or .keras.",
        ),
    ],
    *,
    how: TrainingOptions,
    preprocessing: Annotated[Overrides, Chosen(without={"mean", "std"}, defaults=PREPROCESSED)],
    progress: ProgressOptions,
) -> int:
    """Overfit ResNet50 or another network on a few images."""
    from bnexport.demo.train import train

    with progress.show_progress() as shown:
        spec = Preprocessing(**preprocessing.given)
        training = train(images, output, spec=spec, **keywords_of(how), progress=shown)
    last = training.epochs[-1]
    typer.echo(
        f"{training.model}: {how.arch} with {len(training.classes)} classes; epoch {last.number}: loss {last.loss:.4g}, training accuracy {last.accuracy:.0%}"
    )
    typer.echo(f"next: bnexport check {training.model} {images}")
    return 0
