"""Verdicts on files of reduced precision: what the precision explains passes with its cost, what it does not explain is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quant_pre_process

from bnexport import check, export
from bnexport.onnx_graph.precision import stored_precision
from bnexport.reporting.words import verdict
from bnexport.results.verdict import CheckReport, Finding
from bnexport.system import machine
from tests.e2e import quantised_nets

NETS: dict[str, Callable[[Path], Path]] = {
    "digits": quantised_nets.digits,
    "mobile": quantised_nets.mobile,
    "bright": quantised_nets.bright,
}
WRONG = {"EX001", "EX005", "EX009", "RT004", "RT012", "QT002", "QT003", "QT004"}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a net, which is made once."""
    root = tmp_path_factory.mktemp("precision")

    def folder(name: str) -> Path:
        path: Path = root / name
        return path if path.exists() else NETS[name](path)

    return folder


def held(folder: Path, deployed: Path, **options: float) -> tuple[CheckReport, dict[str, Finding]]:
    report = check(folder / "net.onnx", inputs=folder / "data.npz", deployed=deployed, **options)  # type: ignore[arg-type] # floats
    return report, {finding.code: finding for finding in report.findings}


@pytest.mark.parametrize("net", ["digits", "mobile"])
@pytest.mark.parametrize(
    ("how", "precision", "code"),
    [
        ("good", "int8-qdq", "QT001"),
        ("qoperator", "int8-qoperator", "QT001"),
        ("dynamic", "int8-dynamic", "QT001"),
        ("half", "float16", "RT003"),
        ("half_io", "float16", "RT003"),
    ],
)
def test_what_the_precision_explains_passes_with_its_cost(
    folder_of: Callable[[str], Path], net: str, how: str, precision: str, code: str
) -> None:
    """The error is at most three times what was measured at the file's own steps; nothing is said of the export or the runtime."""
    folder = folder_of(net)
    report, codes = held(folder, quantised_nets.quantise(folder, how))
    assert report, str(report)
    assert f"up to what reduced precision costs ({code})" in verdict(report)
    assert not WRONG & codes.keys()
    assert codes[code].evidence["explained"]
    assert 0.05 < codes[code].evidence["error_ratio"] < 3
    assert "95 % interval" in codes[code].message
    assert {side.precision for side in report.sides if side.id.startswith("onnx-inference")} == {precision}


@pytest.mark.parametrize("net", ["digits", "mobile"])
@pytest.mark.parametrize("how", ["dark", "noise"])
def test_a_bad_calibration_is_named_with_its_tensors(folder_of: Callable[[str], Path], net: str, how: str) -> None:
    """Calibrated on dark images or on noise: QT003 names ranges that these images exceed, and QT004 ranks the tensors."""
    folder = folder_of(net)
    report, codes = held(folder, quantised_nets.quantise(folder, how))
    assert not report
    assert not {"EX001", "RT004", "RT012"} & codes.keys()
    assert codes["QT003"].severity == "error"
    assert "too narrow" in codes["QT003"].message
    assert codes["QT003"].layers
    assert codes["QT001"].evidence["cause"] == "calibration"
    costs = [entry["cost"] for entry in codes["QT004"].evidence["ranking"]]
    assert costs == sorted(costs, reverse=True) or costs[0] > 10 * costs[-1]


@pytest.mark.skipif(machine.has_vnni() is not False, reason="the kernels saturate on x86 without VNNI only")
def test_kernels_that_saturate_are_named(folder_of: Callable[[str], Path]) -> None:
    """The file is right with float operators and with session.x64quantprecision, and wrong in the usual session."""
    folder = folder_of("bright")
    report, codes = held(folder, quantised_nets.quantise(folder, "u8s8"))
    assert not report
    assert not {"EX001", "RT004", "QT003"} & codes.keys()
    evidence = codes["RT012"].evidence
    assert evidence["error_ratio"] > 10
    assert evidence["error_ratio_in_float"] < 3
    assert evidence["error_ratio_without_saturation"] < 3
    assert any("reduce_range" in action.reason for action in codes["RT012"].actions)
    assert ["RT012" in action.reason for action in codes["QT001"].actions] == [True]  # another calibration is no help
    report, codes = held(folder, quantised_nets.quantise(folder, "good"))
    assert report, str(report)
    assert "RT012" not in codes


