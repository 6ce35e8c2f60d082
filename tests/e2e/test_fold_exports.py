"""Files that plain tf2onnx writes, whose normalisation became Mul and Add, folded by the command."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from bnexport.cli import app
from bnexport.runtimes.ort_session import Session
from tests.e2e import nets

pytestmark = pytest.mark.keras


def test_what_tf2onnx_leaves_behind_transposes_is_folded(tmp_path: Path) -> None:
    """A block as in MobileNetV3, whose padding and mean keep the Transposes in place, a Conv1D and a Dense on three axes: no scale is left."""
    import tensorflow as tf
    import tf2onnx

    keras = nets._keras()
    k = keras.layers
    x = keras.Input((8, 8, 3), name="x")
    h = k.Activation("hard_swish")(k.BatchNormalization()(k.Conv2D(4, 3, use_bias=False)(x)))
    h = k.ReLU()(k.BatchNormalization()(k.DepthwiseConv2D(3)(k.ZeroPadding2D(1)(h))))
    gate = k.Activation("hard_sigmoid")(k.Conv2D(4, 1)(k.GlobalAveragePooling2D(keepdims=True)(h)))
    h = k.BatchNormalization()(k.Conv2DTranspose(4, 3)(k.Multiply()([h, gate])))
    h = k.Reshape((64, 4))(k.Activation("hard_swish")(h))
    for layer in (k.Conv1D(4, 3), k.Dense(5)):
        h = k.ReLU()(k.BatchNormalization()(layer(h)))
    net = nets.randomise(keras.Model(x, h))
    spec = [tf.TensorSpec((None, 8, 8, 3), tf.float32, name="x")]
    theirs, _ = tf2onnx.convert.from_keras(net, spec, opset=17)
    onnx.save(theirs, tmp_path / "theirs.onnx")
    maker = {output: node.op_type for node in theirs.graph.node for output in node.output}
    assert [maker[node.input[0]] for node in scaling(theirs)].count("Transpose") >= 3
    arguments = ["fold", str(tmp_path / "theirs.onnx"), "-o", str(tmp_path / "folded.onnx"), "-q", "--format", "json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["refused"] == []
    folded = onnx.load(tmp_path / "folded.onnx")
    assert [node.op_type for node in scaling(folded)] == ["Add"]  # the bias of the Dense layer, which is a MatMul
    before, after = (Counter(node.op_type for node in graph.graph.node) for graph in (theirs, folded))
    assert set(before - after) == {"Mul", "Add"}
    assert not after - before
    assert folded.opset_import == theirs.opset_import
    image = nets.inputs_for(net, 3)[0]
    [name] = [info.name for info in folded.graph.output]
    actual = Session(folded.SerializeToString()).run({"x": image}, [name])[name]
    np.testing.assert_allclose(actual, np.asarray(net(image)), rtol=0, atol=1e-5 * np.abs(actual).max())


def scaling(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The Mul and Add nodes of a constant of several values."""
    wide = {tensor.name for tensor in model.graph.initializer if max(tensor.dims, default=1) > 1}
    return [node for node in model.graph.node if node.op_type in ("Mul", "Add") and wide & set(node.input)]
