"""`bnexport recalibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli import options, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import Isolation
from bnexport.cli.output_options import PlainFormat, PlainOutput
from bnexport.cli.records import with_options
from bnexport.recalibration.options import RecalibrationOptions
from bnexport.results.options import OUTPUT, keywords_of, options_of

if TYPE_CHECKING:
    from bnexport.results.outcomes import Recalibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(options.ClusterOptions):
    """Where the work is done, and with which modules."""

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
    result: PlainOutput,
    isolation: Isolation,
) -> int:
    """Give BatchNormalization layers new moving statistics.

    The statistics are computed from the images. The model is not written if its accuracy falls.
    """
    if isolation.wanted:
        return isolation.run()
    workers.modules.load(trust=how.trust)
    from bnexport.recalibration.recalibrate import recalibrate

    if workers.cluster is not None:
        stdio.redirect_other_threads()
    with result.show_progress() as progress:
        done = recalibrate(model, images, output, **keywords_of(how), cluster=workers.cluster, progress=progress)
    _tell(done, result.form, output)
    return 0 if done else 1


def _tell(done: Recalibration, form: PlainFormat, output: Path) -> None:
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        typer.echo(json.dumps(json.recalibration(done)))
        return
    if done.refused:
        typer.echo(f"REFUSED: {output} was not written")
        typer.echo(done.refused)
        typer.echo("  -> check the preprocessing and run bnexport check, or write the model anyway with --force")
    else:
        typer.echo(
            f"{done.written}: {done.sites} BatchNormalization nodes recalibrated from {done.images} images in {done.stages} stages"
        )
    if done.folded:
        typer.echo(f"{done.folded} nodes folded")
    typer.echo(
        f"largest residual: {done.residual.largest:.1e} standard deviations ({done.residual.site or 'all nodes'})"
    )
    if done.before.correct is not None:
        typer.echo(
            f"correct before: {done.before.correct} of {done.before.of}, after: {done.after.correct} of {done.after.of}"
        )
    elif done.before.answers:
        same = sum(a == b for a, b in zip(done.before.answers, done.after.answers, strict=True))
        typer.echo(f"{same} of {len(done.after.answers)} images keep their class (no labels available)")
    for finding in done.findings:
        if not done.refused or finding.message not in done.refused:
            typer.echo(f"{finding.code} {finding.message}")
    if done.written and not done.folded:
        typer.echo(f"next: bnexport check {done.written} IMAGES")
