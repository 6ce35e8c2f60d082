"""`bnexport export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import isolation, isolation_options, options, output_options, parsing
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import PlainFormat
from bnexport.cli.progress import show_progress


@with_exit_code
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
            rich_help_panel=output_options.OUTPUT,
            help="The ONNX file to write.",
        ),
    ],
    form: output_options.TextOrJson = PlainFormat.TEXT,
    allow_custom_code: options.AllowCustomCode = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    isolate: isolation_options.Isolate = False,
    isolate_timeout: isolation_options.IsolateTimeout = 600,
    isolate_memory: isolation_options.IsolateMemory = None,
    quiet: output_options.Quiet = False,
) -> int:
    """Write a Keras model as an ONNX file.

    Every BatchNormalization layer becomes a node with the name of the layer.
    """
    if isolate and not isolation.is_isolated():
        return isolation.run_isolated(isolate_timeout, parsing.parse_size(isolate_memory))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=allow_custom_code)
    from bnexport.exporter.export import export

    with show_progress(quiet=quiet) as progress:
        exported = export(model, output, trust=allow_custom_code, signature=signature, progress=progress)
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        typer.echo(
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
        chosen = f" --signature {shlex.quote(signature)}" if signature else ""
        typer.echo(f"next: bnexport check {model} IMAGES{chosen}")
    return 0
