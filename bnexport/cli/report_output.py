"""How a check is reported: on stdout in the format that was asked for, and in report files by their suffix."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bnexport.cli import stdio
from bnexport.cli.output_options import OutputFormat, TrackingOptions
from bnexport.errors import InputError, MachineError, UsageError

if TYPE_CHECKING:
    from bnexport.bundles.pack import Packing
    from bnexport.checking.reduction import Reduction
    from bnexport.reporting.tracking import Tracker
    from bnexport.results.batched import Batch
    from bnexport.results.facts import Readable
    from bnexport.results.verdict import CheckReport

SUFFIXES = (".json", ".xml", ".html", ".md")


def check_writable(paths: Sequence[Path]) -> None:
    """Makes sure, before anything is computed, that reports can be written.

    Raises:
        UsageError: a suffix is unknown or a folder does not exist.
        MachineError: a package that a report is made with is missing.
    """
    from bnexport.system import files

    for path in paths:
        files.writable(path, SUFFIXES)
    if any(path.suffix == ".html" for path in paths):
        _needs_html()


def _needs_html() -> None:
    if not find_spec("matplotlib"):
        raise MachineError("an HTML report needs matplotlib", fix="install it with: pip install 'bnexport[report]'")


def import_early(form: OutputFormat) -> None:
    """Imports what telling a check as text needs, for whoever has to wait for something else anyway."""
    if form == OutputFormat.TEXT:
        for module in ("rich.console", "bnexport.reporting.summary"):
            import_module(module)


def print_check(result: CheckReport, form: OutputFormat, *, verbose: bool = False) -> None:
    """Prints a check on stdout; as "github" also into the step summary, where there is one.

    Args:
        result: the check.
        form: the format.
        verbose: everything; else text is one screen.
    """
    if form == OutputFormat.TEXT:
        from bnexport.cli.console import stdout_console
        from bnexport.reporting.summary import show_summary
        from bnexport.reporting.text import show_check

        console, width = stdout_console()
        if verbose:
            show_check(result, console)
        else:
            show_summary(result, console, width=width)
        return
    if form == OutputFormat.GITHUB:
        from bnexport.reporting import github, markdown

        typer.echo(github.check(result))
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            try:
                with Path(summary).open("a", encoding="utf-8") as stream:
                    stream.write(markdown.check(result))
            except OSError as error:
                raise MachineError(f"cannot write the step summary {summary} ({error.strerror})") from error
        return
    if form == OutputFormat.NDJSON:
        from bnexport.reporting import ndjson

        for line in ndjson.check(result):
            stdio.print_json(line)
        return
    if form == OutputFormat.JUNIT:
        stdio.print_xml(_text(result, ".xml"))
    else:
        stdio.print_json(_text(result, ".json"))


def write_reports(result: CheckReport, paths: Sequence[Path]) -> None:
    """Writes a check to files, each whole or not at all."""
    from bnexport.system import files

    for path in paths:
        files.write_text(path, _text(result, path.suffix) + "\n")


def _text(result: CheckReport, suffix: str) -> str:
    match suffix:
        case ".html":
            from bnexport.reporting import html

            return html.check(result, [_thumbnail(picture) for picture in result.images.first])
        case ".xml":
            from bnexport.reporting import junit

            return junit.check(result)
        case ".md":
            from bnexport.reporting import markdown

            return markdown.check(result)
    from bnexport.reporting import json

    return json.dumps(json.check(result))


def open_tracker(tracking: TrackingOptions) -> Tracker | None:
    """The MLflow store, opened before anything is computed; None where it is not wanted.

    Raises:
        UsageError: a store is named and not wanted.
        MachineError: mlflow or what the report is made with is missing, or the store does not answer.
    """
    if not tracking.wanted:
        if tracking.uri or tracking.experiment:
            raise UsageError("--mlflow-uri and --mlflow-experiment say where to log", fix="add --mlflow")
        return None
    _needs_html()
    from bnexport.reporting.tracking import Tracker

    return Tracker(tracking.uri, tracking.experiment)


def log_check(result: CheckReport, tracker: Tracker) -> None:
    """Logs a check as a run of its own, with its report as HTML and JSON."""
    from bnexport.reporting import json, markdown

    artifacts = {f"report{suffix}": _text(result, suffix) for suffix in (".html", ".json")}
    note = markdown.check(result)
    run = tracker.check(Path(result.model.path).name, json.check(result), artifacts, note=note)
    typer.echo(f"logged to {tracker.uri} as run {run}", err=True)


def log_batch(batch: Batch, name: str, summaries: Mapping[str, str], tracker: Tracker) -> None:
    """Logs a batch as a run, and each check that was run now as one below it."""
    from bnexport.reporting import json

    run = tracker.batch(name, Counter(result.status for result in batch.results), summaries, summaries["summary.md"])
    for result in batch.results:
        if result.name not in batch.repeated:
            continue
        if result.report is None:
            tracker.record_failure(result.name, result.error, run)
        else:
            tracker.check(result.name, result.report, {"report.json": json.dumps(result.report)}, run)
    typer.echo(f"logged to {tracker.uri} as run {run}", err=True)


def _thumbnail(picture: Readable) -> bytes | None:
    from bnexport import datasets

    try:
        return datasets.thumbnail(picture.read())
    except InputError:
        return None  # it is gone since it was read


def print_reduction(reduction: Reduction, form: OutputFormat) -> None:
    """Prints what a reduction wrote; in any format but text and JSON, the check that was made first."""
    if form in (OutputFormat.JUNIT, OutputFormat.GITHUB, OutputFormat.NDJSON):
        print_check(reduction.report, form)
        return
    from bnexport.reporting import json
    from bnexport.results.text import plain

    if form == OutputFormat.JSON:
        stdio.print_json(
            json.dumps(
                json.reduction(
                    reduction.path,
                    reduction.finding,
                    reduction.nodes,
                    reduction.error,
                    reduction.report,
                    random_weights=reduction.random_weights,
                )
            )
        )
        return
    count = len(reduction.nodes)
    weights = ", with random weights" if reduction.random_weights else ""
    typer.echo(
        f"{plain(str(reduction.path))}: {count} {'node' if count == 1 else 'nodes'}{weights}; relative error {reduction.error:.2g}"
    )
    typer.echo(plain(f"{reduction.finding.code} {reduction.finding.message}"))
    for node in reduction.nodes:
        typer.echo(f"  {plain(node)}")
    typer.echo(f"next: python {plain(str(reduction.path / 'repro.py'))}")


def print_bundle(packing: Packing, form: OutputFormat) -> None:
    """Prints what became of a packing; in any format but text and JSON, the check that was made first."""
    if form in (OutputFormat.JUNIT, OutputFormat.GITHUB, OutputFormat.NDJSON):
        print_check(packing.report, form)
        return
    if form == OutputFormat.JSON:
        from bnexport.reporting import json

        stdio.print_json(
            json.dumps(
                json.packing(packing.path, packing.samples, packing.sets, packing.size, packing.refused, packing.report)
            )
        )
        return
    from rich.console import Console

    from bnexport.reporting.text import show_packing

    show_packing(
        packing.path,
        packing.samples,
        packing.sets,
        packing.size,
        packing.refused,
        packing.report,
        Console(highlight=False),
    )
