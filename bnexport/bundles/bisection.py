"""Where an answer changes along a list of releases, in few runs: the ends are run, and then what is between two that differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Bisection:
    """What was run, and where the answer changes.

    Args:
        states: the answer of each position that ran.
        skipped: the positions that did not run.
        changes: neighbours among those that ran whose answers differ, the lower one first. Nothing between two of them is left to be run.
    """

    states: Mapping[int, str]
    skipped: tuple[int, ...]
    changes: tuple[tuple[int, int], ...]


def bisect(
    count: int, run: Callable[[int], str | None], wanted: Collection[int] = (), *, every: bool = False
) -> Bisection:
    """Runs the first and the last position, and between two neighbours that differ the middle one, until such neighbours have nothing between them.

    A position that does not run is replaced by its nearest neighbour. Where one change is all there is and every position runs, that takes at
    most ceil(log2(count)) + 2 runs. Where there are more, those that are found are changes all the same: what is between two positions with the
    same answer is not run and not known.

    Args:
        count: how many positions there are.
        run: the answer at a position; None where it does not run. It is called once for each position.
        wanted: positions that are run in any case.
        every: run all of them.
    """
    states: dict[int, str] = {}
    skipped: list[int] = []

    def runs(position: int) -> bool:
        if position not in states and position not in skipped:
            state = run(position)
            if state is None:
                skipped.append(position)
            else:
                states[position] = state
        return position in states

    any(runs(position) for position in range(count))  # the first one that runs
    any(runs(position) for position in reversed(range(count)))
    for position in range(count) if every else sorted(wanted):
        runs(position)
    while (middle := _between(states, skipped)) is not None:
        runs(middle)
    return Bisection(dict(sorted(states.items())), tuple(sorted(skipped)), tuple(_changes(states)))


def _changes(states: Mapping[int, str]) -> list[tuple[int, int]]:
    return [(low, high) for low, high in pairwise(sorted(states)) if states[low] != states[high]]


def _between(states: Mapping[int, str], skipped: Collection[int]) -> int | None:
    """The position to be run next: the one nearest to the middle between two neighbours that differ; None where there is none left."""
    for low, high in _changes(states):
        if candidates := [position for position in range(low + 1, high) if position not in skipped]:
            return min(candidates, key=lambda position: abs(2 * position - low - high))
    return None
