"""`bnexport check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import isolation, isolation_options, options, output_options, parsing, preprocessing_options
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import OutputFormat
from bnexport.cli.progress import show_progress


@with_exit_code
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    images: options.Images = None,
    null: options.Null = False,
    shard: options.Shard = None,
    arrays: options.Arrays = None,
    target: options.Targets = ["onnxruntime"],  # noqa: B006 - typer reads the default, nobody writes to it
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
    deployed: options.Deployed = None,
    rtol: options.Rtol = [],  # noqa: B006 - as above
    atol: options.Atol = [],  # noqa: B006 - as above
    layerwise: Annotated[
        bool,
        typer.Option(
            "--layerwise",
            rich_help_panel=options.TARGETS,
            help="Compare layer by layer even if the outputs agree, and show how the error grows.",
        ),
    ] = False,
    no_cpu_fallback: options.NoCpuFallback = False,
    gpu_mem_limit: options.GpuMemoryLimit = None,
    allow_custom_code: options.AllowCustomCode = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    reference: options.ReferenceOption = options.ReferenceKind.KERAS,
    no_cache: output_options.NoCache = False,
    form: output_options.Format = OutputFormat.TEXT,
    report: output_options.Reports = [],  # noqa: B006 - as above
    mlflow: output_options.Mlflow = False,
    mlflow_uri: output_options.MlflowUri = "",
    mlflow_experiment: output_options.Experiment = "",
    isolate: isolation_options.Isolate = False,
    allow_remote: isolation_options.AllowRemote = False,
    isolate_timeout: isolation_options.IsolateTimeout = 600,
    isolate_memory: isolation_options.IsolateMemory = None,
    quiet: output_options.Quiet = False,
) -> int:
    """Run a model in Keras and in onnxruntime, and compare.

    Training mode and inference mode are both run. An ONNX file is compared with itself without optimizations.
    """
    if isolate and not isolation.is_isolated():
        return isolation.run_isolated(isolate_timeout, parsing.parse_size(isolate_memory))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=allow_custom_code)
    from bnexport.checking.check import check
    from bnexport.cli import report_output

    report_output.check_writable(report)
    tracker = report_output.open_tracker(mlflow_uri, mlflow_experiment, wanted=mlflow)
    with show_progress(quiet=quiet) as progress:
        result = check(
            model,
            parsing.read_images_argument(images, null=null),
            shard=parsing.parse_shard(shard),
            inputs=arrays,
            labels=labels,
            local=isolate and not allow_remote,
            targets=parsing.parse_targets(target),
            require=parsing.parse_required_targets(require_target),
            batch_size=batch_size,
            overrides=parsing.parse_preprocessing(
                size, color_mode, interpolation, normalize, aspect, channel_order, mean, std
            ),
            onnx=deployed,
            rtol=parsing.parse_tolerances(rtol, "--rtol"),
            atol=parsing.parse_tolerances(atol, "--atol"),
            layers=layerwise,
            strict_placement=no_cpu_fallback,
            gpu_memory_limit=parsing.parse_size(gpu_mem_limit),
            store=parsing.open_cache(no_cache=no_cache or bool(imports)),
            trust=allow_custom_code,
            signature=signature,
            reference=reference.value,
            progress=progress,
        )
    report_output.print_check(result, form)
    report_output.write_reports(result, report)
    if tracker is not None:
        report_output.log_check(result, tracker)
    return 0 if result else 1
