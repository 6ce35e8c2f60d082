"""Small nets in ONNX with data, and files of reduced precision made of them by onnxruntime's and onnxconverter-common's own tools."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

COUNT = 128


class Batch(CalibrationDataReader):
    """One batch to calibrate with."""

    def __init__(self, x: np.ndarray, name: str = "x") -> None:
        self._batches = iter([{name: x}])

    def get_next(self) -> Any:
        return next(self._batches, None)


class Writer:
    """Nodes and weights of a graph with the input x."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(
        self, name: str, x: str, channels: tuple[int, int], *, size: int = 3, group: int = 1, stride: int = 1
    ) -> str:
        shape = (channels[1], channels[0] // group, size, size)
        w = self.rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        inputs = [x, self.weight(f"{name}_w", w), self.weight(f"{name}_b", self.rng.normal(0, 0.1, channels[1]))]
        pads = [size // 2] * 4
        return self.node("Conv", name, inputs, group=group, strides=[stride, stride], pads=pads)

    def relu6(self, name: str, x: str) -> str:
        if not any(tensor.name == "zero" for tensor in self.weights):
            self.weight("zero", np.array(0.0)), self.weight("six", np.array(6.0))
        return self.node("Clip", name, [x, "zero", "six"])

    def model(self, shape: Sequence[int], logits: str, classes: int) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Softmax", [logits], ["y"], name="softmax"))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(
    folder: Path, model: onnx.ModelProto, x: np.ndarray, labels: np.ndarray | None = None, name: str = "x"
) -> Path:
    """net.onnx; pre.onnx, prepared for quantising; and data.npz, with the input of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "net.onnx")
    quant_pre_process(str(folder / "net.onnx"), str(folder / "pre.onnx"), skip_symbolic_shape=True)
    np.savez(folder / "data.npz", **{name: x}, **({} if labels is None else {"labels": labels}))
    return folder


def digits(folder: Path) -> Path:
    """A trained classifier of digits: two hidden layers."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    net = MLPClassifier((32, 24), max_iter=40, random_state=0, learning_rate_init=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(x, y)
    writer, h = Writer(0), "x"
    for nth, (w, b) in enumerate(zip(net.coefs_, net.intercepts_, strict=True)):
        h = writer.node("Gemm", f"dense{nth}", [h, writer.weight(f"w{nth}", w), writer.weight(f"b{nth}", b)])
        h = writer.node("Relu", f"relu{nth}", [h]) if nth < 2 else h
    return save(folder, writer.model([64], h, 10), x[:COUNT], y[:COUNT])


def mobile(folder: Path) -> Path:
    """A MobileNetV2 of small width with random weights: depthwise convolutions, ReLU6, residuals."""
    writer = Writer(1)
    h = writer.relu6("stem6", writer.conv("stem", "x", (3, 8), stride=2))
    for nth, (inside, outside) in enumerate([(8, 8), (8, 12), (12, 12)]):
        wide = 2 * inside
        r = h
        h = writer.relu6(f"e{nth}6", writer.conv(f"expand{nth}", h, (inside, wide), size=1))
        h = writer.relu6(f"d{nth}6", writer.conv(f"depth{nth}", h, (wide, wide), group=wide))
        h = writer.conv(f"project{nth}", h, (wide, outside), size=1)
        h = writer.node("Add", f"add{nth}", [r, h]) if inside == outside else h
    h = writer.node("Flatten", "flat", [writer.node("GlobalAveragePool", "mean", [h])])
    w = writer.weight("head_w", writer.rng.normal(0, 2.0, (12, 5)))
    h = writer.node("Gemm", "head", [h, w, writer.weight("head_b", np.zeros(5))])
    x = np.random.default_rng(2).uniform(-1, 1, (32, 3, 16, 16)).astype(np.float32)
    x *= np.random.default_rng(3).uniform(0.2, 1.0, (32, 3, 1, 1)).astype(np.float32)
    return save(folder, writer.model([3, 16, 16], h, 5), x)


def bright(folder: Path) -> Path:
    """A net whose products of uint8 and int8 exceed 16 bits: bright inputs, and weights of one sign."""
    writer = Writer(4)
    w = np.abs(writer.rng.normal(1.0, 0.2, (64, 16)))
    h = writer.node("Gemm", "dense0", ["x", writer.weight("w0", w), writer.weight("b0", -50.0 * np.ones(16))])
    h = writer.node("Relu", "relu0", [h])
    w = writer.weight("w1", writer.rng.normal(0, 0.5, (16, 6)))
    h = writer.node("Gemm", "dense1", [h, w, writer.weight("b1", np.zeros(6))])
    x = np.random.default_rng(5).uniform(0.6, 1.0, (64, 64)).astype(np.float32)
    return save(folder, writer.model([64], h, 6), x)


def quantise(folder: Path, how: str, **options: Any) -> Path:
    """The net in `folder` in reduced precision: good, dark, far, u8s8, qoperator, dynamic, half, half_io."""
    path, source = folder / f"{how}.onnx", str(folder / "pre.onnx")
    data = np.load(folder / "data.npz")
    name = next(n for n in data.files if n != "labels")
    x = data[name]
    if how == "dynamic":
        quantize_dynamic(source, str(path), weight_type=QuantType.QUInt8)
    elif how.startswith("half"):
        from onnxconverter_common import float16

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each weight that it cuts
            model = float16.convert_float_to_float16(onnx.load(folder / "net.onnx"), keep_io_types=how == "half_io")
        onnx.save(model, path)
    else:
        noise = np.random.default_rng(6).normal(0, 0.02, x.shape).astype(np.float32)
        calibration = {"dark": x * np.float32(0.1), "noise": noise}.get(how, x)
        form = QuantFormat.QOperator if how == "qoperator" else QuantFormat.QDQ
        settings = {
            "reduce_range": how != "u8s8",
            "per_channel": form == QuantFormat.QDQ,
            "weight_type": QuantType.QInt8,
        }
        quantize_static(source, str(path), Batch(calibration, name), quant_format=form, **settings | options)
    return path
