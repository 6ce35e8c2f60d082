"""`bnexport recalibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli import options, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import Isolation
from bnexport.cli.output_options import PlainFormat, VerboseOutput
from bnexport.cli.records import with_options
from bnexport.recalibration.options import RecalibrationOptions
from bnexport.results.options import OUTPUT, keywords_of, options_of

if TYPE_CHECKING:
    from bnexport.results.outcomes import Recalibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(options.ClusterOptions):
    """Where the work is recalibration, and with which modules."""

    modules: options.Modules = options_of(options.Modules)


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    images: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGES", help="The images to compute the statistics from. They are named as for bnexport check."
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            rich_help_panel=OUTPUT,
            help="The model file to write: .onnx, .keras or .h5.",
        ),
    ] = ...,  # type: ignore[assignment] # typer's way to say that an option is required
    *,
    how: RecalibrationOptions,
    workers: Work,
    result: VerboseOutput,
    isolation: Isolation,
) -> int:
    """Give BatchNormalization layers new moving statistics.

    The statistics are computed from the images. The model is not written where that would do harm: if its accuracy falls, if the images
    are not prepared as in training, or if nothing shows that the old statistics are wrong.
    """
    if isolation.wanted:
        return isolation.run()
    workers.modules.load(trust=how.trust)
    from bnexport.recalibration.recalibrate import recalibrate

    if workers.cluster is not None:
        stdio.redirect_other_threads()
    with result.show_progress() as progress:
        recalibration = recalibrate(
            model, images, output, **keywords_of(how), cluster=workers.cluster, progress=progress
        )
    _print_recalibration(recalibration, result, output)
    return 0 if recalibration else 1


def _print_recalibration(recalibration: Recalibration, result: VerboseOutput, output: Path) -> None:
    if result.form == PlainFormat.JSON:
        from bnexport.reporting import json

        stdio.print_json(json.dumps(json.recalibration(recalibration)))
        return
    from bnexport.reporting.recalibration import lines

    for line in lines(recalibration, output, verbose=result.verbose):
        typer.echo(line)
