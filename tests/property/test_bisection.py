"""Bisection of releases: few runs, and no change that was not seen."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, strategies as st

from bnexport.bundles.bisection import Bisection, bisect

HISTORIES = st.lists(st.sampled_from(["right", "wrong", "refused", None]), max_size=40)


def searched(history: list[str | None], wanted: tuple[int, ...] = (), *, every: bool = False) -> tuple[Bisection, int]:
    """What is found out about a history, and in how many runs."""
    asked: list[int] = []

    def run(position: int) -> str | None:
        asked.append(position)
        return history[position]

    result = bisect(len(history), run, wanted, every=every)
    assert len(asked) == len(set(asked)), "nothing runs twice"
    assert set(asked) == {*result.states, *result.skipped}
    return result, len(asked)


@given(st.integers(2, 200), st.data())
def test_one_change_is_found_in_few_runs(count: int, data: st.DataObject) -> None:
    """The first release whose answer is another, in at most ceil(log2(n)) + 2 runs."""
    first = data.draw(st.integers(1, count - 1))
    result, runs = searched(["right"] * first + ["wrong"] * (count - first))
    assert result.changes == ((first - 1, first),)
    assert runs <= math.ceil(math.log2(count)) + 2


@given(st.integers(1, 200))
def test_two_ends_that_agree_are_all_that_is_run(count: int) -> None:
    """Nothing is said about what is between them."""
    result, runs = searched(["right"] * count)
    assert result.changes == ()
    assert runs == min(count, 2)


@given(HISTORIES)
def test_every_change_was_seen(history: list[str | None]) -> None:
    """Whatever the history: the neighbours of a change ran, differ, and have nothing between them but what does not run."""
    result, _ = searched(history)
    for position, state in result.states.items():
        assert history[position] == state
    for low, high in result.changes:
        assert result.states[low] != result.states[high]
        assert all(position in result.skipped for position in range(low + 1, high))
    for low, high in pairwise(result.states):
        assert result.states[low] == result.states[high] or (low, high) in result.changes
    runnable = [position for position, state in enumerate(history) if state is not None]
    assert [min(result.states), max(result.states)] == [runnable[0], runnable[-1]] if runnable else not result.states


@given(HISTORIES)
def test_all_are_run_where_that_is_asked(history: list[str | None]) -> None:
    """Then every change is among the changes."""
    result, runs = searched(history, every=True)
    runnable = [position for position, state in enumerate(history) if state is not None]
    assert runs == len(history)
    assert list(result.changes) == [(a, b) for a, b in pairwise(runnable) if history[a] != history[b]]


@given(HISTORIES, st.sets(st.integers(0, 39)))
def test_what_is_named_is_run(history: list[str | None], named: set[int]) -> None:
    """Whatever its neighbours answer."""
    wanted = tuple(position for position in named if position < len(history))
    result, _ = searched(history, wanted)
    assert set(wanted) <= {*result.states, *result.skipped}
