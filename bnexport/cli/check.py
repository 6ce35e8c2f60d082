"""`bnexport check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import DataIsolation
from bnexport.cli.output_options import TrackedOutput
from bnexport.cli.records import with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import keywords_of


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    images: options.Images = None,
    *,
    reading: options.Reading,
    how: CheckOptions,
    output: TrackedOutput,
    isolation: DataIsolation,
) -> int:
    """Run a model in Keras and in onnxruntime, and compare.

    Training mode and inference mode are both run. An ONNX file is compared with itself without optimizations.
    """
    if isolation.wanted:
        return isolation.run()
    reading.load(trust=how.trust)
    from bnexport.checking.check import check
    from bnexport.cli import report_output

    report_output.check_writable(output.reports)
    tracker = report_output.open_tracker(output.tracking)
    data = reading.images(images)
    with output.show_progress() as progress:
        keywords = keywords_of(how) | {"local": isolation.local}
        result = check(model, data, **keywords, store=reading.cache(), progress=progress)
    report_output.print_check(result, output.form)
    report_output.write_reports(result, output.reports)
    if tracker is not None:
        report_output.log_check(result, tracker)
    return 0 if result else 1
