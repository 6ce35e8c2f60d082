"""Whether a deployed file is right with its inputs or outputs exchanged: where names do not say which is which, they are matched by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations

import numpy as np

from bnexport.comparison.interface import Interface
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.errors import InputError

MOST = 5
"""So many inputs or outputs at most are exchanged: 120 orders."""

NEARER = 10
"""A file of reduced precision is taken to be called otherwise where its outputs are so many times nearer then (20 dB)."""

Right = Callable[[Outputs], bool]


def find_exchanges(
    interface: Interface, feeds: Feeds, wanted: Outputs, compute: Callable[[Feeds], Outputs], right: Right
) -> Iterator[str]:
    """The other orders of inputs or outputs of one shape under which a file is right, in words.

    Args:
        interface: the file's name of each input and output.
        feeds: a batch.
        wanted: what the reference computes for it.
        compute: what the file computes for a batch.
        right: whether outputs are those of the reference.
    """
    outputs = compute(feeds)
    like_output = {name: (wanted[name].shape, wanted[name].dtype) for name in interface.outputs if name in wanted}
    for order in _orders(like_output):
        if right(_with_outputs(outputs, order)):
            yield _in_words("output", interface.outputs, {other: ours for ours, other in order.items()})
    for order in _orders({name: (x.shape, x.dtype) for name, x in feeds.items()}):
        try:
            outputs = compute({ours: feeds[other] for ours, other in order.items()})
        except InputError:  # the file does not run so
            continue
        if right(outputs):
            yield _in_words("input", interface.inputs, order)


def nearer(right: Right, now: Outputs, wanted: Outputs) -> Right:
    """Whether outputs of reduced precision are right, and plainly nearer than those that there are: a tolerance may be as wide as the error."""
    limit = _noise(now, wanted) / NEARER
    return lambda outputs: right(outputs) and _noise(outputs, wanted) <= limit < np.inf


def _noise(outputs: Outputs, wanted: Outputs) -> float:
    """The error of all outputs as rms, relative to their scale; infinite where it is not a number, or an output has another shape.

    Logits count where both have them.
    """
    worst = 0.0
    for name, reference in wanted.items():
        if name.endswith("/logits") and name not in outputs:
            continue
        x, y = (np.asarray(a, np.float64) for a in (outputs.get(name, np.empty(0)), reference))
        if x.shape != y.shape:
            return float("inf")
        size = float(np.abs(y).max(initial=0.0)) or 1.0
        error = float(np.sqrt(np.mean(np.square((x - y) / size)))) if x.size else 0.0
        worst = max(worst, error if np.isfinite(error) else float("inf"))
    return worst


def works(runner: Runner, feeds: Feeds, right: Right) -> bool:
    """Whether a run is right with other inputs; a file that does not run so is not."""
    try:
        return right(runner.compute(feeds))
    except InputError:
        return False


def _orders(kinds: Mapping[str, object]) -> Iterator[dict[str, str]]:
    """For each name another one of the same kind, in every order but the one there is."""
    names = list(kinds)
    if len(names) > MOST:
        return
    for order in permutations(names):
        if list(order) != names and all(kinds[a] == kinds[b] for a, b in zip(names, order, strict=True)):
            yield dict(zip(names, order, strict=True))


def _with_outputs(outputs: Outputs, order: Mapping[str, str]) -> Outputs:
    """Outputs, and the logits behind them, under the names of others."""
    moved = {f"{ours}{end}": f"{other}{end}" for ours, other in order.items() for end in ("", "/logits")}
    kept = {name: x for name, x in outputs.items() if name not in moved}
    return kept | {name: outputs[other] for name, other in moved.items() if other in outputs}


def _in_words(kind: str, called: Mapping[str, str], order: Mapping[str, str]) -> str:
    """What each input or output is, by the names of the file and of the model."""
    return ", ".join(
        f"its {kind} {called[ours]} is what the model calls {other}" for ours, other in order.items() if ours != other
    )
