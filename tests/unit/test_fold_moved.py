"""Folding across operators that only move values: every permutation, every way of reshaping, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnexport.folding.transform import fold
from bnexport.onnx_graph import metadata
from tests.unit.fold_graphs import C2, Graph, arithmetic, bn, distance, model, move, op, pad

EXACT = 1e-6
"""Weights are rounded to float32 once: 6e-8 each."""


def along(axis: int, rank: int, channels: int) -> tuple[int, ...]:
    """A shape with the channels on one axis."""
    return tuple(channels if a == axis else 1 for a in range(rank))


def operators(done: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in done.graph.node]


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_every_permutation_is_followed(rank: int) -> None:
    """Mul and Add on the axis where the channels went are folded, at each place that they can go to, the batch's included."""
    x = (2, 2, *range(3, rank + 1))
    for perm in permutations(range(rank)):
        shape = along(perm.index(1), rank, 3)
        original = model(
            x,
            op("Conv", "x", "a", (3, 2, *[2] * (rank - 2))),
            move("Transpose", "a", "b", perm=perm),
            arithmetic("Mul", "b", "c", shape),
            arithmetic("Add", "c", "y", shape),
        )
        done = fold(original)
        assert operators(done.model) == ["Conv", "Transpose"], perm
        assert [(f.into, f.how) for f in done.folds] == [("op", "after")] * 2
        assert done.model.opset_import == original.opset_import
        assert distance(done.model, original, x) < EXACT, perm


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scale_on_another_axis_stays(axis: int) -> None:
    """After (0, 2, 3, 1) the channels are the last axis and no other one, whatever its size."""
    original = model(
        (6, 4, 8, 8),
        op("Conv", "x", "a", (6, 4, 3, 3)),
        move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
        arithmetic("Mul", "b", "y", along(axis, 4, 6)),
    )
    done = fold(original)
    assert not done
    [refusal] = done.refusals
    assert refusal.name == "Mul_y"
    assert "not along the output channels of op" in refusal.reason


def test_a_transpose_without_permutation_reverses() -> None:
    """ONNX' default."""
    x = (2, 4, 7)
    original = model(
        x, op("Conv", "x", "a", (6, 4, 3)), move("Transpose", "a", "b"), arithmetic("Mul", "b", "y", (6, 1))
    )
    done = fold(original)
    assert operators(done.model) == ["Conv", "Transpose"]
    assert distance(done.model, original, x) < EXACT


MOVED: dict[str, tuple[tuple[int, ...], Callable[[], list[Graph]]]] = {
    "several": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 3, 3)),
            move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
            move("Reshape", "b", "c", 0, 25, 6),
            move("Identity", "c", "d"),
            move("Unsqueeze", "d", "e", -1),
            move("Transpose", "e", "f", perm=[3, 0, 2, 1]),
            arithmetic("Mul", "f", "y", (6, 1)),
        ],
    ),
    "Reshape that splits the positions": (
        (2, 4, 6),
        lambda: [
            op("Conv", "x", "a", (6, 4, 1)),
            move("Reshape", "a", "b", -1, 6, 2, 3),
            arithmetic("Mul", "b", "y", (6, 1, 1)),
        ],
    ),
    "Flatten of one position": (
        (2, 4, 1, 1),
        lambda: [op("Conv", "x", "a", (6, 4, 1, 1)), move("Flatten", "a", "b"), bn("b", "y", 6)],
    ),
    "Slice of positions": (
        C2,
        lambda: [
            op("Conv", "x", "a", (6, 4, 1, 1)),
            (
                [helper.make_node("Slice", ["a", "from", "to", "axes"], ["b"])],
                {"from": np.array([1, 2]), "to": np.array([5, 6]), "axes": np.array([2, -1])},
            ),
            arithmetic("Sub", "b", "y", (6, 1, 1), swap=True),
        ],
    ),
    "BN -> Transpose -> MatMul": (
        (2, 4, 5),
        lambda: [
            bn("x", "a", 4),
            move("Transpose", "a", "b", perm=[0, 2, 1]),
            op("MatMul", "b", "c", (4, 3)),
            arithmetic("Add", "c", "y", (3,)),
        ],
    ),
    "MatMul -> Transpose -> BN": (
        (2, 5, 4),
        lambda: [
            op("MatMul", "x", "a", (4, 6)),
            arithmetic("Sub", "a", "b", (6,)),
            move("Transpose", "b", "c", perm=[0, 2, 1]),
            bn("c", "y", 6),
        ],
    ),
    "one number": (
        (2, 5, 4),
        lambda: [
            op("MatMul", "x", "a", (4, 6)),
            move("Reshape", "a", "b", -1),
            arithmetic("Add", "b", "c", (1,)),
            arithmetic("Mul", "c", "d", ()),
            arithmetic("Sub", "d", "y", (), swap=True),
        ],
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_channels_are_followed(name: str) -> None:
    """Nothing but the bias of a MatMul is left, and the result is the same."""
    x, build = MOVED[name]
    original = model(x, *build())
    done = fold(original)
    onnx.checker.check_model(done.model, full_check=True)
    left = [kind for kind in operators(done.model) if kind in ("BatchNormalization", "Mul", "Add", "Sub")]
    assert left == ["Add"] * ("MatMul" in operators(original))
    assert not done.refusals
    assert distance(done.model, original, x) < EXACT


def test_only_its_shape_is_read_too() -> None:
    """A Shape beside the Mul asks for no values: it reads the name that is left."""
    original = model(
        C2,
        op("Conv", "x", "a", (6, 4, 3, 3)),
        move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
        move("Shape", "a", "s"),
        move("Shape", "b", "t"),
        arithmetic("Mul", "b", "y", (6,)),
        outputs=("y",),
    )
    original.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [4]) for name in "st")
    done = fold(original)
    assert operators(done.model) == ["Conv", "Transpose", "Shape", "Shape"]
    onnx.checker.check_model(done.model, full_check=True)
    assert distance(done.model, original, C2) < EXACT


