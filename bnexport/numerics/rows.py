"""Which row of one table is which of another, where neither the order nor the number of rows is fixed: what NonMaxSuppression or NonZero select.

Rows are compared as a whole, over all tables that belong together (the boxes, scores and labels of a detector). Where one of the tables names
each row (the indices that NonMaxSuppression gives out), rows of the same name are partners, however far their numbers are apart. Otherwise rows
with the same integers are partners where no number is further off than `CLOSE`, relative to the size of its column: equal ones first, then the
nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bnexport.types import Array

CLOSE = 1e-3
"""Rows are partners where their numbers differ by no more than this share of the size of the column."""

_RADII = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_SAME = 1e-6
"""Rows in the same position are partners where they are so close: less than any tolerance. So most runs need no search."""

_NEAREST = 64
"""So many rows on either side are looked at for a partner, which keeps 10,000 rows quick."""

_SMALL = 1e-2
"""No column counts as smaller than this share of its table."""

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]


def match_rows(
    actual: Sequence[Array], reference: Sequence[Array], names: int | None = None, close: float = CLOSE
) -> Pairs:
    """The positions of the rows that are partners, on both sides, in the order of the reference.

    Args:
        actual: tables of shape (R, ...), one row for each thing that was selected; numbers or text.
        reference: the same tables of the other side, with any number of rows; as many values in a row, and of the same kind.
        names: the position of the table that names each row; None where there is none.
        close: how far numbers may be apart, relative to the size of their column.

    >>> match_rows([np.array([[2.0], [1.0]])], [np.array([[1.0], [5.0]])])
    (array([1]), array([0]))
    """
    if len(actual[0]) == len(reference[0]) and are_close(actual, reference, _SAME).all():
        return np.arange(len(actual[0])), np.arange(len(actual[0]))
    if names is not None:
        keys_a, keys_r = _keys([actual[names]], [reference[names]])
        if all(len(np.unique(_numbers_of_rows(keys))) == len(keys) for keys in (keys_a, keys_r)):
            return _in_order(_equal(keys_a, keys_r))
    keys_a, keys_r = _keys(actual, reference)
    numbers_a, numbers_r = _numbers(actual, reference)
    exact_a, exact_r = (
        np.concatenate([k, n.view(np.int64)], axis=1)
        for k, n in zip((keys_a, keys_r), (numbers_a, numbers_r), strict=True)
    )
    rows, columns = _equal(exact_a, exact_r)
    for radius in [*(r for r in _RADII if r < close), close]:
        free_a, free_r = (np.setdiff1d(np.arange(len(x)), used) for x, used in ((keys_a, rows), (keys_r, columns)))
        if not len(free_a) or not len(free_r) or not numbers_a.shape[1]:
            break
        for find in (_near, _match_in_order):
            more = find(keys_a[free_a], numbers_a[free_a], keys_r[free_r], numbers_r[free_r], radius)
            rows, columns = np.concatenate([rows, free_a[more[0]]]), np.concatenate([columns, free_r[more[1]]])
            free_a, free_r = np.delete(free_a, more[0]), np.delete(free_r, more[1])
    return _in_order((rows, columns))


def are_close(actual: Sequence[Array], reference: Sequence[Array], close: float = CLOSE) -> NDArray[np.bool_]:
    """Which rows of tables with as many rows may be partners in the same position."""
    numbers_a, numbers_r = _numbers(actual, reference)
    keys_a, keys_r = _keys(actual, reference)
    with np.errstate(invalid="ignore"):
        near = np.abs(numbers_a - numbers_r).max(axis=1, initial=0.0) <= close
    return np.asarray(near & (keys_a == keys_r).all(axis=1))


def _keys(actual: Sequence[Array], reference: Sequence[Array]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The integers of each row; text as a number for each different one."""
    a, r = ([_flat(x) for x in tables if x.dtype.kind != "f"] for tables in (actual, reference))
    sides: list[list[NDArray[np.int64]]] = [[], []]
    for x, y in zip(a, r, strict=True):
        both = np.concatenate([x, y])
        if both.dtype.kind not in "biu":
            both = np.unique(both.astype(str), return_inverse=True)[1].reshape(both.shape)
        sides[0].append(both[: len(x)].astype(np.int64))
        sides[1].append(both[len(x) :].astype(np.int64))
    return _join(sides[0], len(actual[0]), np.int64), _join(sides[1], len(reference[0]), np.int64)


