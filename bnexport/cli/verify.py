"""`bnexport verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import confinement, isolation_options, options, output_options, values
from bnexport.cli.guard import guarded
from bnexport.cli.output_options import OutputFormat
from bnexport.cli.progress import shown


@guarded
def command(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder written by bnexport pack.")],
    target: options.OnnxruntimeTargets = ["onnxruntime"],  # noqa: B006 - typer reads the default, nobody writes to it
    require_target: options.RequireTargets = [],  # noqa: B006 - as above
    rtol: options.Rtol = [],  # noqa: B006 - as above
    atol: options.Atol = [],  # noqa: B006 - as above
    no_cpu_fallback: options.NoCpuFallback = False,
    gpu_mem_limit: options.GpuMemoryLimit = None,
    form: output_options.Format = OutputFormat.TEXT,
    report: output_options.Reports = [],  # noqa: B006 - as above
    isolate: isolation_options.Isolate = False,
    isolate_timeout: isolation_options.IsolateTimeout = 600,
    isolate_memory: isolation_options.IsolateMemory = None,
    quiet: output_options.Quiet = False,
) -> int:
    """Run a bundle on this machine and compare with Keras.

    The bundle holds the outputs that Keras computed, so TensorFlow is not needed. The hashes in a bundle detect corruption, but not changes by someone who can rewrite the bundle.
    """
    if isolate and not confinement.inside():
        return confinement.run(isolate_timeout, values.memory(isolate_memory))
    from bnexport.bundles.verify import opened, verified
    from bnexport.cli import telling

    telling.writable(report)
    providers, required = values.providers(target), values.required_targets(require_target)
    with opened(folder, providers, required) as being_opened, shown(quiet=quiet) as progress:
        telling.ready(form)
        result = verified(
            being_opened,
            providers=providers,
            require=required,
            given=(values.tolerances(rtol, "--rtol") or {}, values.tolerances(atol, "--atol") or {}),
            strict_placement=no_cpu_fallback,
            gpu_memory_limit=values.memory(gpu_mem_limit),
            progress=progress,
        )
    telling.tell(result, form)
    telling.save(result, report)
    return 0 if result else 1
