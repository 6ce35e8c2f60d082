"""`bnexport verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import isolation, isolation_options, options, output_options, parsing
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import OutputFormat
from bnexport.cli.progress import show_progress


@with_exit_code
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

    The bundle holds the outputs that Keras computed, so TensorFlow is not needed. The hashes in a bundle detect
    corruption, but not changes by someone who can rewrite the bundle.
    """
    if isolate and not isolation.is_isolated():
        return isolation.run_isolated(isolate_timeout, parsing.parse_size(isolate_memory))
    from bnexport.bundles.verify import compare_with_bundle, start_opening
    from bnexport.cli import report_output

    report_output.check_writable(report)
    providers, required = parsing.parse_providers(target), parsing.parse_required_targets(require_target)
    with start_opening(folder, providers, required) as being_opened, show_progress(quiet=quiet) as progress:
        report_output.import_early(form)
        result = compare_with_bundle(
            being_opened,
            providers=providers,
            require=required,
            given=(parsing.parse_tolerances(rtol, "--rtol") or {}, parsing.parse_tolerances(atol, "--atol") or {}),
            strict_placement=no_cpu_fallback,
            gpu_memory_limit=parsing.parse_size(gpu_mem_limit),
            progress=progress,
        )
    report_output.print_check(result, form)
    report_output.write_reports(result, report)
    return 0 if result else 1
