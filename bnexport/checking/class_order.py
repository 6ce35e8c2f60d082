"""Whether a file gives out what the model does with the classes in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from bnexport.comparison.sides import Outputs
from bnexport.numerics.permuted import describe_order
from bnexport.types import Array

MOST = 2_000
"""The order of more classes than these is not looked for."""


def find_class_order(
    called: Mapping[str, str], outputs: Outputs, wanted: Outputs, right: Callable[[Outputs], bool]
) -> Iterator[str]:
    """The output of a file that is right with its columns in another order, in words.

    Args:
        called: the file's name of each output.
        outputs: what the file computes for a batch, shape (N, K).
        wanted: what the reference computes for it.
        right: whether outputs are those of the reference.
    """
    for name in called:
        behind = f"{name}/logits"
        column = behind if behind in outputs and behind in wanted else name
        if column not in outputs or column not in wanted:
            continue
        order = _order(outputs[column], wanted[column])
        if not order:
            continue
        back = np.argsort(order)
        moved = {other: outputs[other][:, back] for other in (name, behind) if other in outputs}
        if right({**outputs, **moved}):
            yield f"its output {called[name]} has the classes of the model in another order: {describe_order(order)}"


def _order(actual: Array, wanted: Array) -> tuple[int, ...]:
    """For each column the nearest one of the reference; empty where two have the same one, or where that is the order there is."""
    if actual.ndim != 2 or actual.shape != wanted.shape or len(actual) < 2 or not 2 <= actual.shape[1] <= MOST:
        return ()
    ours, theirs = np.asarray(actual, np.float64), np.asarray(wanted, np.float64)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return ()
    order = tuple(int(np.abs(theirs - column[:, None]).sum(axis=0).argmin()) for column in ours.T)
    return order if len(set(order)) == len(order) and order != tuple(range(len(order))) else ()
