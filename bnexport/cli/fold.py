"""`bnexport fold`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import Isolation
from bnexport.cli.output_options import PlainFormat, VerboseOutput
from bnexport.cli.records import with_options
from bnexport.results.options import DATA, OUTPUT


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="IN.onnx", help="An ONNX file with BatchNormalization nodes.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT.onnx",
            rich_help_panel=OUTPUT,
            help="The folded ONNX file to write.",
        ),
    ],
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="IMAGES",
            rich_help_panel=DATA,
            help="Compare both graphs on these images. By default they are compared on random values.",
        ),
    ] = None,
    *,
    result: VerboseOutput,
    isolation: Isolation,
) -> int:
    """Fold BatchNormalization into neighboring operators.

    Constant Mul and Add nodes are folded too, also behind a Transpose. The file is written only if both graphs compute the same.
    """
    if isolation.wanted:
        return isolation.run()
    from bnexport.folding.fold import fold

    with result.show_progress() as progress:
        folding = fold(model, output, images, progress=progress)
    if result.form == PlainFormat.JSON:
        from bnexport.reporting import json

        stdio.print_json(json.dumps(json.folding(folding)))
        return 0 if folding else 1
    from bnexport.reporting.folding import lines

    for line in lines(folding, output, verbose=result.verbose):
        typer.echo(line)
    return 0 if folding else 1
