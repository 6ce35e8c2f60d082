"""The drawing of the layers around one: which they are, that lines lead down past other boxes, and that names stay in their boxes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bnexport.reporting.layout import HEIGHT, WIDTH, Edge, arrange
from bnexport.reporting.neighbourhood import MOST, neighbourhood, shorten
from bnexport.reporting.ordering import by_excess, orders, reach
from bnexport.results.verdict import LayerError


def layer(name: str, *inputs: str, error: float = 1e-7) -> LayerError:
    """A layer of a graph."""
    return LayerError(name, "Conv2D", inputs, f"t/{name}", error, 1e-7)


CHAIN = [layer("0"), *(layer(str(nth), str(nth - 1)) for nth in range(1, 9))]


def drawn(layers: list[LayerError], name: str) -> list[str]:
    """The names in a drawing."""
    return [box.title for box in neighbourhood(layers, name).boxes]


def test_two_steps_in_each_direction() -> None:
    """In a chain these are five layers, fewer at its ends; what lies beyond is shown as a line that leaves the drawing."""
    assert drawn(CHAIN, "4") == ["2", "3", "4", "5", "6"]
    assert drawn(CHAIN, "0") == ["0", "1", "2"]
    boxes = neighbourhood(CHAIN, "4").boxes
    assert [box.above for box in boxes] == [True, False, False, False, False]
    assert [box.below for box in boxes] == [False, False, False, False, True]
    assert [box.focus for box in boxes] == [False, False, True, False, False]
    assert [box.y for box in boxes] == sorted(box.y for box in boxes)


def test_what_reads_the_same_is_drawn_too() -> None:
    """A layer beside the wrong one that reads the same and agrees says that the input is right."""
    layers = [
        layer("in"),
        layer("left", "in"),
        layer("right", "in", error=1.0),
        layer("add", "left", "right", error=1.0),
    ]
    shown = neighbourhood(layers, "right")
    assert [str(box.state) for box in shown.boxes] == ["right", "right", "differs", "differs"]
    assert len(shown.lines) == 4
    assert shown.text == "right (10,000,000 floors) reads in (1 floors). Its output goes to add (10,000,000 floors)."


def test_many_readers_are_counted() -> None:
    """Of a layer that a hundred others read so many are drawn as a reader can look at; the rest is a number."""
    layers = [layer("in"), *(layer(f"r{nth}", "in") for nth in range(100))]
    shown = neighbourhood(layers, "in")
    assert len(shown.boxes) == MOST
    assert shown.left_out == 101 - MOST
    assert shown.text.endswith(", others.")


@pytest.mark.parametrize(
    "layers",
    [
        [layer("a", "a")],
        [layer("a", "b"), layer("b", "a")],
        [layer("a", "nowhere"), layer("a", "nowhere"), layer("b", "a", "a")],
        [layer("a\0b", "a"), layer("a", "a\0b")],
    ],
)
def test_graphs_that_are_none(layers: list[LayerError]) -> None:
    """Layers that read themselves, each other, or what does not exist, and names that occur twice, are drawn as they are."""
    assert neighbourhood(layers, layers[0].name).boxes


@pytest.mark.parametrize("seed", range(40))
def test_lines_lead_down_and_past_boxes(seed: int) -> None:
    """In any graph no two boxes overlap, every line starts below its producer and ends above its reader, and none crosses a box on its way."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, MOST + 1))
    edges = [Edge(a, b) for b in range(count) for a in range(b) if rng.random() < 0.3]
    placement = arrange(count, edges)
    corners = placement.corners
    for nth, (x, y) in enumerate(corners):
        assert 0 <= x <= placement.size[0] - WIDTH
        assert 0 <= y <= placement.size[1] - HEIGHT
        assert all(y != y2 or abs(x - x2) > WIDTH for x2, y2 in corners[:nth])
    for edge, path in zip(edges, placement.paths, strict=True):
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path)]
        assert numbers[:2] == pytest.approx([corners[edge.start][0] + WIDTH / 2, corners[edge.start][1] + HEIGHT])
        assert corners[edge.start][1] < corners[edge.end][1]
        for x, y in re.findall(r" (-?[\d.]+) (-?[\d.]+)V", path):  # where it passes a row
            assert all(float(y) != y2 or not x2 < float(x) < x2 + WIDTH for x2, y2 in corners)


def test_long_names_keep_their_end() -> None:
    """It tells layers apart; wide letters count twice."""
    assert shorten("model/block/conv2d_17/Conv", 12) == "…nv2d_17/Conv"
    assert shorten("層" * 20, 10) == "…" + "層" * 5
    assert shorten("conv", 12) == "conv"


def test_rows_are_sorted_by_what_is_beyond_its_tolerance() -> None:
    """What cannot be compared first, then the error as a multiple of the tolerance, unknown layers last; few rows have one order."""
    nan, unknown = layer("nan", error=float("nan")), LayerError("x", "Conv2D", (), "", 0.5, None)
    layers = [unknown, layer("small"), layer("large", error=0.5), nan, *CHAIN]
    _, by_error = orders(layers, "as they are", {"by error": by_excess})
    assert [row.name for row in by_error.rows[:3]] == ["nan", "large", "small"]
    assert by_error.rows[-1] is unknown
    assert len(orders(layers[:4], "as they are", {"by error": by_excess})) == 1


@pytest.mark.parametrize(
    ("error", "tolerance", "length"),
    [(0.0, 1e-6, 0), (1e-6, 1e-6, 33), (1.0, 1e-6, 100), (float("nan"), 1e-6, 100), (1.0, float("inf"), None)],
)
def test_bars_reach_a_third_at_the_tolerance(error: float, tolerance: float, length: int | None) -> None:
    """The mark in a bar is at one third; where nothing can fail there is no bar."""
    assert reach(error, tolerance) == length
