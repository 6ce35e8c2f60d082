"""`bnexport check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import confinement, options, values
from bnexport.cli.guard import guarded
from bnexport.cli.options import OutputFormat, Provider
from bnexport.cli.progress import shown


@guarded
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model: .h5, .hdf5, .keras or .onnx.")],
    images: options.Images = None,
    null: options.Null = False,
    shard: options.Shard = None,
    inputs: options.Inputs = None,
    provider: options.Providers = [Provider.AUTO],  # noqa: B006 - typer reads the default, nobody writes to it
    target: options.Targets = [],  # noqa: B006 - as above
    require: options.Require = [],  # noqa: B006 - as above
    batch_size: options.BatchSize = 32,
    labels: options.Labels = None,
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.ResizeKernel = None,
    scaling: options.ScalingKind = None,
    fit: options.FitKind = None,
    channel_order: options.ChannelOrder = None,
    mean: options.Mean = None,
    std: options.Std = None,
    onnx: options.Onnx = None,
    rtol: options.Rtol = [],  # noqa: B006 - as above
    atol: options.Atol = [],  # noqa: B006 - as above
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Compare layer by layer also where the outputs agree, and show how the error grows."
        ),
    ] = False,
    strict_placement: options.StrictPlacement = False,
    gpu_mem_limit: options.GpuMemoryLimit = None,
    trust: options.Trust = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    reference: options.ReferenceOption = options.ReferenceKind.KERAS,
    no_cache: options.NoCache = False,
    form: options.Format = OutputFormat.TEXT,
    report: options.Reports = [],  # noqa: B006 - as above
    mlflow: options.Mlflow = False,
    mlflow_uri: options.MlflowUri = "",
    mlflow_experiment: options.Experiment = "",
    untrusted: options.Untrusted = False,
    allow_remote: options.AllowRemote = False,
    time_limit: options.TimeLimit = 600,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> int:
    """Run a model in Keras and onnxruntime, and compare. Training and inference mode both."""
    if untrusted and not confinement.inside():
        return confinement.run(time_limit, values.memory(memory_limit))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=trust)
    from bnexport.checking.check import check
    from bnexport.cli import telling

    telling.writable(report)
    tracker = telling.tracker(mlflow_uri, mlflow_experiment, wanted=mlflow)
    with shown(quiet=quiet) as progress:
        result = check(
            model,
            values.listed(images, null=null),
            shard=values.part(shard),
            inputs=inputs,
            labels=labels,
            local=untrusted and not allow_remote,
            providers=[p.value for p in provider],
            targets=target,
            require=[r.value for r in require],
            batch_size=batch_size,
            overrides=values.overrides(size, channels, resize, scaling, fit, channel_order, mean, std),
            onnx=onnx,
            rtol=values.tolerances(rtol, "--rtol"),
            atol=values.tolerances(atol, "--atol"),
            layers=layers,
            strict_placement=strict_placement,
            gpu_memory_limit=values.memory(gpu_mem_limit),
            store=values.store(no_cache=no_cache or bool(imports)),
            trust=trust,
            signature=signature,
            reference=reference.value,
            progress=progress,
        )
    telling.tell(result, form)
    telling.save(result, report)
    if tracker is not None:
        telling.track(result, tracker)
    return 0 if result else 1