def _numbers(actual: Sequence[Array], reference: Sequence[Array]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The floats of each row, relative to the size of their column on the reference's side."""
    sides: list[list[NDArray[np.float64]]] = [[], []]
    for x, y in zip(actual, reference, strict=True):
        if y.dtype.kind != "f":
            continue
        a, r = (np.asarray(_flat(t), np.float64) for t in (x, y))
        sizes = np.abs(np.where(np.isfinite(r), r, 0.0)).max(axis=0, initial=0.0)
        sizes = np.maximum(sizes, _SMALL * sizes.max(initial=0.0))
        sizes = np.where(sizes > 0, sizes, 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            sides[0].append(a / sizes + 0.0)  # -0.0 is 0.0
            sides[1].append(r / sizes + 0.0)
    return _join(sides[0], len(actual[0]), np.float64), _join(sides[1], len(reference[0]), np.float64)


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1) if x.size else x.reshape(len(x), int(np.prod(x.shape[1:])))


D = TypeVar("D", np.int64, np.float64)


def _join(tables: Sequence[NDArray[D]], rows: int, dtype: type[D]) -> NDArray[D]:
    return np.concatenate([np.zeros((rows, 0), dtype), *tables], axis=1)


def _equal(actual: NDArray[np.int64], reference: NDArray[np.int64]) -> Pairs:
    """Rows that are equal to the last bit; of several the first with the first."""
    if not actual.size or not reference.size:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    names = _numbers_of_rows(np.concatenate([actual, reference]))
    codes_a, codes_r = _number_rows(names[: len(actual)]), _number_rows(names[len(actual) :])
    _, rows, columns = np.intersect1d(codes_a, codes_r, assume_unique=True, return_indices=True)
    return rows, columns


def _numbers_of_rows(rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """A number for each different row, as `np.unique(rows, axis=0)` has them, which takes ten times as long."""
    order = np.lexsort(rows.T)
    numbers = np.zeros(len(rows), np.intp)
    numbers[order[1:]] = np.cumsum((rows[order[1:]] != rows[order[:-1]]).any(axis=1))
    return numbers


def _number_rows(names: NDArray[np.intp]) -> NDArray[np.int64]:
    """A number for each row, by its name and how many rows of that name stand before it."""
    order = np.argsort(names, kind="stable")
    counts = np.bincount(names)
    begins = np.cumsum(counts) - counts
    nth = np.empty(len(names), np.int64)
    nth[order] = np.arange(len(names)) - begins[names[order]]
    return names.astype(np.int64) * (1 << 32) + nth


def _near(
    keys_a: NDArray[np.int64],
    numbers_a: NDArray[np.float64],
    keys_r: NDArray[np.int64],
    numbers_r: NDArray[np.float64],
    radius: float,
) -> Pairs:
    """Rows with the same integers whose numbers differ by no more than a radius, the closest pairs first."""
    weights = _weights(numbers_a)
    with np.errstate(invalid="ignore"):
        line_a, line_r = numbers_a @ weights, numbers_r @ weights
    order = np.argsort(line_r)
    line = line_r[order]
    width = radius * float(weights.sum())
    middle = np.searchsorted(line, line_a)
    low = np.maximum(np.searchsorted(line, line_a - width), middle - _NEAREST)
    high = np.minimum(np.searchsorted(line, line_a + width, side="right"), middle + _NEAREST)
    counts = np.where(np.isfinite(line_a), np.maximum(high - low, 0), 0)
    rows = np.repeat(np.arange(len(line_a)), counts)
    begins = np.cumsum(counts) - counts
    columns = order[np.repeat(low, counts) + np.arange(len(rows)) - np.repeat(begins, counts)]
    with np.errstate(invalid="ignore"):
        apart = np.abs(numbers_a[rows] - numbers_r[columns]).max(axis=1, initial=0.0)
    near = (apart <= radius) & (keys_a[rows] == keys_r[columns]).all(axis=1)
    rows, columns = rows[near], columns[near]
    free_a, free_r = [True] * len(keys_a), [True] * len(keys_r)
    chosen = []
    for row, column in zip(*(x[np.argsort(apart[near], kind="stable")].tolist() for x in (rows, columns)), strict=True):
        if free_a[row] and free_r[column]:
            free_a[row] = free_r[column] = False
            chosen.append((row, column))
    pairs = np.array(chosen, np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _match_in_order(
    keys_a: NDArray[np.int64],
    numbers_a: NDArray[np.float64],
    keys_r: NDArray[np.int64],
    numbers_r: NDArray[np.float64],
    radius: float,
) -> Pairs:
    """The same for rows with more neighbours than are looked at: in the order of their sums, the first with the first."""
    order_a, order_r = (
        np.lexsort((numbers @ _weights(numbers), *keys.T))
        for keys, numbers in ((keys_a, numbers_a), (keys_r, numbers_r))
    )
    count = min(len(order_a), len(order_r))
    order_a, order_r = order_a[:count], order_r[:count]
    with np.errstate(invalid="ignore"):
        apart = np.abs(numbers_a[order_a] - numbers_r[order_r]).max(axis=1, initial=0.0)
    near = (apart <= radius) & (keys_a[order_a] == keys_r[order_r]).all(axis=1)
    return order_a[near], order_r[near]


def _weights(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that differ are unlikely to have the same sum with these weights."""
    return np.linspace(0.7, 1.3, numbers.shape[1])


def _in_order(pairs: Pairs) -> Pairs:
    order = np.argsort(pairs[1], kind="stable")
    return pairs[0][order], pairs[1][order]