def test_older_operator_sets_name_the_axes_in_attributes() -> None:
    """Squeeze and Unsqueeze before operator set 13."""
    original = model(
        (2, 4, 9),
        move("Unsqueeze", "x", "a", axes=[2]),
        op("Conv", "a", "b", (6, 4, 1, 3)),
        move("Squeeze", "b", "c", axes=[-2]),
        arithmetic("Mul", "c", "y", (6, 1)),
        opset=11,
    )
    done = fold(original)
    assert operators(done.model) == ["Unsqueeze", "Conv", "Squeeze"]
    assert distance(done.model, original, (2, 4, 9)) < EXACT


def between(*behind: Graph) -> list[Graph]:
    return [op("Conv", "x", "a", (6, 4, 3, 3)), move("Transpose", "a", "b", perm=[0, 2, 3, 1]), *behind]


def add(*names: str) -> Graph:
    return [helper.make_node("Add", names[:2], [names[2]], name="sum")], {}


REFUSED: dict[str, tuple[Callable[[], list[Graph]], tuple[str, ...], str]] = {
    "another reader of the transposed tensor": (
        lambda: between(arithmetic("Mul", "b", "c", (6,)), add("b", "c", "y")),
        ("y",),
        "the output of Transpose_b has several readers",
    ),
    "another reader of the convolution": (
        lambda: between(
            arithmetic("Mul", "b", "c", (6,)),
            move("Transpose", "a", "d", perm=[0, 2, 3, 1]),
            add("c", "d", "y"),
        ),
        ("y",),
        "the output of op has several readers",
    ),
    "the transposed tensor is an output": (
        lambda: between(arithmetic("Mul", "b", "y", (6,))),
        ("y", "b"),
        "the output of Transpose_b is an output of the graph",
    ),
    "the convolution is an output": (
        lambda: between(arithmetic("Mul", "b", "y", (6,))),
        ("y", "a"),
        "the output of op is an output of the graph",
    ),
    "channels and positions become one axis": (
        lambda: between(move("Reshape", "b", "c", 0, 150), arithmetic("Mul", "c", "y", (150,))),
        ("y",),
        "its channels are no axis of the input of Reshape_c",
    ),
    "something else between": (
        lambda: between(([helper.make_node("Relu", ["b"], ["c"])], {}), arithmetic("Mul", "c", "y", (6,))),
        ("y",),
        "its input comes from Relu",
    ),
    "more channels than the convolution gives": (
        lambda: [
            op("Conv", "x", "a", (1, 4, 3, 3)),
            move("Transpose", "a", "b", perm=[0, 2, 3, 1]),
            arithmetic("Mul", "b", "y", (6,)),
        ],
        ("y",),
        "not along the output channels of op",
    ),
    "padding behind it": (
        lambda: [
            move("Transpose", "x", "r", perm=[0, 2, 3, 1]),
            arithmetic("Mul", "r", "b", (4,)),
            arithmetic("Add", "b", "c", (4,)),
            move("Transpose", "c", "d", perm=[0, 3, 1, 2]),
            op("Conv", "d", "y", (6, 4, 3, 3), pads=[1, 1, 1, 1]),
        ],
        ("y",),
        "op pads its input with zeros",
    ),
    "a pad between": (
        lambda: between(pad("b", "c", 4), arithmetic("Mul", "c", "y", (6,))),
        ("y",),
        "its input comes from Pad",
    ),
    "a bias along another axis": (
        lambda: [
            move("Reshape", "x", "a", 0, 49, 4),
            op("MatMul", "a", "b", (4, 6)),
            arithmetic("Add", "b", "c", (49, 1)),
            arithmetic("Mul", "c", "y", (6,)),
        ],
        ("y",),
        "not along the output channels of op",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_have_a_reason(name: str) -> None:
    """What must not be folded stays as it was, and says why."""
    build, outputs, reason = REFUSED[name]
    original = model(C2, *build(), outputs=outputs)
    done = fold(original)
    assert not done
    assert operators(done.model) == operators(original)
    assert any(reason in refusal.reason for refusal in done.refusals), done.refusals


def test_one_channel_that_a_scale_makes_several_stays() -> None:
    """A grey image times three numbers is an image of three channels: the convolution reads no such image without the Mul."""
    original = model(
        (2, 7, 7, 1),
        arithmetic("Mul", "x", "a", (3,)),
        move("Transpose", "a", "b", perm=[0, 3, 1, 2]),
        op("Conv", "b", "y", (6, 3, 3, 3)),
    )
    [refusal] = fold(original).refusals
    assert "number of channels of its input" in refusal.reason


def test_an_unknown_rank_is_a_reason() -> None:
    """Without the rank of a tensor nobody knows which axis a constant goes with."""
    original = model(C2, *between(arithmetic("Mul", "b", "y", (6,))))
    original.graph.input[0].type.tensor_type.ClearField("shape")
    del original.graph.value_info[:]
    original.graph.node[0].CopyFrom(helper.make_node("Reshape", ["x", "s"], ["a"], name="free"))
    original.graph.input.append(helper.make_tensor_value_info("s", onnx.TensorProto.INT64, ["R"]))
    [refusal] = fold(original).refusals
    assert refusal.reason == "the rank of its input is not known"


def test_what_a_branch_captures_is_read() -> None:
    """A branch of an If that reads the convolution's output is another reader, and its weights stay."""
    branch = [
        helper.make_graph(
            [helper.make_node("Add", [name, "inner"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", 1, None)],
        )
        for name in ("a", "y")
    ]
    choice = helper.make_node("If", ["choose"], ["z"], name="if", then_branch=branch[0], else_branch=branch[1])
    original = model(
        C2,
        op("Conv", "x", "a", (6, 4, 3, 3)),
        arithmetic("Mul", "a", "y", (6, 1, 1)),
        op("Conv", "y", "c", (2, 6, 1, 1), name="last"),
        arithmetic("Mul", "c", "d", (2, 1, 1)),
        ([choice], {"inner": np.ones(1)}),
        outputs=("z", "d"),
    )
    original.graph.initializer.append(numpy_helper.from_array(np.array(True), "choose"))
    done = fold(original)
    assert [f.into for f in done.folds] == ["last"]
    assert "inner" in {tensor.name for tensor in done.model.graph.initializer}
    assert [r.reason.split(";")[0] for r in done.refusals] == ["the output of op has several readers"]


def test_the_logits_that_the_metadata_names_stay() -> None:
    """A temperature behind the logits is no part of the operator that makes them."""
    parts = (op("Gemm", "x", "a", (4, 6), bias=6), arithmetic("Mul", "a", "b", ()), move("Softmax", "b", "y", axis=1))
    original = model((3, 4), *parts)
    assert operators(fold(original).model) == ["Gemm", "Softmax"]
    metadata.write(original, {"logits": {"y": "a"}})
    assert operators(fold(original).model) == ["Gemm", "Mul", "Softmax"]


def test_constants_that_nobody_reads_any_more_go() -> None:
    """A scale that a Constant node holds leaves no node behind."""
    original = model(C2, *between(([helper.make_node("Mul", ["b", "s"], ["y"])], {})))
    scale = numpy_helper.from_array(np.linspace(1, 2, 6, dtype=np.float32))
    original.graph.node.insert(0, helper.make_node("Constant", [], ["s"], value=scale))
    done = fold(original)
    assert operators(done.model) == ["Conv", "Transpose"]
