"""Folding, row by row, against ONNX' reference evaluator on the same graph in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from bnexport.folding.transform import Folded, fold
from bnexport.numerics import linear
from bnexport.onnx_graph.movers import MOVERS
from tests.unit.fold_graphs import C2, TABLE, Graph, arithmetic, bn, distance, model, op


def folded(name: str, dtype: type = np.float32) -> tuple[onnx.ModelProto, Folded, tuple[int, ...]]:
    shape, build = TABLE[name]
    original = model(shape, *build(), dtype=dtype)
    return original, fold(original), shape


@pytest.mark.parametrize("name", TABLE)
def test_every_row_folds(name: str) -> None:
    """Nothing affine is left, and the result is the same to float32 rounding of the weights, which a deleted epsilon is not."""
    original, done, shape = folded(name)
    before = original.SerializeToString(deterministic=True)
    assert fold(original)
    assert original.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(done.model, full_check=True)
    left = [n.op_type for n in done.model.graph.node if n.op_type not in linear.LINEAR and n.op_type not in MOVERS]
    assert left == (["Add"] if "MatMul" in name else ["Pad"] if "Pad" in name else [])
    moving = [n.op_type for n in original.graph.node if n.op_type in MOVERS]
    assert [n.op_type for n in done.model.graph.node if n.op_type in MOVERS] == moving
    assert done
    assert not done.refusals
    assert distance(done.model, original, shape) < 1e-6  # weights are rounded to float32 once: 6e-8 each


@pytest.mark.parametrize("name", ["Conv 2d", "Gemm", "MatMul"])
def test_half_precision_folds(name: str) -> None:
    """float16 weights stay float16; computed in float64 and rounded once."""
    original, done, shape = folded(name, np.float16)
    assert {t.data_type for t in done.model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert distance(done.model, original, shape) < 2e-3  # float16 keeps 11 bits: 5e-4 for each weight


MUTATIONS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "epsilon deleted": ("Conv 2d", lambda m: _attributes(m, epsilon=0.0)),
    "bias dropped": ("Conv 1d", lambda m: m.setattr(linear.Linear, "after", _without_bias(linear.Linear.after))),
    "bias dropped before": (
        "BN -> Gemm",
        lambda m: m.setattr(linear.Linear, "before", _without_bias(linear.Linear.before)),
    ),
    "groups ignored": ("ConvTranspose grouped", lambda m: m.setattr(linear.Linear, "_groups", property(lambda _: 1))),
    "alpha ignored": ("BN -> Gemm", lambda m: m.setattr(linear.Linear, "alpha", property(lambda _: 1.0))),
    "scale swapped with shift": ("Conv 2d", lambda m: m.setattr(linear.Linear, "after", _swapped(linear.Linear.after))),
}


def _attributes(patch: pytest.MonkeyPatch, **changed: float) -> None:
    from bnexport.onnx_graph import patterns

    original = patterns.attributes_of
    patch.setattr(
        patterns,
        "attributes_of",
        lambda node: {**original(node), **(changed if node.op_type == "BatchNormalization" else {})},
    )


def _without_bias(original: Callable) -> Callable:
    def changed(self: linear.Linear, s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return original(linear.Linear(self.op, self.weight, None, self.attributes), s, t)

    return changed


def _swapped(original: Callable) -> Callable:
    return lambda self, s, t: original(self, t, s)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_fold_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake one could make in the algebra moves the result by far more than the tolerance of the test above, or folds nothing."""
    row, mutate = MUTATIONS[name]
    mutate(monkeypatch)
    original, done, shape = folded(row)
    assert done.refusals or distance(done.model, original, shape) > 1e-3


REFUSED: dict[str, tuple[tuple[int, ...], Callable[[], list[Graph]], tuple[str, ...], str]] = {
    "another reader": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 1, 1)),
            bn("a", "b", 6),
            arithmetic("Mul", "a", "c", ()),
            ([helper.make_node("Add", ["b", "c"], ["y"])], {}),
        ],
        ("y",),
        "has several readers",
    ),
    "a graph output": (
        C2,
        lambda: [op("Conv", "x", "a", (6, 4, 1, 1)), bn("a", "y", 6)],
        ("y", "a"),
        "the output of op is an output of the graph",
    ),
    "zero padding": (
        C2,
        lambda: [
            ([helper.make_node("Relu", ["x"], ["r"])], {}),
            bn("r", "a", 4),
            op("Conv", "a", "y", (6, 4, 3, 3), pads=[1, 1, 1, 1]),
        ],
        ("y",),
        "pads its input",
    ),
    "automatic padding": (
        C2,
        lambda: [
            ([helper.make_node("Relu", ["x"], ["r"])], {}),
            bn("r", "a", 4),
            op("Conv", "a", "y", (6, 4, 3, 3), auto_pad="SAME_UPPER"),
        ],
        ("y",),
        "pads its input",
    ),
    "between nonlinearities": (
        C2,
        lambda: [
            ([helper.make_node("Relu", ["x"], ["r"])], {}),
            bn("r", "a", 4),
            ([helper.make_node("Relu", ["a"], ["y"])], {}),
        ],
        ("y",),
        "comes from Relu; its output is the input of Relu",
    ),
    "not finite": (C2, lambda: [op("Conv", "x", "a", (6, 4, 1, 1)), _broken(bn("a", "y", 6))], ("y",), "not finite"),
    "channels elsewhere": ((2, 4, 5), lambda: [op("MatMul", "x", "a", (5, 4)), bn("a", "y", 4)], ("y",), ""),
}


def _broken(graph: Graph) -> Graph:
    graph[1]["bn/var"][2] = -3.0
    return graph


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_have_a_reason(name: str) -> None:
    """What must not be folded stays as it was, and says why."""
    shape, build, outputs, reason = REFUSED[name]
    original = model(shape, *build(), outputs=outputs)
    done = fold(original)
    assert [r.name for r in done.refusals] == ["bn"]
    assert reason in done.refusals[0].reason
    assert done.refusals[0].reason
    assert [n.op_type for n in done.model.graph.node] == [n.op_type for n in original.graph.node]


def test_a_weight_that_may_be_fed_is_left_alone() -> None:
    """An initializer that is also a graph input can be overridden by the caller."""
    original = model(C2, *TABLE["Conv 2d"][1]())
    original.graph.input.append(helper.make_tensor_value_info("op/w", 1, [6, 4, 3, 3]))
    [refusal] = fold(original).refusals
    assert "not a constant" in refusal.reason


def test_training_mode_is_left_alone() -> None:
    """A node in training mode has no fixed scale."""
    original = model(C2, *TABLE["Conv 2d"][1]())
    original.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    [refusal] = fold(original).refusals
    assert "training mode" in refusal.reason


def test_a_shared_weight_gets_one_initializer_for_each_use() -> None:
    """Two convolutions that shared a weight do not share the folded ones."""
    _, done, _ = folded("shared weights")
    used = [n.input[1] for n in done.model.graph.node]
    assert len(set(used)) == 2
