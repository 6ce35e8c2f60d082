"""`bnexport fold`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import confinement, options, values
from bnexport.cli.guard import guarded
from bnexport.cli.options import PlainFormat
from bnexport.cli.progress import shown


@guarded
def command(
    model: Annotated[Path, typer.Argument(metavar="IN.onnx", help="An ONNX file with BatchNormalization nodes.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.onnx", help="Where the folded file goes.")],
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="IMAGES", help="Compare both graphs on these images, not on random ones."),
    ] = None,
    form: options.TextOrJson = PlainFormat.TEXT,
    untrusted: options.Untrusted = False,
    time_limit: options.TimeLimit = 600,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> int:
    """Fold BatchNormalization into the operators beside it. Affine Mul and Add too."""
    if untrusted and not confinement.inside():
        return confinement.run(time_limit, values.memory(memory_limit))
    from bnexport.folding.fold import fold

    with shown(quiet=quiet) as progress:
        done = fold(model, output, images, progress=progress)
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        typer.echo(json.dumps(json.folding(done)))
        return 0 if done else 1
    if done:
        typer.echo(
            f"{done.written}: {len(done.folded)} nodes folded, {len(done.refused)} BatchNormalization nodes left"
        )
        typer.echo(f"both graphs agree within {done.max_rel:.1e} of the size of their outputs")
    else:
        typer.echo(f"REFUSED {output} was not written")
        typer.echo(
            f"folding moves the outputs by {done.max_rel:.1e} of their size, more than the {done.tolerance:.0e} of float rounding"
        )
        typer.echo("  -> some channel has a variance near zero, or values overflow: look at bnexport check")
    for name, reason in done.refused:
        typer.echo(f"left: {name}: {reason}")
    return 0 if done else 1
