"""What a script calls in place of `bnexport batch`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport.cli import exit_codes, options, stdio
from bnexport.results.options import keywords_of

if TYPE_CHECKING:
    from bnexport.batch.plan import Check
    from bnexport.results.batched import Result


def evaluate(check: Check) -> None:
    """Runs a check of a batch in this process, which ends with it: the report as JSON on stdout, or a sentence on stderr."""
    from bnexport import cli

    cli.end_with(lambda: sys.exit(exit_codes.code_of(functools.partial(_exit_code_of, check))))


def _exit_code_of(check: Check) -> int:
    from bnexport.checking.check import check as check_model
    from bnexport.reporting import json

    report = check_model(
        check.model,
        check.images or None,
        **keywords_of(check.options) | {"inputs": check.arrays, "onnx": check.deployed, "labels": check.labels},
        store=options.open_cache(),
    )
    stdio.print_json(json.dumps(json.check(report)))
    return 0 if report else 1


def iter_checks(
    plan: Path | str | Mapping[str, object],
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
    from bnexport.batch.batch import left, read_plan, summarise
    from bnexport.system.cache import Cache, folder

    wanted = read_plan(
        Path(plan) if isinstance(plan, str) else plan,
        Cache(folder()),
        jobs=jobs,
        timeout=timeout,
        results=Path(results) if results is not None else None,
    )
    finished = wanted.earlier_results()
    yield from finished.values()
    by_key = dict(finished)
    for result in left(wanted, finished, evaluate, cluster=cluster):
        by_key[result.key] = result
        yield result
    summarise(wanted, by_key, finished)
