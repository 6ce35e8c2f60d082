"""`bnexport export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import Isolation
from bnexport.cli.output_options import PlainFormat, PlainOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.actions import NamedOptions
from bnexport.results.options import OUTPUT, PREPROCESSING
from bnexport.results.overrides import Overrides
from bnexport.results.text import plain


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
    embed_preprocessing: Annotated[
        bool,
        typer.Option(
            "--embed-preprocessing",
            rich_help_panel=PREPROCESSING,
            help="Write a file that takes the pixels of images as uint8 (colors as R G B) in the size of the model, and scales them itself, "
            "as the other options or MODEL.toml say.",
        ),
    ] = False,
    preprocessing: Overrides,
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
            embed_preprocessing=embed_preprocessing,
            overrides=preprocessing,
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
                    "embedded_preprocessing": exported.embedded.as_dict() if exported.embedded else None,
                }
            )
        )
    else:
        typer.echo(
            f"{plain(str(exported.path))}: {exported.nodes} nodes, {exported.batch_normalization} of them BatchNormalization, "
            f"exported in {exported.seconds:.1f} s"
        )
        if exported.embedded:
            colors = ", R G B," if exported.embedded.channels == 3 else ""
            typer.echo(f"it takes uint8 pixels{colors} and scales them itself: {exported.embedded.described}")
        named = {"signature": how.signature, "architecture": how.architecture}
        named |= {"deployed": str(output) if exported.embedded else ""}
        options_of_check = NamedOptions({name: value for name, value in named.items() if value} | preprocessing.given)
        typer.echo(plain(f"next: bnexport check {model} IMAGES {options_of_check.flags}".rstrip()))
    return 0
