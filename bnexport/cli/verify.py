"""`bnexport verify`."""

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
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that bnexport pack wrote.")],
    provider: options.Providers = [Provider.AUTO],  # noqa: B006 - typer reads the default, nobody writes to it
    require: options.Require = [],  # noqa: B006 - as above
    rtol: options.Rtol = [],  # noqa: B006 - as above
    atol: options.Atol = [],  # noqa: B006 - as above
    strict_placement: options.StrictPlacement = False,
    gpu_mem_limit: options.GpuMemoryLimit = None,
    form: options.Format = OutputFormat.TEXT,
    report: options.Reports = [],  # noqa: B006 - as above
    untrusted: options.Untrusted = False,
    time_limit: options.TimeLimit = 600,
    memory_limit: options.MemoryLimit = None,
    quiet: options.Quiet = False,
) -> int:
    """Run a bundle here and compare with what Keras computed. Needs no TensorFlow.

    The bundle's hashes detect accidents, not changes by somebody who can rewrite it.
    """
    if untrusted and not confinement.inside():
        return confinement.run(time_limit, values.memory(memory_limit))
    from bnexport.bundles.verify import opened, verified
    from bnexport.cli import telling

    telling.writable(report)
    providers, required = [p.value for p in provider], [r.value for r in require]
    with opened(folder, providers, required) as being_opened, shown(quiet=quiet) as progress:
        telling.ready(form)
        result = verified(
            being_opened,
            providers=providers,
            require=required,
            given=(values.tolerances(rtol, "--rtol") or {}, values.tolerances(atol, "--atol") or {}),
            strict_placement=strict_placement,
            gpu_memory_limit=values.memory(gpu_mem_limit),
            progress=progress,
        )
    telling.tell(result, form)
    telling.save(result, report)
    return 0 if result else 1
