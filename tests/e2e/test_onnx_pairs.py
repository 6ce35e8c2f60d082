"""One ONNX file against another, and against recorded outputs: what an optimiser made passes, a wrong edit fails and is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnexport import check
from bnexport.errors import InputError, UsageError
from bnexport.exporter.export import export
from bnexport.results.verdict import CheckReport
from tests.e2e import nets
from tests.e2e.test_deployed import MUTATIONS, changed, codes, other_export, workdir

__all__ = ["other_export", "workdir"]  # fixtures

pytestmark = pytest.mark.keras

Graph = onnx.ModelProto


def compare_files(workdir: Path, file: Path) -> CheckReport:
    """The check of a file against the export of the net."""
    return check(workdir / "net.onnx", inputs=workdir / "data.npz", deployed=file)


def forget_names(model: Graph) -> None:
    """Every tensor and node gets a number for a name, as some converters do; inputs and outputs keep their own."""
    ends = {info.name for info in [*model.graph.input, *model.graph.output]}
    made = dict.fromkeys(name for node in model.graph.node for name in [*node.input, *node.output] if name)
    new = {name: name if name in ends else f"t{nth}" for nth, name in enumerate(made)}
    for nth, node in enumerate(model.graph.node):
        node.name = f"n{nth}"
        node.input[:] = [new.get(name, "") for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    del model.graph.value_info[:]
    del model.metadata_props[:]


@pytest.mark.parametrize("names", ["kept", "lost"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_fails_and_names_the_node(mutation: str, names: str, workdir: Path) -> None:
    """The finding names the node that was changed, by the reference's name, also where the file has no names in common with it."""
    change, layer = MUTATIONS[mutation]

    def both(model: Graph) -> None:
        change(model)
        if names == "lost":
            forget_names(model)

    report = compare_files(workdir, changed(workdir, both))
    assert not report
    finding = codes(report)["EX001"]
    [node] = finding.layers
    assert node.split("/")[0].split(":")[0] == layer, finding.message
    assert report.findings[0] is finding
    assert ("recognised by its" in finding.message) == (names == "lost")


def number_tensors(model: Graph, first: int) -> None:
    """Tensors get numbers for names, as PyTorch's older exporter gives them: in another file they start elsewhere."""
    ends = {info.name for info in [*model.graph.input, *model.graph.output]}
    made = [name for node in model.graph.node for name in node.output]
    new = {name: name if name in ends else str(first + nth) for nth, name in enumerate(made)}
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    del model.graph.value_info[:]
    del model.metadata_props[:]


@pytest.mark.parametrize("shift", [1, 7])
def test_numbers_for_names_say_nothing(shift: int, workdir: Path, tmp_path: Path) -> None:
    """A sound file passes where its tensors have the names of other tensors of the reference; a wrong kernel is named in its own terms."""
    for name, first in (("reference", 100), ("other", 100 + shift), ("wrong", 100 + shift)):
        model = onnx.load(workdir / "net.onnx")
        number_tensors(model, first)
        if name == "wrong":
            MUTATIONS["kernel transposed"][0](model)
        onnx.save(model, tmp_path / f"{name}.onnx")
    data = workdir / "data.npz"
    report = check(tmp_path / "reference.onnx", inputs=data, deployed=tmp_path / "other.onnx")
    assert report, report.findings
    wrong = check(tmp_path / "reference.onnx", inputs=data, deployed=tmp_path / "wrong.onnx")
    assert not wrong
    [tensor] = codes(wrong)["EX001"].layers
    made = {node.output[0]: node for node in onnx.load(tmp_path / "reference.onnx").graph.node}
    assert "conv2/kernel" in made[tensor].input


def test_another_exporters_file_passes(workdir: Path, other_export: Path) -> None:
    """Normalisations folded, other names, another layout inside: it computes the same."""
    report = compare_files(workdir, other_export)
    assert report, report.findings
    assert "other_export.onnx computes the same outputs" in _verdict(report)


def _verdict(report: CheckReport) -> str:
    from bnexport.reporting import words

    return words.verdict(report)


def simplified(model: Graph) -> Graph:
    import onnxsim

    return onnxsim.simplify(model)[0]


def slimmed(model: Graph) -> Graph:
    import onnxslim

    return onnxslim.slim(model)


def optimised(model: Graph) -> Graph:
    import onnxoptimizer

    return onnxoptimizer.optimize(model)


