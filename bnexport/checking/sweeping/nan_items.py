"""Where an item of NaN loses its track: the node that makes finite values of it, or lets it reach the other items of its batch."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from bnexport.comparison.sides import Feeds, Runner
from bnexport.errors import InputError
from bnexport.onnx_graph import subgraphs
from bnexport.onnx_graph.parts import node_title
from bnexport.progress import Progress
from bnexport.runtimes.inner import InnerTensors
from bnexport.types import Array

QUANTISING = ("QuantizeLinear", "DynamicQuantizeLinear")
"""What makes integers of NaN."""


def rows_of(x: Array, count: int) -> bool:
    """Whether an output has a row of floating point numbers for each item."""
    return bool(x.ndim) and len(x) == count and x.dtype.kind == "f" and x.size > 0


def mixing_node(runner: Runner, clean: Feeds, broken: Feeds, count: int, progress: Progress) -> str:
    """The first node behind which more than one item's share of the values is not finite; "" where none is.

    Args:
        runner: a run of a graph.
        clean: a batch.
        broken: the same with an item of NaN.
        count: how many items it has.
        progress: notified where this cannot be found out.
    """

    def mixes(before: Array, after: Array, _: bool) -> bool:
        lost = np.isfinite(before) & ~np.isfinite(after)
        return bool(np.count_nonzero(lost) * count > lost.size)

    return _first(runner, clean, broken, mixes, progress)


def swallowing_node(runner: Runner, clean: Feeds, broken: Feeds, progress: Progress) -> str:
    """The first node that reads values which are not finite and makes finite ones only; "" where there is none."""

    def swallows(_: Array, after: Array, broken_before: bool) -> bool:
        return broken_before and bool(np.isfinite(after).all())

    return _first(runner, clean, broken, swallows, progress, QUANTISING)


def _first(
    runner: Runner,
    clean: Feeds,
    broken: Feeds,
    marks: Callable[[Array, Array, bool], bool],
    progress: Progress,
    quantising: Collection[str] = (),
) -> str:
    """The first node whose values with and without the item of NaN say so (their third argument: whether it reads values that are not finite), or that makes integers of such values."""
    if runner.graph is None:
        return ""
    graph = runner.graph()
    try:
        before, after = (InnerTensors(graph, "cpu", runner.given(feeds)) for feeds in (clean, broken))
        not_finite = {name for name, x in runner.given(broken).items() if x.dtype.kind == "f"}
        for node in graph.graph.node:
            reads_broken = any(name in not_finite for name in subgraphs.reads(node))
            if reads_broken and node.op_type in quantising:
                return node_title(node)
            for name in node.output:
                if name not in before:
                    continue
                one, other = (np.asarray(tensors[name]) for tensors in (before, after))
                if one.dtype.kind != "f" or one.shape != other.shape:
                    continue
                if marks(one, other, reads_broken):
                    return node_title(node)
                if not np.isfinite(other).all():
                    not_finite.add(name)
    except InputError as error:
        progress.note(f"the values inside the graph cannot be looked at: {error}")
    return ""
