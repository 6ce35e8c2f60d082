"""What came of a batch: plain records, as in `verdict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVALUATED = ("pass", "fail")
STATUSES = (*EVALUATED, "error", "timeout")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check.

    Args:
        key: the hash of everything it depends on.
        name: the check's.
        command: what was run, without the program.
        status: "pass", "fail", "error" (a sentence instead of a verdict) or "timeout".
        exit_code: of the process; None where it was ended.
        seconds: how long it took.
        finished: when, in seconds since 1970.
        error: the sentence; "" where there is a report.
        report: the check as `bnexport check --format json` tells it; None where there is none.
    """

    key: str
    name: str
    command: tuple[str, ...]
    status: str
    exit_code: int | None
    seconds: float
    finished: float
    error: str
    report: dict[str, Any] | None

    @property
    def evaluated(self) -> bool:
        """Whether there is a verdict."""
        return self.status in EVALUATED


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of a plan; truthy when every check was evaluated and passed.

    Args:
        path: of the results.
        results: in the plan's order.
        repeated: the names of the checks that were run now; the others' results are from earlier runs.
        before: the status of each check in the run before, by name.
    """

    path: Path
    results: tuple[Result, ...]
    repeated: frozenset[str]
    before: dict[str, str]

    @property
    def new_failures(self) -> list[str]:
        """What passed before and does not now."""
        return [r.name for r in self.results if r.status != "pass" and self.before.get(r.name) == "pass"]

    @property
    def fixed(self) -> list[str]:
        """What did not pass before and does now."""
        return [r.name for r in self.results if r.status == "pass" and self.before.get(r.name, "pass") != "pass"]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 a check failed, 4 some checks have no verdict."""
        if not all(result.evaluated for result in self.results):
            return 4
        return 0 if self else 1

    def __bool__(self) -> bool:
        return all(result.status == "pass" for result in self.results)
