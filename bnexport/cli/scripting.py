"""What a script calls in place of `bnexport batch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnexport.results.batched import Result


def check_options() -> dict[str, str]:
    """The options of `bnexport check` without their dashes, by each of their names: those that a plan may set."""
    import typer

    from bnexport.cli import check
    from bnexport.cli.command import Command
    from bnexport.results.option_names import current_name

    app = typer.Typer(add_completion=False)
    app.command(cls=Command)(check.command)
    spellings = [name for param in typer.main.get_command(app).params for name in param.opts]
    names = [name.removeprefix("--") for name in spellings if name.startswith("--") and name != "--help"]
    return {name: current_name(name) for name in names}


def iter_checks(
    plan: Path | str | Mapping[str, Any],
    *,
    jobs: int = 0,
    timeout: float = 0.0,
    results: Path | str | None = None,
    cluster: str | None = None,
) -> Iterator[Result]:
    """The results of a plan's checks: first those that an earlier run finished, then each as it comes.

    Each check runs in a process of its own; its result is kept before it is given, so that a script that is ended goes on where it was.

    Args:
        plan: a TOML file; or what it would hold, with paths seen from the current folder: `{"check": [{"models": ["a.onnx"], "images": ["set"]}]}`.
        jobs: how many at a time; 0 for what the plan says, or one for each CPU core.
        timeout: seconds for one; 0 for what the plan says, or 600.
        results: the folder of the results; None for the plan's.
        cluster: the address of a Ray cluster, "" for the one that Ray finds or starts; None for this machine.

    Raises:
        InputError: the plan cannot be read.
        UsageError: it is none, or something in it is not there.
        MachineError: the folder of the results cannot be made, or there is no such cluster.
    """
    from bnexport.batch.batch import left, planned, summed
    from bnexport.system.cache import Cache, folder

    wanted = planned(
        Path(plan) if isinstance(plan, str) else plan,
        check_options(),
        Cache(folder()),
        jobs=jobs,
        timeout=timeout,
        results=Path(results) if results is not None else None,
    )
    finished = wanted.finished()
    yield from finished.values()
    found = dict(finished)
    for result in left(wanted, finished, cluster=cluster):
        found[result.key] = result
        yield result
    summed(wanted, found, finished)
