"""`bnexport recalibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli import isolation, isolation_options, options, output_options, parsing, preprocessing_options, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.options import Engine
from bnexport.cli.output_options import PlainFormat
from bnexport.cli.progress import show_progress

if TYPE_CHECKING:
    from bnexport.results.outcomes import Recalibration

RECALIBRATION = "Recalibration"
"""The panel that groups the options of the recalibration in the help."""


@with_exit_code
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
            rich_help_panel=output_options.OUTPUT,
            help="The model file to write: .onnx, .keras or .h5.",
        ),
    ] = ...,  # type: ignore[assignment] # typer's way to say that an option is required
    arrays: options.Arrays = None,
    validation_data: Annotated[
        str | None,
        typer.Option(
            "--validation-data",
            metavar="IMAGES",
            rich_help_panel=options.DATA,
            help="Compare the model before and after on these images. By default it is compared on the images that the statistics are computed from.",
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            rich_help_panel=RECALIBRATION,
            help="The largest number of images to use. They are chosen at random.",
        ),
    ] = 2048,
    seed: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=RECALIBRATION, help="The random seed for choosing the images.")
    ] = 0,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            rich_help_panel=RECALIBRATION,
            help="The number of images in a batch. The statistics do not depend on it.",
        ),
    ] = 32,
    labels: options.Labels = None,
    size: preprocessing_options.Size = None,
    color_mode: preprocessing_options.ColorMode = None,
    interpolation: preprocessing_options.Interpolation = None,
    normalize: preprocessing_options.Normalize = None,
    aspect: preprocessing_options.Aspect = None,
    channel_order: preprocessing_options.ChannelOrder = None,
    mean: preprocessing_options.Mean = None,
    std: preprocessing_options.Std = None,
    temp_dir: Annotated[
        Path | None,
        typer.Option(
            "--temp-dir",
            metavar="DIR",
            rich_help_panel=RECALIBRATION,
            help="The folder for tensors that do not fit into memory. By default it is the folder for temporary files.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            rich_help_panel=RECALIBRATION,
            help="The largest amount of memory for tensors that wait for the next stage, for example 500MB or 8GiB. "
            "A plain number is in MB. By default it is half of the free memory.",
        ),
    ] = None,
    fold: Annotated[
        bool,
        typer.Option(
            "--fold",
            rich_help_panel=RECALIBRATION,
            help="Fold the BatchNormalization nodes afterwards. The output must be an ONNX file.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=RECALIBRATION, help="Write the model even if its accuracy falls.")
    ] = False,
    engine: options.EngineKind = Engine.LOCAL,
    address: options.Address = "",
    form: output_options.TextOrJson = PlainFormat.TEXT,
    allow_custom_code: options.AllowCustomCode = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    isolate: isolation_options.Isolate = False,
    isolate_timeout: isolation_options.IsolateTimeout = 600,
    isolate_memory: isolation_options.IsolateMemory = None,
    quiet: output_options.Quiet = False,
) -> int:
    """Give BatchNormalization layers new moving statistics.

    The statistics are computed from the images. The model is not written if its accuracy falls.
    """
    if isolate and not isolation.is_isolated():
        return isolation.run_isolated(isolate_timeout, parsing.parse_size(isolate_memory))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=allow_custom_code)
    from bnexport.recalibration.recalibrate import recalibrate

    cluster = parsing.parse_cluster(engine, address)
    if cluster is not None:
        stdio.redirect_other_threads()

    with show_progress(quiet=quiet) as progress:
        done = recalibrate(
            model,
            images,
            output,
            inputs=arrays,
            evaluate=validation_data,
            labels=labels,
            samples=samples,
            seed=seed,
            batch_size=batch_size,
            overrides=parsing.parse_preprocessing(
                size, color_mode, interpolation, normalize, aspect, channel_order, mean, std
            ),
            scratch=temp_dir,
            memory=parsing.parse_size(memory, unit=1_000_000, least=0),
            fold=fold,
            force=force,
            trust=allow_custom_code,
            signature=signature,
            cluster=cluster,
            progress=progress,
        )
    _tell(done, form, output)
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
