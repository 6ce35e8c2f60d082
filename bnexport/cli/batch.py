"""`bnexport batch`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bnexport.cli import answer, options, scripting, telling, values
from bnexport.cli.guard import guarded
from bnexport.cli.options import Engine


class BatchFormat(StrEnum):
    """How stdout tells a batch."""

    TEXT = "text"
    NDJSON = "ndjson"
    """one JSON object for each check, as it comes"""


@guarded
def command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="What to check: see the README, Many models.")],
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=0, help="How many checks at a time; 0: what the plan says, or one for each CPU core."
        ),
    ] = 0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="For one check; 0: what the plan says, or 600.")
    ] = 0.0,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="DIR", help="The folder of the results, in place of the plan's.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run, and what is finished already.")
    ] = False,
    engine: options.EngineKind = Engine.LOCAL,
    address: options.Address = "",
    mlflow: options.Mlflow = False,
    mlflow_uri: options.MlflowUri = "",
    mlflow_experiment: options.Experiment = "",
    form: Annotated[BatchFormat, typer.Option("--format", help="How stdout tells the answer.")] = BatchFormat.TEXT,
    quiet: options.Quiet = False,
) -> int:
    """Run every check of a plan. Each has a process of its own; what an earlier run finished is not repeated."""
    from rich.console import Console

    from bnexport.batch.batch import left, planned, summed
    from bnexport.cli.watching import watched
    from bnexport.reporting import batch as report
    from bnexport.system.files import write_text

    cluster = values.cluster(engine, address)
    if cluster is not None:
        answer.keep_clean()
    wanted = planned(
        plan, scripting.check_options(), values.store(no_cache=False), jobs=jobs, timeout=timeout, results=results
    )
    console = Console(highlight=False, soft_wrap=True)
    finished = wanted.finished()
    if dry_run:
        for key, check in wanted.checks:
            console.print("finished" if key in finished else "to run  ", check.name, markup=False)
        return 0
    tracker = telling.tracker(mlflow_uri, mlflow_experiment, wanted=mlflow)
    found = dict(finished)
    with watched(len(finished), len(wanted.checks), quiet=quiet) as watcher:
        for result in left(wanted, finished, cluster=cluster, began=watcher.began):
            found[result.key] = result
            watcher.ended(result)
            if form == BatchFormat.NDJSON:
                typer.echo(report.record(result))
    done = summed(wanted, found, finished)
    summaries = {
        "summary.ndjson": report.ndjson(done),
        "summary.xml": report.junit(done),
        "summary.md": report.markdown(done),
        "summary.html": report.html(done),
    }
    for name, content in summaries.items():
        write_text(done.path / name, content)
    if form == BatchFormat.NDJSON:
        for result in done.results:
            if result.name not in done.repeated:
                typer.echo(report.record(result))
    else:
        report.show(done, console)
    if tracker is not None:
        telling.track_batch(done, plan.stem, summaries, tracker)
    return done.exit_code
