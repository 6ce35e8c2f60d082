"""How far two embeddings are apart: the angle between the vectors of each item, and whether its neighbours are the same."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.results.tasks import OutputKind, TaskResult
from bnexport.types import Array

NEIGHBOURS = 10
"""So many nearest neighbours of each item are compared."""

MOST_ROWS = 2000
"""Neighbours are searched among the first so many items: a check runs them in a shuffled order, so that they are a sample."""

MOST_VALUES = 8 << 20
"""And no more than so many values are kept of each side (32 MB)."""

TIED = 1e-6
"""Two neighbours are equally near where their cosines differ by no more: float32 keeps about 1e-7."""


class EmbeddingAgreement:
    """The embeddings of two runs. Feed it batches, then ask for the `result`."""

    def __init__(self) -> None:
        self._items, self._sum = 0, 0.0
        self._smallest, self._worst_item = math.inf, 0
        self._kept: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self._rows = 0

    def add(self, actual: Array, reference: Array) -> None:
        """One more batch, both of shape (N, D) or (N, ...).

        Raises:
            InputError: the shapes differ, or there are no vectors.
        """
        if actual.shape != reference.shape or reference.ndim < 2 or not reference.size:
            raise InputError(
                f"outputs of shapes {actual.shape} and {reference.shape} are no embeddings of the same items",
                expected="(N, D)",
            )
        a, r = (_unit(x.reshape(len(x), -1)) for x in (actual, reference))
        cosines = np.clip((a * r).sum(axis=1), -1.0, 1.0)
        zero = ~(a.any(axis=1) | r.any(axis=1))
        cosines = np.where(zero, 1.0, np.nan_to_num(cosines, nan=-1.0))
        if cosines.min() < self._smallest:
            self._smallest, self._worst_item = float(cosines.min()), self._items + int(cosines.argmin())
        self._items += len(cosines)
        self._sum += float(cosines.sum())
        space_left = min(MOST_ROWS, MOST_VALUES // a.shape[1]) - self._rows
        if space_left > 0:
            self._kept.append((a[:space_left].astype(np.float32), r[:space_left].astype(np.float32)))
            self._rows += len(self._kept[-1][0])

    def result(self) -> TaskResult:
        """The share of nearest neighbours that are the same, over all batches so far; None below 3 items."""
        overlap, neighbours = None, min(NEIGHBOURS, self._rows - 1)
        if self._rows >= 3:
            actual, reference = (np.concatenate(side) for side in zip(*self._kept, strict=True))
            overlap = neighbour_overlap(actual, reference, neighbours)
        return TaskResult(
            OutputKind.EMBEDDING,
            {
                "smallest_cosine": self._smallest if self._items else None,
                "mean_cosine": self._sum / self._items if self._items else None,
                "neighbour_overlap": overlap,
                "neighbours": neighbours if overlap is not None else None,
                "rows_for_neighbours": self._rows,
                "worst_item": self._worst_item,
            },
            overlap,
        )


def neighbour_overlap(actual: NDArray[np.float32], reference: NDArray[np.float32], neighbours: int) -> float:
    """The share of the nearest neighbours of each row that are the same on both sides, by cosine.

    One that is as near as the last neighbour of the reference, up to `TIED`, counts as the same.

    Args:
        actual: rows of length 1, shape (N, D).
        reference: the same items on the other side.
        neighbours: how many of each row, fewer than N.
    """
    near_a, near_r = (_similarities(x) for x in (actual, reference))
    chosen = np.argpartition(-near_a, neighbours - 1, axis=1)[:, :neighbours]
    furthest = -np.partition(-near_r, neighbours - 1, axis=1)[:, neighbours - 1]
    same = np.take_along_axis(near_r, chosen, axis=1) >= furthest[:, None] - TIED
    return float(same.mean())


def _similarities(x: NDArray[np.float32]) -> NDArray[np.float32]:
    near: NDArray[np.float32] = np.nan_to_num(x @ x.T, nan=-2.0)
    np.fill_diagonal(near, -np.inf)
    return near


def _unit(x: Array) -> NDArray[np.float64]:
    """Rows of length 1; of NaN where a value is not finite, of zeros where all are."""
    values = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(values).max(axis=1, keepdims=True)
        values = np.where(np.isfinite(size), values / np.where(size > 0, size, 1.0), np.nan)
        length = np.sqrt(np.square(values).sum(axis=1, keepdims=True))
        return np.asarray(values / np.where(length > 0, length, 1.0))
