"""ResNet18 and MobileNetV3 of PyTorch as torch.onnx exports them: both modes, their noise floors, and recalibration."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnexport
from bnexport.frameworks.names import use_model
from bnexport.frameworks.protocols import Want
from bnexport.frameworks.registry import recognise

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

from tests.e2e import torch_nets  # noqa: E402 - it imports PyTorch

pytestmark = [
    pytest.mark.torch,
    # torch.onnx of 2.13 uses what other parts of PyTorch deprecate.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
X = np.random.default_rng(0).normal(size=(16, 3, 64, 64)).astype(np.float32)


@dataclass(frozen=True)
class Net:
    """A net with weights and statistics, and the file that keeps its BatchNormalization nodes."""

    module: Any
    path: Path


@pytest.fixture(params=sorted(torch_nets.NETS), scope="module")
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Net:
    module = torch_nets.randomise(torch_nets.NETS[request.param]())
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    torch.onnx.export(
        module,
        (torch.from_numpy(X[:2]),),
        str(path),
        dynamo=True,
        optimize=False,
        external_data=False,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    return Net(module, path)


def without_dropout(module: Any) -> Any:
    plain = copy.deepcopy(module)
    for layer in plain.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return plain.train()


def test_the_export_passes(net: Net, tmp_path: Path) -> None:
    """Within the noise floors, as torch.onnx writes it by default, with everything folded, and with its BatchNormalization nodes.

    A kernel that another one took the place of is found in both.
    """
    from onnxscript import optimizer

    folded = tmp_path / "folded.onnx"
    onnx.save(optimizer.optimize(onnx.load(net.path)), folded)
    for path in (net.path, folded):
        report = bnexport.check(net.module, X, onnx=path)
        failed = [c for c in report.comparisons if not c and c.reference == "torch-inference" and "onnx" in c.actual]
        assert not failed
        assert not {f.code for f in report.findings} & {"EX001", "EX003", "EX005", "RT004", "BN006"}
        graph = onnx.load(path)
        kernel = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[::-1].copy(), kernel.name))
        onnx.save(graph, tmp_path / "wrong.onnx")
        assert {f.code for f in bnexport.check(net.module, X, onnx=tmp_path / "wrong.onnx").findings} >= {"EX001"}


def test_training_mode_is_that_of_the_module(net: Net) -> None:
    """To the bit, with dropout off; and the training-mode graph of the file computes the same to rounding."""
    with use_model(net.module) as source:
        model = recognise(source).framework.load(source, Want(deployed=net.path))
    [x], [y] = model.signature.inputs, model.signature.outputs
    expected = without_dropout(net.module)(torch.from_numpy(X)).detach().numpy()
    actual = model.forward({x.name: X}, mode="training")[y.name]
    np.testing.assert_array_equal(actual, expected)
    exact = model.forward({x.name: X}, mode="training", dtype="float64")[y.name]
    floor = np.abs(actual - exact).max()

    from bnexport.comparison.sides import onnx_sides
    from bnexport.frameworks.onnx_file import learn_ranks, read_onnx

    graph = read_onnx(net.path).graph
    learn_ranks(graph, {x.name: X})
    [side] = onnx_sides(graph, ["cpu"], modes=("training",))[1:]
    np.testing.assert_allclose(
        side.compute({x.name: X})[y.name], exact, atol=16 * floor
    )  # both round, by other kernels


def test_recalibration_is_that_of_the_module(net: Net, tmp_path: Path) -> None:
    """`recalibrate` of the file gives the statistics of one training-mode pass of the module over all images, in float64."""
    np.savez(tmp_path / "data.npz", x=X)
    bnexport.recalibrate(net.path, None, tmp_path / "new.onnx", inputs=tmp_path / "data.npz", batch_size=5, force=True)
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "new.onnx").graph.initializer}
    exact, counts = without_dropout(net.module).double(), {}
    for name, layer in exact.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics of this batch alone
            layer.register_forward_hook(
                lambda _, x, __, name=name: counts.update({name: x[0].numel() // x[0].shape[1]})
            )
    exact(torch.from_numpy(X).double())
    assert len(counts) == (20 if len(counts) < 30 else 34)
    for name, count in counts.items():
        layer = exact.get_submodule(name)
        var = layer.running_var.numpy() * (count - 1) / count  # PyTorch keeps the unbiased variance
        # Measured: 6.5e-7 and 2.0e-6. Inputs of the layers are float32, after up to 34 layers.
        z = np.abs(stored[f"{name}.running_mean"] - layer.running_mean.numpy()) / np.sqrt(var)
        assert z.max() < 1e-5, name
        np.testing.assert_allclose(stored[f"{name}.running_var"], var, rtol=2e-5, err_msg=name)
