"""Which tensor of a graph is which of another graph that computes the same: by name, by value, and by position where values differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from bnexport.frameworks.protocols import Layer
from bnexport.numerics.depth import orders
from bnexport.runtimes.inner import InnerTensors
from bnexport.types import Array

SAMPLES = 512
"""So many values of a tensor are looked at."""

ALIKE = 0.99
"""Two tensors of one shape whose values correlate so well are one tensor."""

RELATED = 0.5
"""Tensors of the same name or in the same position are not the same where their values correlate less."""

Sample = Mapping[tuple[int, ...], Array]
"""Some values of a tensor, by its shape: one entry for each order of its axes that another graph may have."""


Entry = tuple[Layer, tuple[int, ...], Sample]
"""A node of the reference, the shape of what it computes on a batch, and a sample of it."""

Key = Callable[[str, Sample], object]
"""What two tensors must have in common: made from the operator and a sample."""


@dataclass(frozen=True, slots=True)
class Match:
    """A tensor that is another graph's.

    Args:
        tensor: its name.
        by: "name", "value" or "position".
        correlation: between the values that were looked at; NaN where nobody looked.
    """

    tensor: str
    by: str
    correlation: float = math.nan

    @property
    def described(self) -> str:
        """How it was recognised; "" by its name."""
        if self.by == "name":
            return ""
        sure = "shapes differ" if math.isnan(self.correlation) else f"correlation {self.correlation:.3f}"
        return f"recognised by its {self.by}, {sure}"


def sample(x: Array) -> Sample:
    """Values at fixed positions of a tensor, as it is and with its channels moved to the end or to the front."""
    values = {}
    for ordered in orders(x):
        if ordered.shape not in values and ordered.size:
            generator = np.random.default_rng(list(ordered.shape))
            values[ordered.shape] = ordered.ravel()[generator.integers(0, ordered.size, SAMPLES)]
    return values


def match_tensors(nodes: Sequence[Entry], graph: InnerTensors, renamed: Mapping[str, str]) -> dict[str, Match]:
    """The tensor of `graph` for each node of the reference, by the reference's name; nodes that have none are left out.

    Names count unless most tensors of the same name have nothing in common. `renamed` always counts.

    Args:
        nodes: those of the reference, with the shape of what they compute on the batch, and a sample of it.
        graph: the other graph on the same batch.
        renamed: tensors of the reference that are called otherwise in `graph`, such as its outputs.
    """
    there = {name: sample(graph[name]) for name in graph.names}
    names = {node.name: renamed.get(node.name, node.name) for node, _, _ in nodes}
    matches = {ours: Match(theirs, "name") for ours, theirs in names.items() if theirs in graph}
    named = [(entry, names[entry[0].name]) for entry in nodes if entry[0].name in matches]
    same = sum(_is_same(entry, graph.makers[other], there[other]) for entry, other in named)
    if 2 * same < len(matches):  # numbers that an exporter gave: each file has its own
        matches = {ours: match for ours, match in matches.items() if ours in renamed}
    _move_folded(nodes, matches, there, renamed)
    left = [entry for entry in nodes if entry[0].name not in matches]
    taken = {match.tensor for match in matches.values()}
    free = [name for name in graph.names if name not in taken]
    for node, shape, values in left:
        scores = {
            name: _correlation(values[shape], there[name][shape])
            for name in free
            if shape in values and shape in there[name]
        }
        best = max(scores, key=scores.__getitem__, default="")
        if best and scores[best] >= ALIKE:
            matches[node.name] = Match(best, "value", scores[best])
            free.remove(best)
    for ours, theirs in _gaps(nodes, free, matches, graph.names):
        for key in (_kind_and_shape, _shape, _kind):
            ours, theirs = _align(ours, theirs, matches, graph, there, key)
    return matches


def _move_folded(
    nodes: Sequence[Entry], matches: dict[str, Match], there: Mapping[str, Sample], renamed: Mapping[str, str]
) -> None:
    """Gives a tensor that has the name of one node and the values of another to that other: so BatchNormalization is folded into a convolution."""
    unmatched = [entry for entry in nodes if entry[0].name not in matches]
    for node, shape, values in nodes:
        match = matches.get(node.name)
        if match is None or node.name in renamed:
            continue
        other = there[match.tensor]
        if shape not in values or shape not in other:
            continue
        scores = {
            later.name: _correlation(theirs[size], other[size])
            for later, size, theirs in unmatched
            if size in theirs and size in other and later.name not in matches
        }
        best = max(scores, key=scores.__getitem__, default="")
        if best and scores[best] >= ALIKE and scores[best] > _correlation(values[shape], other[shape]):
            matches[best] = Match(match.tensor, "value", scores[best])
            del matches[node.name]


def _is_same(entry: Entry, maker: str, other: Sample) -> bool:
    """Whether a tensor of the same name is the same: by its values, or by its operator and values that are related."""
    node, shape, values = entry
    if shape not in values or shape not in other:
        return False
    return _correlation(values[shape], other[shape]) >= (RELATED if maker == node.kind else ALIKE)


def _kind_and_shape(kind: str, values: Sample) -> object:
    return kind, frozenset(values)


def _shape(_kind: str, values: Sample) -> object:
    return frozenset(values)


def _kind(kind: str, _values: Sample) -> object:
    return kind


def _gaps(
    nodes: Sequence[Entry], free: Sequence[str], matches: Mapping[str, Match], order: Sequence[str]
) -> Iterator[tuple[list[Entry], list[str]]]:
    """What has no match, between two matches that have the same order in both graphs."""
    position, unmatched = {name: nth for nth, name in enumerate(order)}, set(free)
    ours: list[Entry] = []
    last = -1
    for entry in nodes:
        match = matches.get(entry[0].name)
        if match is None:
            ours.append(entry)
        elif position[match.tensor] > last:
            yield ours, [name for name in order[last + 1 : position[match.tensor]] if name in unmatched]
            ours, last = [], position[match.tensor]
    yield ours, [name for name in order[last + 1 :] if name in unmatched]


def _align(
    ours: list[Entry],
    theirs: list[str],
    matches: dict[str, Match],
    graph: InnerTensors,
    there: Mapping[str, Sample],
    key: Key,
) -> tuple[list[Entry], list[str]]:
    """Adds the matches by position of what has the same key in the same order; returns what is left on both sides."""
    blocks = SequenceMatcher(
        None,
        [key(node.kind, values) for node, _, values in ours],
        [key(graph.makers[name], there[name]) for name in theirs],
        autojunk=False,
    ).get_matching_blocks()
    pairs = [(ours[a + n], theirs[b + n]) for a, b, count in blocks for n in range(count)]
    for (node, shape, values), name in pairs:
        other = there[name].get(shape)
        correlation = math.nan if other is None or shape not in values else _correlation(values[shape], other)
        if not correlation < RELATED:
            matches[node.name] = Match(name, "position", correlation)
    return (
        [entry for entry in ours if entry[0].name not in matches],
        [name for name in theirs if name not in {taken for _, taken in pairs}],
    )


def _correlation(a: Array, b: Array) -> float:
    """Pearson's; 1 for equal values, and 0 where one of both is constant or not finite."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if np.array_equal(x, y):
        return 1.0
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0
