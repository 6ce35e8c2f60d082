"""`bnexport batch`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import options, report_output, scripting, stdio
from bnexport.cli.exit_codes import with_exit_code
from bnexport.cli.output_options import TextOutput, TrackingOptions
from bnexport.cli.records import with_options
from bnexport.results.options import OUTPUT, Flag, option

RUNNING = "Running"
"""The panel that groups the options of running a plan in the help."""


class BatchFormat(StrEnum):
    """The format of a batch on standard output."""

    TEXT = "text"
    NDJSON = "ndjson"
    """one JSON object for each check, as it comes"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(options.ClusterOptions):
    """How a plan is run."""

    jobs: int = option(
        Flag(
            name="jobs",
            short="j",
            kind=int,
            default=0,
            least=0,
            metavar="N",
            panel=RUNNING,
            help="The number of checks that run at the same time. 0 is the number in the plan, or else one for each CPU core.",
        )
    )
    timeout: float = option(
        Flag(
            name="timeout",
            kind=float,
            default=0.0,
            least=0,
            metavar="SECONDS",
            panel=RUNNING,
            help="The longest time for one check, in seconds. 0 is the time in the plan, or else 600.",
        )
    )
    dry_run: bool = option(
        Flag(
            name="dry-run",
            kind=bool,
            default=False,
            panel=RUNNING,
            help="Run no check. List the checks that would run and those that are finished.",
        )
    )


@with_exit_code
@with_options
def command(
    plan: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN.toml",
            help="The plan: a TOML file that lists models, images and options of bnexport check. The documentation has an example.",
        ),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            metavar="DIR",
            rich_help_panel=OUTPUT,
            help="The folder for the results, in place of the folder that the plan names.",
        ),
    ] = None,
    *,
    running: Running,
    tracking: TrackingOptions,
    form: Annotated[
        BatchFormat,
        typer.Option(
            "--format",
            rich_help_panel=OUTPUT,
            help="The format of the result on standard output. ndjson is one JSON object for each check.",
        ),
    ] = BatchFormat.TEXT,
    output: TextOutput,
) -> int:
    """Run every check of a plan.

    Each check runs in a separate process. Checks that an earlier run finished are not run again.
    """
    from rich.console import Console

    from bnexport.batch.batch import left, read_plan, summarise
    from bnexport.cli.batch_progress import show_batch_progress
    from bnexport.reporting import batch as report
    from bnexport.system.files import write_text

    if running.cluster is not None:
        stdio.redirect_other_threads()
    wanted = read_plan(
        plan,
        options.open_cache(),
        jobs=running.jobs,
        timeout=running.timeout,
        results=output_dir,
    )
    console = Console(highlight=False, soft_wrap=True)
    finished = wanted.earlier_results()
    if running.dry_run:
        for key, check in wanted.checks:
            console.print("finished" if key in finished else "to run  ", check.name, markup=False)
        return 0
    tracker = report_output.open_tracker(tracking)
    results = dict(finished)
    with show_batch_progress(len(finished), len(wanted.checks), quiet=output.quiet) as watcher:
        for result in left(wanted, finished, scripting.evaluate, cluster=running.cluster, began=watcher.start_check):
            results[result.key] = result
            watcher.finish_check(result)
            if form == BatchFormat.NDJSON:
                stdio.print_json(report.record(result))
    batch_report = summarise(wanted, results, finished)
    summaries = {
        "summary.ndjson": report.ndjson(batch_report),
        "summary.xml": report.junit(batch_report),
        "summary.md": report.markdown(batch_report),
        "summary.html": report.html(batch_report),
    }
    for name, content in summaries.items():
        write_text(batch_report.path / name, content)
    if form == BatchFormat.NDJSON:
        for result in batch_report.results:
            if result.name not in batch_report.repeated:
                stdio.print_json(report.record(result))
    else:
        report.show(batch_report, console, verbose=output.verbose)
    if tracker is not None:
        report_output.log_batch(batch_report, plan.stem, summaries, tracker)
    return batch_report.exit_code
