"""Whether a deployed file is right with its inputs or outputs exchanged: where names do not say which is which, they are matched by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations

from bnexport.comparison.interface import Interface
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.errors import InputError

MOST = 5
"""So many inputs or outputs at most are exchanged: 120 orders."""

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
