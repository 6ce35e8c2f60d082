"""`bnexport pack`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options
from bnexport.cli.bundle_options import SigningOptions
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import DataIsolation
from bnexport.cli.output_options import CheckOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import OUTPUT, Flag, keywords_of, option, options_of

NOT_PACKED = (
    "shard",
    "targets",
    "python",
    "speed",
    "max_slowdown",
    "layers",
    "strict_placement",
    "gpu_memory_limit",
    "reference",
)
"""Options of a check that packing has not."""

BUNDLE = "Bundle"
"""The panel that groups the options of the bundle in the help."""


class Layout(StrEnum):
    """An additional layout in a bundle."""

    TRITON = "triton"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOptions:
    """What a bundle holds."""

    samples: int = option(
        Flag(
            name="samples",
            kind=int,
            default=32,
            least=1,
            metavar="N",
            panel=BUNDLE,
            help="The number of images in the bundle, evenly spaced in the dataset.",
        )
    )
    layout: Layout | None = option(
        Flag(
            name="layout",
            kind=Layout,
            panel=BUNDLE,
            help="Also write this layout to the bundle. triton is a model repository for NVIDIA Triton in model_repository/NAME.",
        )
    )
    name: str = option(
        Flag(
            name="name",
            default="",
            metavar="NAME",
            panel=BUNDLE,
            help="The name of the model in the Triton repository. By default it is the name of the model file. Used with --layout triton.",
        )
    )
    with_inputs: bool = option(
        Flag(
            name="with-inputs",
            kind=bool,
            default=False,
            panel=BUNDLE,
            help="Also write the inputs as .npy files and a table of the items, items.csv, for programs whose outputs "
            "bnexport verify --recorded compares.",
        )
    )
    reading: options.Reading = options_of(options.Reading)
    targets: options.OnnxruntimeTargets = options_of(options.OnnxruntimeTargets)


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="BUNDLE", rich_help_panel=OUTPUT, help="The folder to write."),
    ],
    images: options.Images = None,
    *,
    bundle: BundleOptions,
    signing: SigningOptions,
    how: Annotated[CheckOptions, Chosen(without=NOT_PACKED)],
    written: Annotated[CheckOutput, Chosen(without={"verbose"})],
    isolation: DataIsolation,
) -> int:
    """Check a model and write a bundle for another machine.

    On the other machine, bnexport verify runs the bundle without TensorFlow.
    """
    if isolation.wanted:
        return isolation.run()
    bundle.reading.load(trust=how.trust)
    from bnexport.bundles.pack import pack
    from bnexport.cli import report_output
    from bnexport.comparison.opening import Request

    report_output.check_writable(written.reports)
    signed_with = signing.read()
    asked = keywords_of(how) | {"providers": bundle.targets.providers, "local": isolation.local}
    source, store = bundle.reading.images(images), bundle.reading.cache()
    with written.show_progress() as progress:
        packing = pack(
            Request(**asked, model=model, source=source, store=store),
            output,
            samples=bundle.samples,
            layout=bundle.layout or "",
            name=bundle.name,
            signing=signed_with,
            with_inputs=bundle.with_inputs,
            progress=progress,
        )
    report_output.print_bundle(packing, written.form)
    report_output.write_reports(packing.report, written.reports)
    return 0 if packing else 1
