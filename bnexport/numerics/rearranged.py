"""Kernels by their channels, whatever the scale and the order of the channels on both axes: what cross-layer equalisation and sorted channels leave."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bnexport.types import Array

Order = NDArray[np.intp]
"""For each channel of one kernel the one of another."""

FEATURES = 256
"""A channel is recognised by so many of its values."""

ROUNDS = 8
"""So often the channels of one axis and of the other are scaled to the same size in turn."""

AT_ONCE = 1024
"""So many channels are compared with all others at a time."""

ALIKE = 0.5
"""Two orders are the same where more than this share of their channels agrees: rounding makes a few unrecognisable."""

BGR = [2, 1, 0], [2, 1, 0, 3]
"""The order of an image's own channels is that of its preparation."""

LAYOUT = 0.9
"""So many channels are where another layout has them."""


class Channels:
    """A kernel by its two axes of channels.

    Args:
        kernel: with the channels on its first two axes, or on its last two: those with the longest one.
    """

    def __init__(self, kernel: Array) -> None:
        axes = (0, 1) if max(kernel.shape[:2]) >= max(kernel.shape[-2:]) else (-2, -1)
        moved = np.moveaxis(kernel, axes, (0, 1))
        self.values: Array = moved.reshape(*moved.shape[:2], -1)
        """Shape (channels, channels, positions)."""

    @cached_property
    def even_values(self) -> NDArray[np.float32]:
        """The values with each channel of both axes scaled to the same size: what any other scale of the channels gives, too."""
        values = np.asarray(self.values, np.float32)
        sizes = np.square(values).sum(axis=2, dtype=np.float64)
        scales = [np.ones(side) for side in sizes.shape]
        for _ in range(ROUNDS):
            for axis in (0, 1):
                weights = scales[1 - axis]
                mean = (sizes @ weights if axis == 0 else weights @ sizes) / len(weights)
                scales[axis] = 1 / np.where(mean > 0, mean, 1)
        rows, columns = (np.sqrt(scale).astype(np.float32) for scale in scales)
        return np.asarray(values * rows[:, np.newaxis, np.newaxis] * columns[:, np.newaxis], np.float32)

    @cached_property
    def rows(self) -> NDArray[np.float32]:
        """What tells the channels of the first axis apart in any order of the second one: their sorted magnitudes, shape (channels, features)."""
        ordered = np.sort(np.abs(self.even_values), axis=1)
        count = max(1, FEATURES // ordered.shape[2])
        return ordered[:, _spread(ordered.shape[1], count)].reshape(len(ordered), -1)


def align(actual: Channels, reference: Channels) -> tuple[Array, tuple[Order, Order]]:
    """The values of `actual` with its channels in the order of `reference`, as far as their magnitudes tell them apart.

    Returns:
        The values, of the shape of `reference.values`, and for each axis the channels of `actual` in that order.
    """
    rows, apart = _nearest(reference.rows, actual.rows)
    orders: list[Order] = [rows, np.arange(actual.values.shape[1])]
    ours, theirs = np.abs(reference.even_values), np.abs(actual.even_values)
    count = max(1, FEATURES // ours.shape[2])
    for axis in (1, 0, 1):  # the channels that are recognised best tell those of the other axis apart
        best = np.argsort(apart, kind="stable")[:count]
        columns = [
            np.moveaxis(np.take(x, which, 1 - axis), axis, 0).reshape(x.shape[axis], -1)
            for x, which in ((ours, best), (theirs, orders[1 - axis][best]))
        ]
        orders[axis], apart = _nearest(*columns)
    return actual.values[orders[0]][:, orders[1]], (orders[0], orders[1])


def same_order(one: Order, other: Order) -> bool:
    """Whether two orders of channels are the same, also where one axis has several values of each channel, or several tensors behind each other.

    >>> same_order(np.array([1, 0]), np.array([2, 3, 0, 1])), same_order(np.array([1, 0]), np.array([1, 0, 3, 2]))
    (True, True)
    >>> same_order(np.array([1, 2, 0]), np.array([2, 0, 1]))
    False
    """
    short, long = sorted((one, other), key=len)
    count, ratio = len(short), len(long) // len(short)
    forms = [long[at : at + count] - at for at in range(len(long) - count + 1)]
    if ratio * count == len(long):
        forms += [long[::ratio] // ratio, long[:count] % count]
    return any(np.mean(form == short) > ALIKE for form in forms)


def is_layout(order: Order) -> bool:
    """Whether an order is that of another layout: channels and positions in turn, as behind a Flatten, or those of an image's own channels.

    >>> is_layout(np.array([0, 3, 1, 4, 2, 5])), is_layout(np.array([2, 1, 0])), is_layout(np.array([3, 0, 1, 4, 2, 5]))
    (True, True, False)
    """
    count = len(order)
    sides = [side for side in range(2, count) if count % side == 0]
    turned = (np.arange(count).reshape(side, -1).T.ravel() for side in sides)
    return order.tolist() in BGR or any(np.mean(order == other) > LAYOUT for other in turned)


def _nearest(wanted: NDArray[np.float32], there: NDArray[np.float32]) -> tuple[Order, NDArray[np.float32]]:
    """For each row of `wanted` the nearest one of `there`, and how far it is."""
    squares = np.square(there).sum(axis=1)
    nearest, apart = [], []
    for start in range(0, len(wanted), AT_ONCE):
        part = wanted[start : start + AT_ONCE]
        distances = squares - 2 * (part @ there.T)
        nearest.append(distances.argmin(axis=1))
        apart.append(distances.min(axis=1) + np.square(part).sum(axis=1))
    return np.concatenate(nearest), np.concatenate(apart)


def _spread(length: int, count: int) -> Array:
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int))
