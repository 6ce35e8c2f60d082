"""PyTorch as the reference: modules, state dicts, TorchScript and torch.export files against ONNX files that torch.onnx wrote."""

from __future__ import annotations

import copy
import random
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner, Result

import bnexport
from bnexport.cli import app
from bnexport.comparison.deployed import read_onnx
from bnexport.errors import BnexportError, ExportError, InputError, UsageError
from bnexport.frameworks.names import use_model
from bnexport.frameworks.protocols import ReferenceModel, Want
from bnexport.frameworks.registry import recognise
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Scaling
from bnexport.results.verdict import CheckReport

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

from tests.e2e import torch_nets  # noqa: E402 - it imports PyTorch

pytestmark = [
    pytest.mark.torch,
    # torch.onnx and torch.jit of 2.13 use what other parts of PyTorch deprecate.
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
        "ignore::UserWarning",
        "ignore:Converting a tensor to a Python",
    ),
]
X = np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32)


def export(module: Any, path: Path, x: np.ndarray = X[:2], **how: Any) -> Path:
    """The file that torch.onnx.export(..., dynamo=True) writes, with an open batch axis."""
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        module,
        (torch.from_numpy(x),),
        str(path),
        **{"dynamo": True, "external_data": False, "verbose": False, "dynamic_shapes": ({0: batch},)} | how,
    )
    return path


def export_by_tracing(module: Any, path: Path, **how: Any) -> Path:
    """The file that the older exporter writes."""
    axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    names = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
    torch.onnx.export(module, (torch.from_numpy(X[:2]),), str(path), dynamo=False, **{**names, **how})
    return path


@dataclass(frozen=True)
class Files:
    """Files of `torch_nets:small`."""

    folder: Path
    onnx: Path
    onnx_with_nodes: Path
    state: Path
    data: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("torch")
    net = torch_nets.small()
    torch.save(net.state_dict(), folder / "state.pt")
    np.savez(folder / "data.npz", x=X)
    return Files(
        folder,
        export(net, folder / "net.onnx"),
        export(net, folder / "nodes.onnx", optimize=False),
        folder / "state.pt",
        folder / "data.npz",
    )


