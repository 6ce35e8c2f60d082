"""`bnexport check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.isolation import DataIsolation
from bnexport.cli.output_options import TrackedOutput
from bnexport.cli.records import with_options
from bnexport.comparison.options import REFERENCES, CheckOptions
from bnexport.errors import UsageError
from bnexport.results.options import keywords_of


@with_exit_code
@with_options
def command(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help=options.MODEL_HELP, show_default=False)] = None,
    images: options.Images = None,
    *,
    reading: options.Reading,
    how: CheckOptions,
    output: TrackedOutput,
    isolation: DataIsolation,
) -> int:
    """Run a model in Keras and in onnxruntime, and compare.

    Training mode and inference mode are both run. An ONNX file is compared with another one (--deployed), with recorded outputs
    (--reference FILE.npz), or with itself without optimizations.
    """
    if isolation.wanted:
        return isolation.run()
    model, images, how = _settle(model, images, how)
    reading.load(trust=how.trust)
    from bnexport.checking.check import check
    from bnexport.cli import report_output

    report_output.check_writable(output.reports)
    tracker = report_output.open_tracker(output.tracking)
    data = reading.images(images)
    with output.show_progress() as progress:
        keywords = keywords_of(how) | {"local": isolation.local}
        result = check(model, data, **keywords, store=reading.cache(), progress=progress)
    report_output.print_check(result, output.form, verbose=output.verbose)
    report_output.write_reports(result, output.reports)
    if tracker is not None:
        report_output.log_check(result, tracker)
    return 0 if result else 1


def _settle(model: Path | None, images: str | None, how: CheckOptions) -> tuple[Path, str | None, CheckOptions]:
    """Model, images and options; of recorded outputs and a deployed file the latter is the model, and the first argument the images."""
    if how.reference not in REFERENCES and how.onnx is not None and images is None:
        return how.onnx, None if model is None else str(model), replace(how, onnx=None)
    if model is None:
        raise UsageError("a check requires a model", fix="pass a model and data: bnexport check model.keras images/")
    return model, images, how