def test_a_wrong_scale_is_ranked_first_and_leaving_it_out_restores_the_answers(
    folder_of: Callable[[str], Path],
) -> None:
    """One activation has a scale 8 times too small. It is first in the list, and the nodes around it are the ones to exclude."""
    folder = folder_of("mobile")
    good = onnx.load(quantised_nets.quantise(folder, "good"))
    scales = {t.name: numpy_helper.to_array(t) for t in good.graph.initializer if t.name.endswith("_scale")}
    [zero] = [t for t in good.graph.initializer if t.name == "d16_out_zero_point"]
    override = {"scale": np.array(scales["d16_out_scale"] / 8, np.float32), "zero_point": numpy_helper.to_array(zero)}
    options = {"extra_options": {"TensorQuantOverrides": {"d16_out": [override]}}}
    wrong = quantised_nets.quantise(folder, "wrong_scale", **options)
    report, codes = held(folder, wrong)
    assert codes["QT003"].layers[0] == "d16_out"
    assert "all others fit" in codes["QT003"].message
    assert codes["QT004"].evidence["ranking"][0]["tensor"] == "d16_out"
    keep = codes["QT004"].evidence["nodes_to_exclude"]
    assert {"depth1", "project1"} <= set(keep)
    assert any("nodes_to_exclude=[" in action.reason for action in codes["QT004"].actions)
    report, codes = held(folder, quantised_nets.quantise(folder, "without", nodes_to_exclude=keep, **options))
    assert report, str(report)
    assert not {"QT003", "QT004"} & codes.keys()


