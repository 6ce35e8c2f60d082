"""`bnexport recalibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexport.cli import answer, confinement, options, values
from bnexport.cli.guard import guarded
from bnexport.cli.options import Engine, PlainFormat
from bnexport.cli.progress import shown

if TYPE_CHECKING:
    from bnexport.results.outcomes import Recalibration


@guarded
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model: .h5, .hdf5, .keras or .onnx.")],
    images: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGES", help="The images whose statistics the model shall have: named as for bnexport check."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where the model goes: .onnx, .keras or .h5.")
    ] = ...,  # type: ignore[assignment] # typer's way to say that an option is required
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="FILE.npz", help="Arrays in place of images.")
    ] = None,
    evaluate: Annotated[
        str | None, typer.Option("--eval", metavar="IMAGES", help="Judge before and after on these images instead.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many images, chosen at random.")] = 2048,
    seed: Annotated[int, typer.Option(help="For that choice.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images at a time; the result does not depend on it.")
    ] = 32,
    labels: options.Labels = None,
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.ResizeKernel = None,
    scaling: options.ScalingKind = None,
    fit: options.FitKind = None,
    channel_order: options.ChannelOrder = None,
    mean: options.Mean = None,
    std: options.Std = None,
    scratch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where tensors go that do not fit into memory.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory", min=0, metavar="MB", help="How much of them stays in memory; default: half of what is free."
        ),
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold the BatchNormalization nodes afterwards; for .onnx.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write even where accuracy falls.")] = False,
    engine: options.EngineKind = Engine.LOCAL,
    address: options.Address = "",
    form: options.TextOrJson = PlainFormat.TEXT,
    trust: options.Trust = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    untrusted: options.Untrusted = False,
    time_limit: options.TimeLimit = 600,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> int:
    """Give BatchNormalization layers the statistics of images. Refused where that does harm."""
    if untrusted and not confinement.inside():
        return confinement.run(time_limit, values.memory(memory_limit))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=trust)
    from bnexport.recalibration.recalibrate import recalibrate

    cluster = values.cluster(engine, address)
    if cluster is not None:
        answer.keep_clean()

    with shown(quiet=quiet) as progress:
        done = recalibrate(
            model,
            images,
            output,
            inputs=inputs,
            evaluate=evaluate,
            labels=labels,
            samples=samples,
            seed=seed,
            batch_size=batch_size,
            overrides=values.overrides(size, channels, resize, scaling, fit, channel_order, mean, std),
            scratch=scratch,
            memory=None if memory is None else memory * 1_000_000,
            fold=fold,
            force=force,
            trust=trust,
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
        typer.echo(f"REFUSED {output} was not written")
        typer.echo(done.refused)
        typer.echo("  -> look at the preprocessing and at bnexport check; --force writes all the same")
    else:
        typer.echo(
            f"{done.written}: {done.sites} BatchNormalization nodes, from {done.images} images in {done.stages} stages"
        )
    if done.folded:
        typer.echo(f"{done.folded} nodes folded")
    typer.echo(
        f"residual {done.residual.largest:.1e} of a standard deviation at most ({done.residual.site or 'everywhere'})"
    )
    if done.before.correct is not None:
        typer.echo(
            f"right before {done.before.correct} of {done.before.of}, after {done.after.correct} of {done.after.of}"
        )
    elif done.before.answers:
        same = sum(a == b for a, b in zip(done.before.answers, done.after.answers, strict=True))
        typer.echo(f"{same} of {len(done.after.answers)} images keep their class (no labels are known)")
    for finding in done.findings:
        if not done.refused or finding.message not in done.refused:
            typer.echo(f"{finding.code} {finding.message}")
    if done.written and not done.folded:
        typer.echo(f"next: bnexport check {done.written} IMAGES")
