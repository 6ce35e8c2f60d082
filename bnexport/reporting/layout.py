"""Where the boxes of a small graph are drawn, and the lines between them: in rows from the top to the bottom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT, GAP, LANE = 178, 60, 24, 14
"""The size of a box, the space around it, and the width of the lane of a line that passes a row."""


class Edge(NamedTuple):
    """From one node to another that comes later."""

    start: int
    end: int


class _Lane(NamedTuple):
    edge: Edge
    row: int


_Item = int | _Lane


@dataclass(frozen=True, slots=True)
class Placement:
    """A drawing.

    Args:
        corners: the upper left corner of the box of each node.
        paths: each line with its head, as a path of SVG.
        size: width and height.
    """

    corners: tuple[tuple[float, float], ...]
    paths: tuple[str, ...]
    size: tuple[float, float]


def arrange(count: int, edges: Sequence[Edge]) -> Placement:
    """Places nodes so that each line leads down: every node below all that it reads, lines that pass a row in lanes of it.

    Args:
        count: how many nodes there are.
        edges: between them, each to a later node.
    """
    rows = _rows(count, sorted(edges))
    routes = {edge: _route(edge, rows) for edge in edges}
    widths = [sum(map(_across, row)) + GAP * (len(row) - 1) for row in rows]
    width = max(widths) + 2 * GAP
    before: dict[_Item, list[_Item]] = {}
    for route in routes.values():
        for start, end in itertools.pairwise(route):
            before.setdefault(end, []).append(start)
    middles: dict[_Item, tuple[float, float]] = {}
    for nth, row in enumerate(rows):
        x, y = (width - widths[nth]) / 2, GAP + nth * (HEIGHT + 2 * GAP)
        targets = {item: [middles[other][0] for other in before.get(item, ())] for item in row}
        for item in sorted(row, key=lambda item: sum(w) / len(w) if (w := targets[item]) else width / 2):
            middles[item] = x + _across(item) / 2, y
            x += _across(item) + GAP
    corners = tuple((middles[node][0] - WIDTH / 2, middles[node][1]) for node in range(count))
    paths = tuple(_path([middles[item] for item in routes[edge]]) for edge in edges)
    return Placement(corners, paths, (width, len(rows) * (HEIGHT + 2 * GAP)))


def _rows(count: int, edges: Sequence[Edge]) -> list[list[_Item]]:
    rank = [0] * count
    for start, end in edges:  # in order, so that the ranks of what a node reads are final
        rank[end] = max(rank[end], rank[start] + 1)
    for node in {start for start, _ in edges} - {end for _, end in edges}:
        rank[node] = min(rank[end] for start, end in edges if start == node) - 1
    rows: list[list[_Item]] = [[] for _ in range(max(rank) + 1)]
    for node in range(count):
        rows[rank[node]].append(node)
    for edge in edges:
        for row in range(rank[edge.start] + 1, rank[edge.end]):
            rows[row].append(_Lane(edge, row))
    return rows


def _route(edge: Edge, rows: Sequence[Sequence[_Item]]) -> list[_Item]:
    lanes = [lane for nth, row in enumerate(rows) if (lane := _Lane(edge, nth)) in row]
    return [edge.start, *lanes, edge.end]


def _across(item: _Item) -> int:
    return LANE if isinstance(item, _Lane) else WIDTH


def _path(stops: Sequence[tuple[float, float]]) -> str:
    """From the lower side of the first box through lanes to the upper side of the last one, and the head of an arrow."""
    (x, y), *others = stops
    path = f"M{x:g} {y + HEIGHT:g}"
    for nth, (x2, y2) in enumerate(others):
        path += f"C{x:g} {y + HEIGHT + 1.4 * GAP:g} {x2:g} {y2 - 1.4 * GAP:g} {x2:g} {y2:g}"
        if nth < len(others) - 1:
            path += f"V{y2 + HEIGHT:g}"
        x, y = x2, y2
    return f"{path}m-4-7L{x:g} {y:g}l4-7"
