"""Whether two arrays hold the same channels in another order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnexport.types import Array


def find_order(actual: Array, reference: Array, axis: int, tolerance: float) -> tuple[int, ...]:
    """The order in which `actual` holds the channels of `reference`.

    Channels that are equal where they are stay there. The others are sorted by one random projection, and compared value by value.

    Args:
        actual: of the shape of `reference`.
        reference: shape (..., C, ...), with the channels on `axis`.
        axis: where the channels are.
        tolerance: how far equal values may be apart.

    Returns:
        For each channel of `actual` the one of `reference` that it holds; empty where there is no such order, where it is the
        order of `reference`, or where a value is not finite.

    >>> find_order(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]]), 1, 1e-6)
    (0, 2, 1)
    >>> find_order(np.array([[1.0, 2.0]]), np.array([[1.0, 2.1]]), 1, 1e-6)
    ()
    """
    if actual.shape != reference.shape or not actual.size:
        return ()
    if any(not abs(float(end(actual)) - float(end(reference))) <= tolerance for end in (np.min, np.max)):
        return ()  # which rules most arrays out, without a copy
    count = actual.shape[axis]
    a, r = (np.moveaxis(np.asarray(x, np.float64), axis, 0).reshape(count, -1) for x in (actual, reference))
    if not (np.isfinite(a).all() and np.isfinite(r).all()):
        return ()
    moved = np.flatnonzero(np.abs(a - r).max(axis=1) > tolerance)
    direction = np.random.default_rng(0).normal(size=a.shape[1])
    ours, theirs = (moved[np.argsort(x[moved] @ direction, kind="stable")] for x in (a, r))
    if not len(moved) or np.abs(a[ours] - r[theirs]).max() > tolerance:
        return ()
    order = np.arange(count)
    order[ours] = theirs
    return tuple(int(channel) for channel in order)


def describe_order(order: tuple[int, ...], shown: int = 4) -> str:
    """The channels that are elsewhere, in words.

    >>> describe_order((2, 0, 1, 3))
    '0 holds 2, 1 holds 0, 2 holds 1'
    """
    moved = [f"{nth} holds {channel}" for nth, channel in enumerate(order) if nth != channel]
    more = f" and {len(moved) - shown} more" if len(moved) > shown else ""
    return ", ".join(moved[:shown]) + more


@dataclass(frozen=True, slots=True)
class Permuted:
    """A kernel that is there with its channels in another order.

    Args:
        name: of the kernel.
        shape: in the reference.
        axis: of these channels, in the reference.
        order: for each channel that is there the one of the reference.
    """

    name: str
    shape: tuple[int, ...]
    axis: int
    order: tuple[int, ...]

    @property
    def described(self) -> str:
        """The same in words."""
        return f"{self.name}, of shape {self.shape}, with its axis {self.axis} in another order: {describe_order(self.order)}"