@pytest.fixture
def in_the_folder_of_the_nets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of the current folder can be named; afterwards they are forgotten."""
    import sys

    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("torch_nets", None)


def codes(report: CheckReport) -> set[str]:
    return {finding.code for finding in report.findings}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments), "--no-cache"])


def model_of(module: Any, deployed: Path) -> ReferenceModel:
    with use_model(module) as source:
        return recognise(source).framework.load(source, Want(deployed=deployed))  # type: ignore[no-any-return]


@pytest.mark.usefixtures("in_the_folder_of_the_nets")
def test_a_named_module_with_weights_equals_its_file(files: Files) -> None:
    """`check torch_nets:small DATA --weights state.pt --deployed net.onnx` passes; other weights do not."""
    common = ("--arrays", files.data, "--deployed", files.onnx)
    result = run("torch_nets:small", *common, "--weights", files.state)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("PASS torch_nets:small")
    changed = torch.load(files.state, weights_only=True)
    changed["head.weight"][0] *= 1.01
    torch.save(changed, files.folder / "changed.pt")
    result = run("torch_nets:small", *common, "--weights", files.folder / "changed.pt")
    assert result.exit_code == 1, result.output
    assert "EX00" in result.output


def test_a_module_in_memory_is_not_changed(files: Files) -> None:
    """Flags, buffers, gradients, hooks and all generators of random numbers are after a check what they were before."""
    net = torch_nets.small().train()
    net.blocks[0].bn1.eval()
    net(torch.from_numpy(X)).sum().backward()
    before, grads = copy.deepcopy(net), [p.grad.clone() for p in net.parameters()]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the generator that a module may use
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index] # noqa: NPY002
    report = bnexport.check(net, X, onnx=files.onnx)
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    for (name, value), old in zip(net.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(value, old), name
    assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), grads, strict=True))
    assert all(not m._forward_hooks for m in net.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index] # noqa: NPY002
    assert random.getstate() == states[2]
    assert (report.model.layers, report.model.frozen) == (5, 1)


def test_training_mode_is_train_with_dropout_off(files: Files) -> None:
    """The training pass equals module.train() without dropout, statistics and all; frozen layers use moving statistics."""
    net = torch_nets.small()
    net.drop.p = 0.0
    frozen = copy.deepcopy(net).train()
    frozen.blocks[1].bn2.eval()
    for module in (net, frozen):
        model = model_of(module, files.onnx)
        expected = copy.deepcopy(module)
        if module is net:
            expected.train()
        wanted = expected(torch.from_numpy(X)).detach().numpy()
        for _ in range(2):  # the first pass changed nothing
            np.testing.assert_array_equal(model.forward({"x": X}, mode="training")["linear"], wanted)
        inference = copy.deepcopy(module).eval()(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_array_equal(model.forward({"x": X}, mode="inference")["linear"], inference)
    assert model_of(frozen, files.onnx).info.frozen == 1


def test_float64_is_float64_throughout(files: Files) -> None:
    """Equal to the module in float64, also where its code casts to float32."""

    class Casting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch_nets.small()

        def forward(self, x: Any) -> Any:
            y = self.net(x).float()
            return y.to(torch.float32) * torch.ones(4) + torch.zeros(4, dtype=torch.float32)

    exact = torch_nets.small().double()(torch.from_numpy(X).double()).detach().numpy()
    y = model_of(Casting(), files.onnx).forward({"x": X}, mode="inference", dtype="float64")["linear"]
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, exact, rtol=1e-13)


def test_a_module_that_is_float32_only_has_a_stated_tolerance(files: Files) -> None:
    """Its float64 pass is an InputError with a sentence, and the check still runs."""

    class Narrow(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch_nets.small()

        def forward(self, x: Any) -> Any:
            if x.dtype != torch.float32:
                raise TypeError("float32 only")
            return self.net(x)

    model = model_of(Narrow(), files.onnx)
    with pytest.raises(InputError, match="the module cannot be run in float64 \\(float32 only\\)"):
        model.forward({"x": X}, mode="inference", dtype="float64")
    report = bnexport.check(Narrow(), X, onnx=files.onnx)
    assert report
    assert "float64" in report.tolerance


def test_a_file_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    """Forgetting eval() where the exporter keeps the mode is EX003 and BN006; statistics in the file are the module's."""
    net = torch_nets.small().train()
    path = export_by_tracing(copy.deepcopy(net), tmp_path / "train.onnx", training=torch.onnx.TrainingMode.PRESERVE)
    report = bnexport.check(net, {"input": X}, onnx=path)
    assert not report
    assert {"EX003", "BN006"} <= codes(report)


@pytest.mark.parametrize("kind", ["dynamo", "nodes", "tracing"])
def test_an_error_in_the_file_is_located(files: Files, kind: str, tmp_path: Path) -> None:
    """One kernel with one channel scaled by 1.01 is found, by the name of the module, whoever exported the file."""
    if kind == "tracing":
        path = export_by_tracing(torch_nets.small(), tmp_path / "traced.onnx")
    else:
        path = files.onnx if kind == "dynamo" else files.onnx_with_nodes
    graph = onnx.load(path)
    node = [n for n in graph.graph.node if n.op_type == "Conv"][
        3
    ]  # blocks.1.conv1, with bn1 folded into it by two of them
    tensor = next(t for t in graph.graph.initializer if t.name == node.input[1])
    kernel = numpy_helper.to_array(tensor).copy()
    kernel[3] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(kernel, tensor.name))
    onnx.save(graph, tmp_path / "wrong.onnx")
    name = graph.graph.input[0].name
    whole = bnexport.check(torch_nets.small(), {name: X}, onnx=path, layers=True)
    assert not {"EX001", "EX003", "EX005"} & codes(whole)
    assert len(whole.layers) > 10
    report = bnexport.check(torch_nets.small(), {name: X}, onnx=tmp_path / "wrong.onnx")
    assert not report
    [finding] = [f for f in report.findings if f.code in ("EX001", "EX005")]
    assert "blocks.1" in finding.message, finding.message


def test_weights_of_another_checkpoint_are_named(files: Files) -> None:
    """EX005: the file has other kernels than the module, whose names are shown."""
    report = bnexport.check(torch_nets.randomise(torch_nets.Small(), 1), X, onnx=files.onnx)
    [finding] = [f for f in report.findings if f.code == "EX005"]
    assert "first stem.0.weight" in finding.message
    assert not {"EX001", "EX003"} & codes(report)