@pytest.mark.slow
@pytest.mark.parametrize(("optimiser", "first"), [(simplified, 0), (slimmed, 3), (optimised, 6)])
def test_optimised_files_pass(optimiser: Callable[[Graph], Graph], first: int, tmp_path: Path) -> None:
    """What onnxsim, onnxslim and onnxoptimizer make of five nets each, ten together."""
    alarms = []
    for name in list(nets.BUILDERS)[first : first + 5]:
        net = nets.randomise(nets.BUILDERS[name]())
        net.save(tmp_path / "net.keras")
        export(tmp_path / "net.keras", tmp_path / "net.onnx")
        onnx.save(optimiser(onnx.load(tmp_path / "net.onnx")), tmp_path / "other.onnx")
        values = nets.inputs_for(net, 8, 0)
        arrays = {tensor.name: x for tensor, x in zip(net.inputs, values, strict=True)}
        report = check(tmp_path / "net.onnx", arrays, deployed=tmp_path / "other.onnx", layers=True)
        alarms += [] if report else [f"{name}: {report}"]
        alarms += [f"{name}: {layer}" for layer in report.layers if layer.off]
    assert alarms == []


def test_normalisation_folded_under_the_name_of_its_convolution_is_recognised(models: Path, tmp_path: Path) -> None:
    """Onnxsim keeps the name of the convolution's output for what the normalisation after it gives; wrong weights are still named."""
    export(models / "tiny_residual.keras", tmp_path / "net.onnx")
    data = np.random.default_rng(0).normal(100, 50, (8, 32, 32, 1)).astype(np.float32)
    model = simplified(onnx.load(tmp_path / "net.onnx"))
    onnx.save(model, tmp_path / "other.onnx")
    layers = check(tmp_path / "net.onnx", data, deployed=tmp_path / "other.onnx", layers=True).layers
    moved = {layer.name: layer for layer in layers if layer.matched.startswith("recognised by its value")}
    assert moved
    assert {layer.kind for layer in moved.values()} == {"BatchNormalization"}
    [other] = [n.input[1] for n in model.graph.node if n.output[0] == next(reversed(moved.values())).tensor]
    for tensor in model.graph.initializer:
        if tensor.name == other:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.1), other))
    onnx.save(model, tmp_path / "wrong.onnx")
    report = check(tmp_path / "net.onnx", data, deployed=tmp_path / "wrong.onnx")
    assert not report
    assert codes(report)["EX001"].layers == (next(reversed(moved)),)


@pytest.fixture(scope="module")
def outputs(workdir: Path) -> dict[str, np.ndarray]:
    """What the export computes on the data, under the name that it has there, and what it computes on negated data."""
    from bnexport.runtimes.ort_session import Session

    session = Session(workdir / "net.onnx")
    [name] = [port.name for port in session.signature.outputs]
    data = np.load(workdir / "data.npz")["image"]
    return {key: session.run({"image": x}, [name])[name] for key, x in (("right", data), ("wrong", -data))}


def test_recorded_outputs(workdir: Path, outputs: dict[str, np.ndarray]) -> None:
    """They are matched by shape, which is said; the right ones pass, wrong ones fail, and rows belong to items in their order."""
    file = workdir / "net.onnx"
    np.savez(workdir / "outputs.npz", scores=outputs["right"])
    report = check(file, inputs=workdir / "data.npz", reference=workdir / "outputs.npz", batch_size=3)
    assert report, report.findings
    assert "scores" in codes(report)["EX004"].message
    doubles = check(file, inputs=workdir / "data.npz", reference={"scores": outputs["right"].astype(np.float64)})
    assert doubles, doubles.findings
    assert "is float64 and compared as float32" in codes(doubles)["EX004"].message
    failed = check(file, inputs=workdir / "data.npz", reference={"scores": outputs["wrong"]})
    assert not failed
    assert "the recorded outputs" in codes(failed)["EX001"].message
    assert not check(file, inputs=workdir / "data.npz", reference={"scores": outputs["right"][::-1]})


def test_recorded_outputs_that_do_not_fit(workdir: Path, outputs: dict[str, np.ndarray]) -> None:
    """One sentence with both shapes."""
    right = outputs["right"]
    with pytest.raises(InputError, match=r"no array of the recorded outputs can be an output.*\(7, 4\).*\(8, 4\)"):
        check(workdir / "net.onnx", inputs=workdir / "data.npz", reference={"scores": right[:7]})
    with pytest.raises(InputError, match="scores of the recorded outputs has no rows"):
        check(workdir / "net.onnx", inputs=workdir / "data.npz", reference={"scores": np.float32(1)})
    with pytest.raises(UsageError, match=r"can be any of several arrays.*a, b"):
        check(workdir / "net.onnx", inputs=workdir / "data.npz", reference={"a": right, "b": right})
    with pytest.raises(UsageError, match="compared with one ONNX file"):
        check(workdir / "net.keras", inputs=workdir / "data.npz", reference={"scores": right})
    with pytest.raises(UsageError, match="two names of the same option"):
        check(
            workdir / "net.onnx", inputs=workdir / "data.npz", deployed=workdir / "net.onnx", onnx=workdir / "net.onnx"
        )
