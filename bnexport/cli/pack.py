"""`bnexport pack`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, parsing
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import DataIsolation
from bnexport.cli.output_options import CacheOptions, CheckOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import OUTPUT, keywords_of

NOT_PACKED = ("shard", "targets", "layers", "strict_placement", "gpu_memory_limit", "reference")
"""Options of a check that packing has not."""

BUNDLE = "Bundle"
"""The panel that groups the options of the bundle in the help."""


class Layout(StrEnum):
    """An additional layout in a bundle."""

    TRITON = "triton"


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="BUNDLE", rich_help_panel=OUTPUT, help="The folder to write."),
    ],
    images: options.Images = None,
    null: options.Null = False,
    *,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            min=1,
            rich_help_panel=BUNDLE,
            help="The number of images in the bundle, evenly spaced in the dataset.",
        ),
    ] = 32,
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            rich_help_panel=BUNDLE,
            help="Also write this layout to the bundle. triton is a model repository for NVIDIA Triton in model_repository/NAME.",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            rich_help_panel=BUNDLE,
            help="The name of the model in the Triton repository. By default it is the name of the model file. Used with --layout triton.",
        ),
    ] = "",
    targets: options.OnnxruntimeTargets,
    how: Annotated[CheckOptions, Chosen(without=NOT_PACKED)],
    imports: options.Imports = None,
    cache: CacheOptions,
    written: CheckOutput,
    isolation: DataIsolation,
) -> int:
    """Check a model and write a bundle for another machine.

    On the other machine, bnexport verify runs the bundle without TensorFlow.
    """
    if isolation.wanted:
        return isolation.run()
    options.import_modules(imports, trust=how.trust)
    from bnexport.bundles.pack import pack
    from bnexport.cli import report_output
    from bnexport.comparison.opening import Request

    report_output.check_writable(written.reports)
    asked = keywords_of(how) | {"providers": targets.providers, "local": isolation.local}
    store = parsing.open_cache(no_cache=cache.no_cache or bool(imports))
    request = Request(**asked, model=model, source=parsing.read_images_argument(images, null=null), store=store)
    with written.show_progress() as progress:
        done = pack(request, output, samples=samples, layout=layout or "", name=name, progress=progress)
    report_output.print_bundle(done, written.form)
    report_output.write_reports(done.report, written.reports)
    return 0 if done else 1
