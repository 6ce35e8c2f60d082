"""`bnexport pack`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import isolation, isolation_options, options, output_options, parsing, preprocessing_options
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import OutputFormat
from bnexport.cli.progress import show_progress

BUNDLE = "Bundle"
"""The panel that groups the options of the bundle in the help."""


class Layout(StrEnum):
    """An additional layout in a bundle."""

    TRITON = "triton"


@with_exit_code
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="BUNDLE", rich_help_panel=output_options.OUTPUT, help="The folder to write."
        ),
    ],
    images: options.Images = None,
    null: options.Null = False,
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
    deployed: options.Deployed = None,
    arrays: options.Arrays = None,
    target: options.OnnxruntimeTargets = ["onnxruntime"],  # noqa: B006 - typer reads the default, nobody writes to it
    require_target: options.RequireTargets = [],  # noqa: B006 - as above
    batch_size: options.BatchSize = 32,
    labels: options.Labels = None,
    size: preprocessing_options.Size = None,
    color_mode: preprocessing_options.ColorMode = None,
    interpolation: preprocessing_options.Interpolation = None,
    normalize: preprocessing_options.Normalize = None,
    aspect: preprocessing_options.Aspect = None,
    channel_order: preprocessing_options.ChannelOrder = None,
    mean: preprocessing_options.Mean = None,
    std: preprocessing_options.Std = None,
    rtol: options.Rtol = [],  # noqa: B006 - as above
    atol: options.Atol = [],  # noqa: B006 - as above
    allow_custom_code: options.AllowCustomCode = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    no_cache: output_options.NoCache = False,
    form: output_options.Format = OutputFormat.TEXT,
    report: output_options.Reports = [],  # noqa: B006 - as above
    isolate: isolation_options.Isolate = False,
    allow_remote: isolation_options.AllowRemote = False,
    isolate_timeout: isolation_options.IsolateTimeout = 600,
    isolate_memory: isolation_options.IsolateMemory = None,
    quiet: output_options.Quiet = False,
) -> int:
    """Check a model and write a bundle for another machine.

    On the other machine, bnexport verify runs the bundle without TensorFlow.
    """
    if isolate and not isolation.is_isolated():
        return isolation.run_isolated(isolate_timeout, parsing.parse_size(isolate_memory))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=allow_custom_code)
    from bnexport.bundles.pack import pack
    from bnexport.cli import report_output
    from bnexport.comparison.opening import Request

    report_output.check_writable(report)
    request = Request(
        model=model,
        source=parsing.read_images_argument(images, null=null),
        inputs=arrays,
        onnx=deployed,
        labels=labels,
        local=isolate and not allow_remote,
        providers=parsing.parse_providers(target),
        require=parsing.parse_required_targets(require_target),
        batch_size=batch_size,
        overrides=parsing.parse_preprocessing(
            size, color_mode, interpolation, normalize, aspect, channel_order, mean, std
        ),
        rtol=parsing.parse_tolerances(rtol, "--rtol") or {},
        atol=parsing.parse_tolerances(atol, "--atol") or {},
        store=parsing.open_cache(no_cache=no_cache or bool(imports)),
        trust=allow_custom_code,
        signature=signature,
    )
    with show_progress(quiet=quiet) as progress:
        done = pack(request, output, samples=samples, layout=layout or "", name=name, progress=progress)
    report_output.print_bundle(done, form)
    report_output.write_reports(done.report, report)
    return 0 if done else 1
