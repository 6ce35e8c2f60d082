"""How far two sequences of tokens are apart: position by position, and by edit distance.

The token error rate is the edit distance (insertions, deletions and replacements, Levenshtein 1966), divided by the length of the reference,
over all items: the word error rate of speech recognition, where a token is a word. It may exceed 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.results.tasks import OutputKind, TaskResult
from bnexport.types import Array

MOST_STEPS = 50_000_000
"""Sequences whose edit distance takes more steps than this (7,000 tokens that all differ) have no token error rate."""

_NOT_FINITE = (-1, -2)
"""The token of a position with a score that is not finite, on both sides: it agrees with nothing."""


class SequenceAgreement:
    """The sequences of two runs. Feed it batches, then ask for the `result`.

    Args:
        end: the token that ends a sequence, which belongs to it; None where nothing does.
    """

    def __init__(self, end: int | None = None) -> None:
        self._end = end
        self._items = self._equal = self._tokens = self._same = self._length = 0
        self._edits: int | None = 0
        self._worst, self._worst_item = 0, 0

    def add(self, actual: Array, reference: Array) -> None:
        """One more batch: tokens of shape (N, T), or scores of shape (N, T, V).

        Raises:
            InputError: the outputs are no sequences, or those of another number of items.
        """
        a, r = (tokens_of(x, broken) for x, broken in zip((actual, reference), _NOT_FINITE, strict=True))
        if len(a) != len(r) or not len(r):
            raise InputError(f"there are {len(a)} sequences", expected=str(len(r)))
        for row_a, row_r in zip(a, r, strict=True):
            row_a, row_r = (_until(row, self._end) for row in (row_a, row_r))
            common = min(len(row_a), len(row_r))
            same = int(np.count_nonzero(row_a[:common] == row_r[:common]))
            edits = edit_distance(row_a, row_r)
            longest = max(len(row_a), len(row_r))
            if longest - same > self._worst:
                self._worst, self._worst_item = longest - same, self._items
            self._items += 1
            self._equal += longest == same
            self._tokens += longest
            self._same += same
            self._edits = None if edits is None or self._edits is None else self._edits + edits
            self._length += len(row_r)

    def result(self) -> TaskResult:
        """The share of positions with the same token, over all batches so far."""
        agreement = self._same / self._tokens if self._tokens else None
        return TaskResult(
            OutputKind.SEQUENCE,
            {
                "token_agreement": agreement,
                "sequences": self._items,
                "equal_sequences": self._equal,
                "token_error_rate": None if self._edits is None or not self._length else self._edits / self._length,
                "worst_item": self._worst_item,
            },
            agreement,
        )


def tokens_of(x: Array, broken: int = -1) -> NDArray[np.int64]:
    """The tokens of each item: integers as they are, the largest of V scores at each position.

    Args:
        x: integers of shape (N, T), (N, T, 1) or (N, 1, T), or scores of shape (N, T, V).
        broken: the token of a position with a score that is not finite.

    Raises:
        InputError: it is neither.
    """
    if x.dtype.kind in "iu":
        if x.ndim == 3 and 1 in x.shape[1:]:
            x = x.reshape(len(x), -1)
        if x.ndim == 2:
            return x.astype(np.int64)
    elif x.dtype.kind == "f" and x.ndim == 3 and x.shape[2]:
        return np.where(np.isfinite(x).all(axis=2), np.argmax(x, axis=2), broken).astype(np.int64)
    raise InputError(
        f"an output of shape {x.shape} and dtype {x.dtype} is no sequence of tokens",
        expected="integers of shape (N, T) or scores of shape (N, T, V)",
    )


def edit_distance(actual: NDArray[np.int64], reference: NDArray[np.int64]) -> int | None:
    """The smallest number of insertions, deletions and replacements that make one sequence of the other; None beyond `MOST_STEPS`.

    >>> edit_distance(np.array([1, 2, 3]), np.array([2, 3, 4]))
    2
    """
    common = min(len(actual), len(reference))
    differing = np.flatnonzero(actual[:common] != reference[:common])
    begin = int(differing[0]) if len(differing) else common
    actual, reference = actual[begin:], reference[begin:]
    common = min(len(actual), len(reference))
    differing = np.flatnonzero(actual[::-1][:common] != reference[::-1][:common])
    end = int(differing[0]) if len(differing) else common
    actual, reference = actual[: len(actual) - end], reference[: len(reference) - end]
    if len(actual) * len(reference) > MOST_STEPS:
        return None
    positions = np.arange(len(reference) + 1)
    costs = positions.copy()
    for nth, token in enumerate(actual, 1):
        with_one = np.minimum(costs[1:] + 1, costs[:-1] + (reference != token))
        costs = np.concatenate([[nth], with_one])
        costs = np.minimum.accumulate(costs - positions) + positions  # insertions
    return int(costs[-1])


def _until(row: NDArray[np.int64], end: int | None) -> NDArray[np.int64]:
    """A sequence up to the token that ends it."""
    if end is None:
        return row
    ends = np.flatnonzero(row == end)
    return row[: ends[0] + 1] if len(ends) else row