def scaled(folder: Path, name: str, change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
    """A well calibrated file whose scales of activations were changed afterwards."""
    model = onnx.load(quantised_nets.quantise(folder, "good"))
    weights = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"} - {
        node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale") and tensor.name not in weights:
            value = change(tensor.name, numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def test_ranges_too_wide_are_named(folder_of: Callable[[str], Path]) -> None:
    """Every scale is 32 times what the values need: three bits are left."""
    folder = folder_of("mobile")
    report, codes = held(folder, scaled(folder, "wide", lambda _, scale: scale * 32))
    assert not report, str(report)
    assert "too wide for" in codes["QT003"].message
    assert "too narrow" not in codes["QT003"].message
    assert not {"QT002", "EX001", "RT004"} & codes.keys()


def test_a_file_that_was_never_calibrated_is_called_so(folder_of: Callable[[str], Path]) -> None:
    """All scales are the same number."""
    folder = folder_of("mobile")
    report, codes = held(folder, scaled(folder, "uncalibrated", lambda _, scale: np.full_like(scale, 1.0)))
    assert not report, str(report)
    assert "all scales are equal, as in a file that was never calibrated" in codes["QT003"].message


def test_clipped_values_are_named(folder_of: Callable[[str], Path]) -> None:
    """The input's range ends at four fifths of the values: not far enough off for QT003, and 4 % of the values are cut."""
    folder = folder_of("digits")
    report, codes = held(folder, scaled(folder, "clipped", lambda n, scale: scale * 0.82 if n == "x_scale" else scale))
    assert "QT003" not in codes, str(report)
    assert codes["QT002"].layers == ("x",)
    assert codes["QT002"].evidence["tensors"][0]["clipped"] > 0.01


def test_a_loss_of_accuracy_beyond_the_limit_fails(folder_of: Callable[[str], Path]) -> None:
    """--max-accuracy-drop names the share that is lost and the limit."""
    folder = folder_of("digits")
    file = scaled(folder, "coarse_input", lambda n, scale: scale * 12 if n == "x_scale" else scale)
    free, codes = held(folder, file)
    evidence = codes["QT001"].evidence
    lost = (evidence["reference_correct"] - evidence["quantised_correct"]) / evidence["labelled"]
    assert lost > 0, evidence
    report, codes = held(folder, file, max_accuracy_drop=lost / 2)
    assert not report
    assert f"% of the labelled items are lost, the limit is {50 * lost:g} %" in codes["QT001"].message
    report, codes = held(folder, file, max_accuracy_drop=2 * lost)
    assert bool(report) == bool(free)


def test_the_statistics_of_the_float_file_are_examined(tmp_path: Path) -> None:
    """The quantised file has no BatchNormalization node any more; the float file beside it has, and noise does not fit its statistics."""
    seed = Path(__file__).parents[2] / "models"
    x = np.random.default_rng(0).uniform(0, 1, (64, 32, 32, 1)).astype(np.float32)
    folder = quantised_nets.save(tmp_path, onnx.load(seed / "tiny_residual.onnx"), x, name="image")
    report, codes = held(folder, quantised_nets.quantise(folder, "good"))
    kinds = {node.op_type for node in onnx.load(folder / "good.onnx").graph.node}
    assert "BatchNormalization" not in kinds
    assert {"QT001", "IN002"} <= codes.keys(), str(report)
    assert report.drift is not None


def large(folder: Path, head: int) -> Path:
    """The small net with large values: in the layer before the last one, and in the last one by a factor."""
    quantised_nets.mobile(folder)
    model = onnx.load(folder / "net.onnx")
    for name, factor in (("project2_w", 1000), ("head_w", head)):
        change_weight(model, name, lambda w, factor=factor: w * np.float32(factor))
    onnx.save(model, folder / "net.onnx")
    return folder


def test_values_beyond_float16_are_named_with_the_node(tmp_path: Path) -> None:
    """A layer reaches 1e5, which float16 cannot hold; the converter's block list is given."""
    folder = large(tmp_path / "net", head=100)
    report, codes = held(folder, quantised_nets.quantise(folder, "half_io"))
    assert codes["EX009"].severity == ("warning" if report else "error")
    assert codes["EX009"].evidence["first_tensor"] == "head_out"
    assert codes["EX009"].evidence["node_block_list"] == ["head"]


@pytest.mark.parametrize("targets", [["onnxruntime:cpu"], ["onnxruntime:cpu", "onnx-reference"]])
@pytest.mark.filterwarnings("ignore:overflow encountered")  # which is the point
def test_values_beyond_float16_are_the_only_cause(tmp_path: Path, targets: list[str]) -> None:
    """Where they show, and the file is right in float32, it is said once, and no layer is blamed beside it."""
    folder = large(tmp_path / "net", head=100)
    file = quantised_nets.quantise(folder, "half")
    report = check(folder / "net.onnx", inputs=folder / "data.npz", deployed=file, targets=targets)
    assert not report
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [finding.code for finding in errors] == ["EX009"], str(report)
    assert errors[0].evidence["first_tensor"] == "head_out"


def test_weights_that_float16_cuts_are_no_overflow_alone(tmp_path: Path) -> None:
    """The converter cuts weights above 10,000: the file is wrong in float32 already, and EX009 is not the reason."""
    folder = large(tmp_path / "net", head=10000)
    report, codes = held(folder, quantised_nets.quantise(folder, "half_io"))
    assert not report
    assert report.findings[0].code == "EX001"
    assert codes["EX009"].severity == "warning"
    assert "in float32 already" in codes["EX009"].message


def test_answers_decide_where_a_limit_is_set(folder_of: Callable[[str], Path]) -> None:
    """--min-agreement and --max-accuracy-drop fail a file that the precision explains."""
    folder = folder_of("digits")
    file = quantised_nets.quantise(folder, "good")
    assert held(folder, file, min_agreement=0.5, max_accuracy_drop=0.5)[0]
    coarse = quantised_nets.quantise(folder, "coarse", extra_options={"ActivationSymmetric": True})
    _, codes = held(folder, coarse)
    agreement = 1 - codes["QT001"].evidence["images_differing"] / quantised_nets.COUNT
    failed, _ = held(folder, coarse, min_agreement=min(1.0, agreement + 1e-6))
    assert bool(failed) == (agreement == 1.0)


MUTATIONS: dict[str, Callable[[onnx.ModelProto], None]] = {}


def mutation(change: Callable[[onnx.ModelProto], None]) -> Callable[[onnx.ModelProto], None]:
    MUTATIONS[change.__name__] = change
    return change


def change_weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    [tensor] = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor))), name))


@mutation
def swapped_channels(model: onnx.ModelProto) -> None:
    change_weight(model, "expand1_w", lambda w: w[[1, 0, *range(2, len(w))]])


@mutation
def lost_bias(model: onnx.ModelProto) -> None:
    change_weight(model, "project1_b", np.zeros_like)


@mutation
def other_activation(model: onnx.ModelProto) -> None:
    [node] = [n for n in model.graph.node if n.name == "d16"]
    node.op_type = "Relu"
    del node.input[1:]


