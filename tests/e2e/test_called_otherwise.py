"""A deployed file that is right if it is called otherwise: class order, turned images, also in 16 and 8 bits; and .tflite files of other weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnexport import check
from bnexport.checking.class_order import find_class_order
from bnexport.onnx_graph.layers import LayerTensors
from bnexport.results.verdict import CheckReport, Finding, Severity
from bnexport.runtimes.tflite_weights import read_kernels
from tests.tflite_nets import linear_net

RNG = np.random.default_rng(3)
IMAGES = RNG.uniform(0, 1, (12, 3, 8, 8)).astype(np.float32)
WEIGHTS = {
    "w": RNG.normal(size=(6, 3, 3, 3)).astype(np.float32),
    "d": RNG.normal(size=(6 * 36, 4)).astype(np.float32) / 4,
}


def image_net(before: list[onnx.NodeProto] | None = None, after: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    """A convolution and a softmax over four classes; `before` makes h of x, `after` makes y of p."""
    nodes = [
        *(before or [helper.make_node("Identity", ["x"], ["h"])]),
        helper.make_node("Conv", ["h", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=-1),
        *(after or [helper.make_node("Identity", ["p"], ["y"])]),
    ]
    graph = helper.make_graph(
        nodes,
        "images",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 4))],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()]
        + [numpy_helper.from_array(np.array([2, 0, 1, 3]), "order")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def mirrored(axis: int) -> list[onnx.NodeProto]:
    """The images backwards along an axis."""
    ends = {"starts": [-1], "ends": [-(2**31)], "axes": [axis], "steps": [-1]}
    constants = [helper.make_node("Constant", [], [name], value_ints=values) for name, values in ends.items()]
    return [*constants, helper.make_node("Slice", ["x", *ends], ["h"])]


TURNED = {
    "height and width exchanged": [helper.make_node("Transpose", ["x"], ["h"], perm=[0, 1, 3, 2])],
    "mirrored, left for right": mirrored(3),
    "upside down": mirrored(2),
}
REORDERED = [helper.make_node("Gather", ["p", "order"], ["y"], axis=1)]


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with its weights rounded to float16 and its arithmetic in float16."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in model.graph.node:
        node.input[:] = ["x16" if name == "x" else name for name in node.input]
        node.output[:] = ["y16" if name == "y" else name for name in node.output]
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT))
    onnx.checker.check_model(model, full_check=True)
    return model


def held(tmp_path: Path, file: onnx.ModelProto) -> CheckReport:
    """The check of a file against the net."""
    onnx.save(image_net(), tmp_path / "net.onnx")
    onnx.save(file, tmp_path / "file.onnx")
    return check(tmp_path / "net.onnx", IMAGES, deployed=tmp_path / "file.onnx")


def errors(report: CheckReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity == Severity.ERROR]


@pytest.mark.parametrize("form", [lambda model: model, half], ids=["float32", "float16"])
@pytest.mark.parametrize("how", TURNED)
def test_turned_images_are_named(how: str, form: Callable[[onnx.ModelProto], onnx.ModelProto], tmp_path: Path) -> None:
    """EX004 says how the images lie that the file takes, in float32 and in 16 bits."""
    [finding] = errors(held(tmp_path, form(image_net(TURNED[how]))))
    assert finding.code == "EX004"
    assert how in finding.message


@pytest.mark.parametrize("form", [lambda model: model, half], ids=["float32", "float16"])
def test_another_order_of_classes_is_named(form: Callable[[onnx.ModelProto], onnx.ModelProto], tmp_path: Path) -> None:
    """EX004 says which column of the file holds which class of the model."""
    [finding] = errors(held(tmp_path, form(image_net(after=REORDERED))))
    assert finding.code == "EX004"
    assert (
        "its output y has the classes of the model in another order: 0 holds 2, 1 holds 0, 2 holds 1" in finding.message
    )


def test_healthy_files_have_no_such_finding(tmp_path: Path) -> None:
    """The same file passes, and so does its float16 form."""
    for file in (image_net(), half(image_net())):
        assert not errors(held(tmp_path, file))


def test_no_order_is_found_where_there_is_none() -> None:
    """Equal columns, one item, other values and an output of another shape say nothing."""
    wanted = RNG.normal(size=(6, 3))

    def orders(actual: np.ndarray, reference: np.ndarray = wanted) -> list[str]:
        return list(
            find_class_order({"y": "out"}, {"y": actual}, {"y": reference}, lambda o: np.allclose(o["y"], reference))
        )

    assert orders(wanted[:, [1, 0, 2]]) == [
        "its output out has the classes of the model in another order: 0 holds 1, 1 holds 0"
    ]
    assert orders(wanted) == []
    assert orders(wanted[:, [1, 1, 2]]) == []
    assert orders(wanted[:, [1, 0, 2]] + 0.1) == []
    assert orders(wanted[:1, [1, 0, 2]], wanted[:1]) == []
    assert orders(wanted[:, :2]) == []
    assert orders(np.full_like(wanted, np.nan)) == []


def test_a_transpose_that_tf2onnx_inserted_at_the_input_is_no_layer() -> None:
    """It has the name of the layer that it was moved away from, and holds the input."""
    for name, found in (("net/bn_1/mul__6", []), ("net/bn_1/transpose", [["h"]])):
        before = [helper.make_node("Transpose", ["x"], ["h"], name=name, perm=[0, 1, 3, 2])]
        assert LayerTensors(image_net(before)).groups("bn") == found


def dense(kernel: np.ndarray) -> onnx.ModelProto:
    """What `linear_net` computes, as an ONNX file."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["h"]),
            helper.make_node("MatMul", ["h", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["y"], axis=-1),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", kernel.shape[0]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", kernel.shape[1]))],
        [numpy_helper.from_array(kernel, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


KERNEL = RNG.normal(size=(8, 5)).astype(np.float32)


def test_kernels_of_tflite_files_are_read() -> None:
    """In the layout of Keras, by the name of the tensor."""
    [(name, kernel)] = read_kernels(linear_net(KERNEL), "a file").items()
    assert name == "w"
    assert np.array_equal(kernel, KERNEL)


@pytest.mark.parametrize(
    ("kernel", "code", "words"),
    [
        (
            KERNEL[::-1] * np.float32(1.5),
            "EX005",
            "the file contains the weights of another checkpoint: 1 of 1 kernels",
        ),
        (KERNEL[:, [1, 0, 2, 3, 4]], "EX004", "has the classes of the model in another order: 0 holds 1, 1 holds 0"),
    ],
)
def test_other_weights_in_a_tflite_file_are_named(kernel: np.ndarray, code: str, words: str, tmp_path: Path) -> None:
    """EX005, as for ONNX files; columns in another order are another order of classes."""
    pytest.importorskip("ai_edge_litert")
    onnx.save(dense(KERNEL), tmp_path / "net.onnx")
    (tmp_path / "net.tflite").write_bytes(linear_net(kernel))
    x = RNG.normal(size=(9, 8)).astype(np.float32)
    [finding] = errors(check(tmp_path / "net.onnx", x, deployed=tmp_path / "net.tflite"))
    assert finding.code == code
    assert words in finding.message
