"""`bnexport reduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import DataIsolation
from bnexport.cli.output_options import CheckOutput
from bnexport.cli.records import Chosen, with_options
from bnexport.comparison.options import CheckOptions
from bnexport.results.options import OUTPUT, keywords_of

NOT_REDUCED = ("shard", "targets", "require", "layers", "strict_placement", "gpu_memory_limit", "reference")
"""Options of a check that a reduction has not: it runs on the CPU."""


@with_exit_code
@with_options
def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", rich_help_panel=OUTPUT, help="The folder to write."),
    ],
    images: options.Images = None,
    *,
    reading: options.Reading,
    how: Annotated[CheckOptions, Chosen(without=NOT_REDUCED)],
    written: Annotated[CheckOutput, Chosen(without={"verbose"})],
    isolation: DataIsolation,
) -> int:
    """Write the part of a graph that shows a fault.

    The model is checked first. The folder contains a script that needs onnxruntime only, as a bug report needs it.
    """
    if isolation.wanted:
        return isolation.run()
    reading.load(trust=how.trust)
    from bnexport.checking.reduction import reduce
    from bnexport.cli import report_output
    from bnexport.comparison.opening import Request

    report_output.check_writable(written.reports)
    source, store = reading.images(images), reading.cache()
    asked = keywords_of(how) | {"local": isolation.local, "providers": ("cpu",)}
    with written.show_progress() as progress:
        reduction = reduce(Request(**asked, model=model, source=source, store=store), output, progress=progress)
    report_output.print_reduction(reduction, written.form)
    report_output.write_reports(reduction.report, written.reports)
    return 0
