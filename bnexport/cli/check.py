"""`bnexport check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, parsing
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import DataIsolation
from bnexport.cli.output_options import CacheOptions, CheckOutput, TrackingOptions
from bnexport.cli.records import with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import keywords_of


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    images: options.Images = None,
    null: options.Null = False,
    *,
    how: CheckOptions,
    imports: options.Imports = None,
    cache: CacheOptions,
    output: CheckOutput,
    tracking: TrackingOptions,
    isolation: DataIsolation,
) -> int:
    """Run a model in Keras and in onnxruntime, and compare.

    Training mode and inference mode are both run. An ONNX file is compared with itself without optimizations.
    """
    if isolation.wanted:
        return isolation.run()
    options.import_modules(imports, trust=how.trust)
    from bnexport.checking.check import check
    from bnexport.cli import report_output

    report_output.check_writable(output.reports)
    tracker = report_output.open_tracker(tracking)
    data = parsing.read_images_argument(images, null=null)
    with output.show_progress() as progress:
        store = parsing.open_cache(no_cache=cache.no_cache or bool(imports))
        keywords = keywords_of(how) | {"local": isolation.local, "store": store, "progress": progress}
        result = check(model, data, **keywords)
    report_output.print_check(result, output.form)
    report_output.write_reports(result, output.reports)
    if tracker is not None:
        report_output.log_check(result, tracker)
    return 0 if result else 1
