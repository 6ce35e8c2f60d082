"""`bnexport pack`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import confinement, options, values
from bnexport.cli.guard import guarded
from bnexport.cli.options import OutputFormat, Provider
from bnexport.cli.progress import shown


class Layout(StrEnum):
    """What else a bundle may hold."""

    TRITON = "triton"


@guarded
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model: .h5, .hdf5, .keras or .onnx.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUNDLE", help="The folder to write.")],
    images: options.Images = None,
    null: options.Null = False,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many of the images it holds, evenly spread.")
    ] = 32,
    layout: Annotated[
        Layout | None,
        typer.Option("--layout", help="triton: also a model repository for NVIDIA Triton, model_repository/NAME."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The model's name in that repository.")] = "",
    onnx: options.Onnx = None,
    inputs: options.Inputs = None,
    provider: options.Providers = [Provider.AUTO],  # noqa: B006 - typer reads the default, nobody writes to it
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
    rtol: options.Rtol = [],  # noqa: B006 - as above
    atol: options.Atol = [],  # noqa: B006 - as above
    trust: options.Trust = False,
    imports: options.Imports = None,
    signature: options.Signature = "",
    no_cache: options.NoCache = False,
    form: options.Format = OutputFormat.TEXT,
    report: options.Reports = [],  # noqa: B006 - as above
    untrusted: options.Untrusted = False,
    allow_remote: options.AllowRemote = False,
    time_limit: options.TimeLimit = 600,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> int:
    """Check a model and write a bundle for another machine. `verify` needs no TensorFlow there."""
    if untrusted and not confinement.inside():
        return confinement.run(time_limit, values.memory(memory_limit))
    if imports:
        from bnexport.frameworks.custom_modules import import_modules

        import_modules(imports, trust=trust)
    from bnexport.bundles.pack import pack
    from bnexport.cli import telling
    from bnexport.comparison.opening import Request

    telling.writable(report)
    request = Request(
        model=model,
        source=values.listed(images, null=null),
        inputs=inputs,
        onnx=onnx,
        labels=labels,
        local=untrusted and not allow_remote,
        providers=[p.value for p in provider],
        require=[r.value for r in require],
        batch_size=batch_size,
        overrides=values.overrides(size, channels, resize, scaling, fit, channel_order, mean, std),
        rtol=values.tolerances(rtol, "--rtol") or {},
        atol=values.tolerances(atol, "--atol") or {},
        store=values.store(no_cache=no_cache or bool(imports)),
        trust=trust,
        signature=signature,
    )
    with shown(quiet=quiet) as progress:
        done = pack(request, output, samples=samples, layout=layout or "", name=name, progress=progress)
    telling.pack(done, form)
    telling.save(done.report, report)
    return 0 if done else 1