@pytest.mark.usefixtures("in_the_folder_of_the_nets")
def test_statistics_are_examined_by_the_nodes_of_the_file(files: Files) -> None:
    """Layers are called as modules, and the command that repairs the statistics is about the file."""
    keywords: dict[str, Any] = {"inputs": files.data, "onnx": files.onnx_with_nodes}
    report = bnexport.check("torch_nets:small", **keywords)
    assert report.drift is not None
    assert [site.name for site in report.drift.sites][:2] == ["stem.1", "blocks.0.bn1"]
    commands = [action.command for finding in report.findings for action in finding.actions if action.command]
    assert all("recalibrate torch_nets" not in command for command in commands)


def test_a_folded_file_says_how_statistics_are_examined(files: Files) -> None:
    """BN005 is a warning with the reason where the exporter has folded BatchNormalization into other nodes."""
    report = bnexport.check(torch_nets.small(), X, onnx=files.onnx)
    [finding] = [f for f in report.findings if f.code == "BN005"]
    assert "a check of the model without the file examines them" in finding.message


def test_a_module_alone_is_exported() -> None:
    """Both modes are compared with onnxruntime, frozen layers included, and the statistics examined; so from the command line."""
    net = torch_nets.small().train()
    net.blocks[0].bn2.eval()
    report = bnexport.check(net, X)
    pairs = {(c.actual, c.reference): bool(c) for c in report.comparisons}
    assert pairs["onnx-inference@cpu", "torch-inference"]
    assert pairs["onnx-training@cpu", "torch-training"]
    assert report.drift is not None
    assert "blocks.0.bn2" in [site.name for site in report.drift.sites]
    assert {"BN001", "BN007"} <= codes(report)
    [frozen] = [f for f in report.findings if f.code == "BN007"]
    assert frozen.layers == ("blocks.0.bn2",)


