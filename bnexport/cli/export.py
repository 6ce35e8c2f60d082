"""`bnexport export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import Isolation
from bnexport.cli.output_options import PlainFormat, PlainOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import OUTPUT


@with_exit_code
@with_options
def command(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="The model: a Keras file (.h5, .hdf5 or .keras) or the folder of a SavedModel."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="MODEL.onnx",
            rich_help_panel=OUTPUT,
            help="The ONNX file to write.",
        ),
    ],
    *,
    result: PlainOutput,
    how: Annotated[CheckOptions, Chosen({"trust", "signature", "architecture"})],
    modules: options.Modules,
    isolation: Isolation,
) -> int:
    """Write a Keras model as an ONNX file.

    Every BatchNormalization layer becomes a node with the name of the layer.
    """
    if isolation.wanted:
        return isolation.run()
    modules.load(trust=how.trust)
    from bnexport.exporter.export import export

    with result.show_progress() as progress:
        exported = export(
            model,
            output,
            trust=how.trust,
            signature=how.signature,
            architecture=how.architecture,
            progress=progress,
        )
    if result.form == PlainFormat.JSON:
        from bnexport.reporting import json

        stdio.print_json(
            json.dumps(
                {
                    "schema_version": json.SCHEMA_VERSION,
                    "path": str(exported.path),
                    "nodes": exported.nodes,
                    "batch_normalization": exported.batch_normalization,
                    "seconds": exported.seconds,
                    "inputs": exported.inputs,
                    "outputs": exported.outputs,
                    "logits": exported.logits,
                }
            )
        )
    else:
        typer.echo(
            f"{exported.path}: {exported.nodes} nodes, {exported.batch_normalization} of them BatchNormalization, exported in {exported.seconds:.1f} s"
        )
        named = {"signature": how.signature, "architecture": how.architecture}
        chosen = "".join(f" --{name} {shlex.quote(value)}" for name, value in named.items() if value)
        typer.echo(f"next: bnexport check {model} IMAGES{chosen}")
    return 0
