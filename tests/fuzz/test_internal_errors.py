"""ONNX files that ended in an internal error once: a verdict, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.fuzz.test_structured import end_well

pytestmark = pytest.mark.filterwarnings("ignore")  # other libraries' warnings


def note(key: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    """Sets what bnexport notes about the model."""

    def change(model: onnx.ModelProto) -> None:
        kept = [entry for entry in model.metadata_props if entry.key != f"bnexport.{key}"]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        model.metadata_props.add(key=f"bnexport.{key}", value=json.dumps(value))

    return change


def note_momentum(value: Any) -> Callable[[onnx.ModelProto], None]:
    """Sets what bnexport notes about a BatchNormalization node."""

    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
        node.metadata_props.add(key="bnexport.momentum", value=json.dumps(value))

    return change


def declare(
    name: str, dtype: int, shape: list[int | str | None], *, instead: bool = False
) -> Callable[[onnx.ModelProto], None]:
    """Makes a tensor an output, also one that cannot have this type; in place of the others, or beside them."""

    def change(model: onnx.ModelProto) -> None:
        if instead:
            del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, dtype, shape))

    return change


def take(node: str, position: int, tensor: str) -> Callable[[onnx.ModelProto], None]:
    """Lets a node take another tensor."""

    def change(model: onnx.ModelProto) -> None:
        next(entry for entry in model.graph.node if entry.name == node).input[position] = tensor

    return change


def reshape(name: str, *dims: int) -> Callable[[onnx.ModelProto], None]:
    """Declares other dimensions for a weight."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.dims[:] = dims

    return change


KERAS, TORCH = "tiny_residual.onnx", "torch_residual.onnx"
BODY = "/body/body.4/BatchNormalization"
CASES: dict[str, tuple[str, list[Callable[[onnx.ModelProto], None]]]] = {
    "the logits are a text": (TORCH, [note("logits", "float32")]),
    "the logits are null": (TORCH, [note("logits", None)]),
    "the logits are a list": (KERAS, [note("logits", {"predictions": ["float16"]})]),
    "the logits are nested lists": (KERAS, [note("logits", {"predictions": [[{"class_name": "x"}]]})]),
    "the logits are a list, a weight has another rank": (
        KERAS,
        [note("logits", {"predictions": ["float16"]}), reshape("block2_1_bn/moving_variance", 16, 1)],
    ),
    "an output is a weight of another rank": (KERAS, [declare("predictions/bias", 1, [-1, 3], instead=True)]),
    "one more output of another rank": (KERAS, [declare("block1_1_bn/beta", 1, ["N", 3])]),
    "one more output of another dtype": (TORCH, [declare("head.bias", 8, [None, 3])]),
    "one more output of rank 0": (KERAS, [declare("stem_pad_1/Pad/negative_zero", 1, [])]),
    "a tensor before BatchNormalization has rank 0": (TORCH, [declare("/body/body.3/Conv_output_0", 1, [])]),
    "an output of a type that there is not": (TORCH, [declare("probabilities", 99, ["N", 3], instead=True)]),
    "a batch of 0": (TORCH, [declare("probabilities", 1, [0, 3], instead=True)]),
    "a batch of 7": (TORCH, [declare("probabilities", 1, [7, 3], instead=True), note_momentum({})]),
    "the momentum is a list": (TORCH, [note_momentum([])]),
    "the momentum is an object": (TORCH, [note_momentum({})]),
    "the mean is beta, a convolution is declared flat": (
        KERAS,
        [
            take("block1_2_bn", 3, "block1_2_bn/beta"),
            declare("block1_1_conv_1/BiasAdd:0", 1, ["N", 3], instead=True),
        ],
    ),
    "gamma is another layer's mean": (TORCH, [take(BODY, 1, "projection.1.running_mean"), note("logits", "null")]),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_ended_in_an_internal_error(case: str, models: Path, tmp_path: Path) -> None:
    """ONNX files that a longer search has turned up."""
    seed, changes = CASES[case]
    model = onnx.load(models / seed)
    for change in changes:
        change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    end_well(tmp_path / "m.onnx", models / "three", case)