@pytest.mark.usefixtures("in_the_folder_of_the_nets")
def test_a_named_module_alone_is_exported_for_its_data(files: Files, tmp_path: Path) -> None:
    """The data say what it takes: arrays by the names of its parameters, or images of a size that is named."""
    from PIL import Image

    result = run("torch_nets:small", "--arrays", files.data, "--weights", files.state)
    assert "onnx-training@cpu" in result.stdout, result.output
    assert "bnexport recalibrate" not in result.stdout  # no command writes a module
    Image.new("RGB", (20, 20), (200, 100, 50)).save(tmp_path / "a.png")
    result = run("torch_nets:small", tmp_path)
    assert result.exit_code == 2
    assert "--size 224x224" in result.output
    assert "torch-inference" in run("torch_nets:small", tmp_path, "--size", "12").stdout
    with pytest.raises(InputError, match="no parameter y"):
        bnexport.check(torch_nets.small(), {"y": X, "x": X})

    class Branching(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(ExportError, match="cannot export the module"):
        bnexport.check(Branching(), X)


def test_images_are_fed_channels_first(tmp_path: Path) -> None:
    """A folder of images, resized and normalised as torchvision does, is what the module and its file are run on."""
    from PIL import Image

    class Mean(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            return pixels.mean((2, 3))

    colour = (200, 100, 50)
    for nth in range(2):
        Image.new("RGB", (20, 30), colour).save(tmp_path / f"{nth}.png")
    path = export(Mean(), tmp_path / "mean.onnx", np.zeros((2, 3, 8, 8), np.float32))
    model = model_of(Mean(), path)
    report = bnexport.check(Mean(), tmp_path, onnx=path, overrides=Overrides(scaling=Scaling.TORCH))
    assert report
    assert report.preprocessing["layout"] == "NCHW"
    wanted = (np.array(colour) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    seen: list[Any] = []

    class Noting(Mean):
        def forward(self, pixels: Any) -> Any:
            seen.append(pixels.double().numpy())
            return super().forward(pixels)

    bnexport.check(Noting(), tmp_path, onnx=path, overrides=Overrides(scaling=Scaling.TORCH))
    assert seen[0].shape[1:] == (3, 8, 8)
    np.testing.assert_allclose(seen[0][0, :, 0, 0], wanted, rtol=1e-6)
    assert model.signature.inputs[0].name == "pixels"


class Answer(NamedTuple):
    logits: Any
    features: Any


@dataclass
class Output:
    logits: Any
    features: Any
    loss: Any = None


FORMS = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "nested": lambda a, b: (a, {"features": [b]}),
    "dict": lambda a, b: {"logits": a, "features": b},
    "dict in another order": lambda a, b: {"features": b, "logits": a},
    "named tuple": Answer,
    "dataclass": Output,
    "tuple in another order": lambda a, b: (b, a),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_every_form_are_matched(form: str, tmp_path: Path) -> None:
    """By name where the module names them, else by order, and by shape where the order does not fit."""

    class Two(torch.nn.Module):
        def __init__(self, form: Any) -> None:
            super().__init__()
            self.head, self.form = torch.nn.Linear(6, 3), form
            with torch.no_grad():
                self.head.weight.copy_(torch.arange(18).reshape(3, 6) / 7)
                self.head.bias.zero_()

        def forward(self, mask: Any, ids: Any) -> Any:
            return self.form(self.head(ids), ids * mask[:, None])

    one = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N, 6] ids, float[N] mask) => (float[N, 3] logits, float[N, 6] features)
        { logits = MatMul(ids, w)  axes = Constant<value_ints=[1]>()  m = Unsqueeze(mask, axes)  features = Mul(ids, m) }""")
    kernel = (np.arange(18).reshape(3, 6) / 7).astype(np.float32).T.copy()
    one.graph.initializer.append(numpy_helper.from_array(kernel, "w"))
    onnx.save(one, tmp_path / "two.onnx")
    data = {"ids": X.reshape(-1, 6)[:8].copy(), "mask": X.reshape(-1)[:8].copy()}
    report = bnexport.check(Two(FORMS[form]), data, onnx=tmp_path / "two.onnx")
    assert report, str(report)
    assert {c.tensor for c in report.comparisons} == {"logits", "features"}
    report = bnexport.check(Two(lambda a, b: (a, b, b + 1)), data, onnx=tmp_path / "two.onnx")
    assert not report  # the file lacks an output
    with pytest.raises(InputError, match="fewer outputs"):
        bnexport.check(Two(lambda *both: both[:1]), data, onnx=tmp_path / "two.onnx")


def test_layers_are_modules_in_order(files: Files) -> None:
    """Calls of leaf modules with what they read, also where layers work in place; their values are those of hooks by hand."""
    layers = {
        layer.name: (layer, y)
        for layer, y in model_of(torch_nets.small(), files.onnx).layers({"x": X}, mode="inference")
    }  # type: ignore[attr-defined]
    assert list(layers)[:4] == ["stem.0", "stem.1", "stem.2", "blocks.0.conv1"]
    assert {"blocks.0.relu", "blocks.0.relu#2"} <= layers.keys()
    assert layers["blocks.0.relu"][0].inputs == ("blocks.0.bn1",)
    assert set(layers["blocks.0.relu#2"][0].inputs) == {"blocks.0.bn2", "stem.2"}
    net, seen = torch_nets.small(), {}
    net.blocks[1].bn1.register_forward_hook(lambda *call: seen.update(y=call[2].clone()))
    net(torch.from_numpy(X))
    np.testing.assert_array_equal(layers["blocks.1.bn1"][1], seen["y"].detach().numpy())


STATES = {
    "plain": lambda s: s,
    "DataParallel": lambda s: OrderedDict((f"module.{k}", v) for k, v in s.items()),
    "compiled": lambda s: OrderedDict((f"_orig_mod.{k}", v) for k, v in s.items()),
    "checkpoint": lambda s: {
        "epoch": 3,
        "state_dict": {f"module.{k}": v for k, v in s.items()},
        "optimizer": {"lr": 1.0},
    },
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "hyper_parameters": {}},
    "without counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.usefixtures("in_the_folder_of_the_nets")
@pytest.mark.parametrize("kind", [*STATES, "safetensors", "before zip"])
def test_state_dicts_are_unwrapped(kind: str, files: Files, tmp_path: Path) -> None:
    """Prefixes and wrappers are removed, and a note says so; the weights are those of the file."""
    state = torch.load(files.state, weights_only=True)
    path = tmp_path / ("state.safetensors" if kind == "safetensors" else "state.pth")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(STATES.get(kind, dict)(state), path, _use_new_zipfile_serialization=kind != "before zip")
    source = Path("torch_nets:Small")
    model = recognise(source).framework.load(source, Want(deployed=files.onnx, weights=path))
    expected = torch_nets.small()(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_array_equal(model.forward({"x": X}, mode="inference")["linear"], expected)
    assert bool(model.info.notes) == (kind in ("DataParallel", "compiled", "checkpoint", "lightning"))


def refused(source: Path | str, want: Want) -> str:
    path = Path(source)
    with pytest.raises(BnexportError) as caught:
        recognise(path).framework.load(path, want)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.type in (InputError, UsageError)
    return message


@pytest.mark.usefixtures("in_the_folder_of_the_nets")
def test_what_does_not_fit_is_one_sentence(files: Files, tmp_path: Path) -> None:
    """Missing and unexpected names, other shapes, pickled modules, what makes no module: each names what to do."""
    state = torch.load(files.state, weights_only=True)

    def with_weights(values: Any) -> str:
        torch.save(values, tmp_path / "w.pt")
        return refused("torch_nets:small", Want(deployed=files.onnx, weights=tmp_path / "w.pt"))

    less = {k: v for k, v in state.items() if not k.startswith("head")}
    assert "no weights for (head.weight, head.bias)" in with_weights(less)
    assert "does not have (fc.weight)" in with_weights({**state, "fc.weight": torch.ones(1)})
    assert "found (5, 8); expected (4, 8)" in with_weights({**state, "head.weight": torch.ones(5, 8)})
    assert "a dict with the keys (epoch)" in with_weights({"epoch": 1})
    assert "contains more than weights" in with_weights(torch_nets.small())
    want = Want(deployed=files.onnx)
    assert "--weights state.pt" in refused(files.state, want)
    torch.save(torch_nets.small(), tmp_path / "module.pt")
    assert "pickled module" in refused(tmp_path / "module.pt", want)
    assert "dynamo=True" in refused("torch_nets:small", Want())
    assert "torch_nets has no smal" in refused("torch_nets:smal", want)
    assert "makes no module" in refused("json:dumps", want)
    assert "is not a module of PyTorch" in refused("json:JSONDecoder", want)
    assert "cannot import no_such_module" in refused("no_such_module:f", want)


def script(folder: Path) -> Path:
    path = folder / "net.torchscript"
    torch.jit.trace(torch_nets.small(), torch.from_numpy(X[:2])).save(str(path))
    return path


def exported(folder: Path) -> Path:
    path = folder / "net.pt2"
    batch = torch.export.Dim("batch")
    torch.export.save(
        torch.export.export(torch_nets.small(), (torch.from_numpy(X[:2]),), dynamic_shapes=({0: batch},)), path
    )
    return path


@pytest.mark.parametrize("write", [script, exported])
def test_programs_are_run_in_inference_mode(write: Any, files: Files, tmp_path: Path) -> None:
    """TorchScript and torch.export files are references, if they are trusted; their noise floors are measured."""
    path = write(tmp_path)
    assert "--allow-custom-code" in refused(path, Want(deployed=files.onnx))
    report = bnexport.check(path, X, onnx=files.onnx, trust=True)
    assert report
    assert next(side.id for side in report.sides) == "torch-inference"
    assert "training" not in str([side.id for side in report.sides])
    assert "noise floors" in report.tolerance
    assert not bnexport.check(
        path, X, onnx=export(torch_nets.randomise(torch_nets.Small(), 1), tmp_path / "other.onnx"), trust=True
    )


def test_no_code_runs_without_trust(files: Files, tmp_path: Path) -> None:
    """A pickle that acts is refused as weights and as a model, and leaves no trace."""

    class Act:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "mark",))

    torch.save({"state_dict": Act()}, tmp_path / "harm.pt")
    for source, want in [
        (tmp_path / "harm.pt", Want(trust=True, deployed=files.onnx)),
        ("json:JSONDecoder", Want(deployed=files.onnx, weights=tmp_path / "harm.pt")),
    ]:
        refused(source, want)
    assert not (tmp_path / "mark").exists()
    shutil.rmtree(tmp_path)


def test_read_onnx_is_the_signature(files: Files) -> None:
    """Inputs and outputs are called as in the file."""
    signature = model_of(torch_nets.small(), files.onnx).signature
    graph = read_onnx(files.onnx).graph
    assert [port.name for port in signature.inputs] == [info.name for info in graph.graph.input]
    assert [port.name for port in signature.outputs] == [info.name for info in graph.graph.output]
