"""`bnexport export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import confinement, options, values
from bnexport.cli.guard import guarded
from bnexport.cli.options import PlainFormat
from bnexport.cli.progress import shown


@guarded
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A Keras model: .h5, .hdf5 or .keras.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL.onnx", help="Where the ONNX file goes.")],
    form: options.TextOrJson = PlainFormat.TEXT,
    trust: options.Trust = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    untrusted: options.Untrusted = False,
    time_limit: options.TimeLimit = 600,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> int:
    """Write a Keras model as ONNX. Every BatchNormalization layer stays a named node."""
    if untrusted and not confinement.inside():
        return confinement.run(time_limit, values.memory(memory_limit))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=trust)
    from bnexport.exporter.export import export

    with shown(quiet=quiet) as progress:
        done = export(model, output, trust=trust, signature=signature, progress=progress)
    if form == PlainFormat.JSON:
        from bnexport.reporting import json

        typer.echo(
            json.dumps(
                {
                    "schema_version": json.SCHEMA_VERSION,
                    "path": str(done.path),
                    "nodes": done.nodes,
                    "batch_normalization": done.batch_normalization,
                    "seconds": done.seconds,
                    "inputs": done.inputs,
                    "outputs": done.outputs,
                    "logits": done.logits,
                }
            )
        )
    else:
        typer.echo(
            f"{done.path}: {done.nodes} nodes, {done.batch_normalization} of them BatchNormalization, in {done.seconds:.1f} s"
        )
        chosen = f" --signature {shlex.quote(signature)}" if signature else ""
        typer.echo(f"next: bnexport check {model} IMAGES{chosen}")
    return 0
