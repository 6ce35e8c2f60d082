"""Folding on random chains of a linear operator, operators that move values, and arithmetic: never another result, and no way back."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings, strategies as st
from onnx.reference import ReferenceEvaluator

from bnexport.folding.transform import fold
from tests.unit.fold_graphs import Graph, arithmetic, in_float64, model, move, op

CHANNELS = 3
LINEAR = {
    "Conv": ((2, CHANNELS, 5, 4), (CHANNELS, CHANNELS, 2, 1)),
    "ConvTranspose": ((2, CHANNELS, 5, 4), (CHANNELS, CHANNELS, 2, 1)),
    "MatMul": ((2, 5, CHANNELS), (CHANNELS, CHANNELS)),
}
MOVERS = ("Transpose", "Unsqueeze", "Squeeze", "Reshape")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], onnx.ModelProto]:
    """A linear operator, or two, among what may be between it and its normalisation; a tensor on the way may be an output."""
    kind = draw(st.sampled_from(sorted(LINEAR)))
    x, weight = LINEAR[kind]
    parts: list[Graph] = []
    sides, current, outputs = list(x), "x", []
    first = draw(st.sampled_from([kind, *ARITHMETIC]))
    for number, step in enumerate(
        [first, *draw(st.lists(st.sampled_from([*MOVERS, *ARITHMETIC, kind, "Relu", "Shape"]), min_size=2, max_size=6))]
    ):
        y = f"t{number}"
        if step == kind:
            if (
                len(sides) != len(x)
                or sides[-1 if kind == "MatMul" else 1] != CHANNELS
                or (kind == "Conv" and sides[2] < 2)
            ):
                continue
            parts.append(op(kind, current, y, weight, name=f"op{number}"))
            sides[2] += {"Conv": -1, "ConvTranspose": 1, "MatMul": 0}[kind]
        elif step == "Transpose":
            perm = draw(st.permutations(range(len(sides))))
            parts.append(move("Transpose", current, y, perm=perm))
            sides = [sides[axis] for axis in perm]
        elif step == "Unsqueeze":
            axis = draw(st.integers(0, len(sides)))
            parts.append(move("Unsqueeze", current, y, axis))
            sides.insert(axis, 1)
        elif step == "Squeeze":
            if 1 not in sides:
                continue
            parts.append(move("Squeeze", current, y, sides.index(1)))
            sides.remove(1)
        elif step == "Reshape":
            cut = draw(st.integers(0, len(sides) - 1))
            sides = [*sides[:cut], int(np.prod(sides[cut : cut + 2])), *sides[cut + 2 :]]
            parts.append(move("Reshape", current, y, *sides))
        elif step in ("Relu", "Shape"):
            parts.append(([onnx.helper.make_node(step, [current], [y if step == "Relu" else f"{y}/shape"])], {}))
            if step == "Shape":
                continue
        else:
            likely = [axis for axis, side in enumerate(sides) if side == CHANNELS]
            axis = draw(st.sampled_from(3 * likely + list(range(len(sides)))))
            size = draw(st.sampled_from([1, sides[axis]]))
            shape = tuple(size if a == axis else 1 for a in range(len(sides)))
            parts.append(arithmetic(step, current, y, shape, swap=step != "Div" and draw(st.booleans())))
        current = y
        if draw(st.integers(0, 9)) == 0:
            outputs.append(current)
    if current == "x":
        parts.append(move("Identity", "x", current := "t"))
    return x, model(x, *parts, outputs=tuple(dict.fromkeys([current, *outputs])))


@settings(max_examples=150, deadline=None)
@given(chains())
def test_folding_never_changes_a_result(chain: tuple[tuple[int, ...], onnx.ModelProto]) -> None:
    """What is folded computes the same, in a valid graph with no more nodes, and folding it again does nothing."""
    x, narrow = chain
    original = in_float64(narrow)  # a fold in float64 rounds nowhere else
    done = fold(original)
    onnx.checker.check_model(done.model, full_check=True)
    feeds = {"x": np.random.default_rng(1).normal(size=x)}
    results = (ReferenceEvaluator(graph).run(None, feeds) for graph in (done.model, original))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * max(1, np.abs(expected).max()))
    assert len(done.model.graph.node) <= len(original.graph.node)
    assert not fold(done.model)