@mutation
def other_padding(model: onnx.ModelProto) -> None:
    [node] = [n for n in model.graph.node if n.name == "depth2"]
    [pads] = [a for a in node.attribute if a.name == "pads"]
    pads.ints[:] = [0, 0, 2, 2]


WHERE = {"swapped_channels": ("expand1", "e16"), "lost_bias": ("project1", "add"), "other_padding": ("depth2", "d26")}
"""Where the error begins: in the node, or in the activation that the quantiser has merged with it."""


@pytest.mark.parametrize("how", ["good", "half_io"])
@pytest.mark.parametrize("name", ["swapped_channels", "lost_bias", "other_padding"])
def test_what_the_precision_does_not_explain_fails(tmp_path: Path, name: str, how: str) -> None:
    """A wrong file in reduced precision: the difference is more than the precision explains."""
    folder = quantised_nets.mobile(tmp_path / "net")
    model = onnx.load(folder / "net.onnx")
    MUTATIONS[name](model)
    wrong = quantised_nets.save(tmp_path / "wrong", model, np.load(folder / "data.npz")["x"])
    report, codes = held(folder, quantised_nets.quantise(wrong, how))
    assert not report, str(report)
    assert not {"QT003", "RT012", "RT004"} & codes.keys()
    if (
        how == "half_io" or name == "swapped_channels"
    ):  # at 8 bits the others are within what rounding their weights explains
        assert codes["EX001"].layers[0].startswith(WHERE[name]), str(report)


@pytest.mark.keras
@pytest.mark.skipif(os.environ.get("BNEXPORT_SEEDS", "1") == "1", reason="the long run: BNEXPORT_SEEDS=3")
@pytest.mark.parametrize("how", ["half_io", "half", "good", "qoperator", "dynamic"])
def test_no_mutation_is_missed(tmp_path: Path, how: str) -> None:
    """The mutations of test_deployed in reduced precision: what moves the answers by six times what the precision costs fails, or is ranges that do not fit."""
    from tests.e2e import test_deployed

    x = np.random.default_rng(0).uniform(-1, 1, (64, 24, 24, 3)).astype(np.float32)
    test_deployed.small().save(tmp_path / "net.keras")
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", image=x)

    def answers(path: Path) -> np.ndarray:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        kind = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
        return session.run(None, {session.get_inputs()[0].name: x.astype(kind)})[0].astype(float)

    right, cost = answers(tmp_path / "net.onnx"), 0.0
    for number, name in enumerate([None, *test_deployed.MUTATIONS]):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(tmp_path / "data.npz", folder)
        model = onnx.load(tmp_path / "net.onnx")
        if name is not None:
            test_deployed.MUTATIONS[name][0](model)
        del model.graph.value_info[:]
        onnx.save(model, folder / "net.onnx")
        quant_pre_process(str(folder / "net.onnx"), str(folder / "pre.onnx"))
        file = quantised_nets.quantise(folder, how)
        report, codes = held(tmp_path, file)
        if name is None:
            assert report, str(report)
            cost = np.abs(answers(file) - right).max()
        elif np.abs(answers(folder / "net.onnx") - right).max() > 6 * cost:
            assert not report or "QT003" in codes, (name, str(report))


def test_the_precision_of_a_file_is_found_in_it(folder_of: Callable[[str], Path]) -> None:
    """Operators and stored types say it; mixed files are called so."""
    folder = folder_of("mobile")
    assert stored_precision(onnx.load(folder / "net.onnx")).precision == "float32"
    model = onnx.load(quantised_nets.quantise(folder, "good"))
    assert stored_precision(model).precision == "int8-qdq"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float16), "half"))
    assert stored_precision(model).precision == "mixed"


@pytest.mark.parametrize("how", ["good", "half"])
def test_layers_are_held_against_what_the_precision_explains_there(folder_of: Callable[[str], Path], how: str) -> None:
    """--layerwise: every node of a good file is within three times the largest expected error, which grows with depth.

    The mean over the image and the softmax make it smaller again.
    """
    folder = folder_of("mobile")
    report, _ = held(folder, quantised_nets.quantise(folder, how), layers=True)
    assert report, str(report)
    known = [layer for layer in report.layers if layer.expected is not None]
    assert len(known) > 10
    assert not [layer.name for layer in known if layer.off]
    expected = {layer.name: layer.expected for layer in known}
    assert expected["add2_out"] > expected["stem_out"] > 0
