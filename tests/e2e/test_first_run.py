"""A first run on somebody's data: nothing stated about the images, files sorted by class, arrays that are no images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bnexport import Overrides, Scaling, check
from bnexport.bundles.pack import pack
from bnexport.comparison.opening import Request
from bnexport.datasets.feeds import Arrays
from bnexport.datasets.order import shuffled_order
from bnexport.recalibration.recalibrate import recalibrate
from bnexport.recalibration.remedy import in_inference_mode
from bnexport.results.verdict import CheckReport, Severity, Side

FILTERS = 48


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Digits of 8x8 grey levels, 0 to 255, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.round(x * 15.9375).astype(np.uint8).reshape(-1, 8, 8, 1), y


@pytest.fixture(scope="module")
def model(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy classifier of digits scaled to 0 to 1: random projections, BatchNormalization, and a fitted head."""
    from sklearn.linear_model import LogisticRegression

    x, y = digits
    unit = x.reshape(len(x), -1) / np.float32(255)
    kernel = np.random.default_rng(0).normal(0, 0.3, (FILTERS, 64)).astype(np.float32)
    seen = unit @ kernel.T + 1  # an offset that other scalings do not share
    mean, var = seen.mean(axis=0), seen.var(axis=0)
    head = LogisticRegression(max_iter=200).fit((seen - mean) / np.sqrt(var + 1e-3), y)
    return write(
        tmp_path_factory.mktemp("first-run") / "digits.onnx",
        [
            helper.make_node("Transpose", ["x"], ["chw"], "chw", perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["chw", "kernel", "bias"], ["conv"], "conv"),
            helper.make_node(
                "BatchNormalization", ["conv", "gamma", "beta", "mean", "var"], ["bn"], "bn", epsilon=1e-3
            ),
            helper.make_node("Flatten", ["bn"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "head", "offset"], ["logits"], "head"),
            helper.make_node("Softmax", ["logits"], ["y"], "softmax"),
        ],
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 8, 1]),
        {
            "kernel": kernel.reshape(FILTERS, 1, 8, 8),
            "bias": np.ones(FILTERS),
            "gamma": np.ones(FILTERS),
            "beta": np.zeros(FILTERS),
            "mean": mean,
            "var": var,
            "head": head.coef_.T,
            "offset": head.intercept_,
        },
    )


def write(path: Path, nodes: Sequence[onnx.NodeProto], given: onnx.ValueInfoProto, weights: dict[str, Any]) -> Path:
    """An ONNX file of one input and one output `y` of ten classes."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    stored = [numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in weights.items()]
    graph = helper.make_graph(nodes, "g", [given], [output], stored)
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture(scope="module")
def folders(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """600 digits in a folder for each class, and the same ones under numbers that say nothing about their class."""
    by_class, mixed = tmp_path_factory.mktemp("by-class"), tmp_path_factory.mktemp("mixed")
    table = ["file,label"]
    for row, name in enumerate(np.random.default_rng(1).permutation(600)):
        x, y = digits[0][row, ..., 0], digits[1][row]
        (by_class / str(y)).mkdir(exist_ok=True)
        Image.fromarray(x).save(by_class / str(y) / f"{row:04}.png")
        Image.fromarray(x).save(mixed / f"{name:04}.png")
        table.append(f"{name:04}.png,{y}")
    (mixed / "labels.csv").write_text("\n".join(table))
    return by_class, mixed


def raised(report: CheckReport) -> list[tuple[str, Severity]]:
    return [(finding.code, finding.severity) for finding in report.findings]


def test_the_order_of_the_files_raises_nothing(model: Path, folders: tuple[Path, Path]) -> None:
    """A healthy net passes on data that are sorted by class, with the findings that it has on the same data in another order."""
    stated = Overrides(scaling=Scaling.UNIT)
    by_class, mixed = (check(model, folder, overrides=stated) for folder in folders)
    assert by_class, by_class.findings
    assert raised(by_class) == raised(mixed)
    assert not {(code, Severity.ERROR) for code, _ in raised(by_class)} & set(raised(by_class))
    assert ("BN005", Severity.WARNING) not in raised(by_class)
    training = next(side for side in by_class.sides if side.mode == "training")
    assert training.correct is not None
    assert training.correct > 0.85 * 600


def test_reports_keep_the_order_of_the_list(model: Path, folders: tuple[Path, Path]) -> None:
    """Names, labels, answers and scores of each image stand where the folder lists it, though batches are mixed."""
    report = check(model, folders[0], overrides=Overrides(scaling=Scaling.UNIT))
    assert list(report.images.names) == sorted(report.images.names)
    assert list(report.images.labels) == [int(name.split("/")[0]) for name in report.images.names]
    side = next(side for side in report.sides if side.id == "onnx-inference@cpu")
    assert side.correct == np.count_nonzero(np.array(side.answers) == np.array(report.images.labels))
    assert [int(np.argmax(row)) for row in side.scores] == list(side.answers[: len(side.scores)])
    assert [picture.name for picture in report.images.first] == list(report.images.names[: len(report.images.first)])


def test_the_order_is_the_same_everywhere() -> None:
    """It is a permutation, and depends on the number of items only: these digits hold on every machine."""
    assert shuffled_order(8).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]
    assert sorted(shuffled_order(1000)) == list(range(1000))


@pytest.mark.parametrize(("count", "most", "left"), [(513, 512, 512), (512, 512, 512), (5, 512, 5), (1000, 3, 3)])
def test_as_many_as_may_be(count: int, most: int, left: int) -> None:
    """`spread` takes all that it may, from the first to the last."""
    spread = Arrays({"x": np.arange(count)}, np.zeros(count, np.int64), (), 1000).spread(most)
    [feed] = spread
    assert spread.count == len(set(feed.inputs["x"].tolist())) == left
    assert feed.inputs["x"][[0, -1]].tolist() == [0, count - 1]


def test_an_assumed_scaling_is_replaced(model: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing is stated, raw grey levels are assumed and refuted: the check goes on with what fits, passes, and names both."""
    request = Request(model=model, source=str(folders[0]))
    packed = pack(request, tmp_path / "bundle", samples=4)
    report = packed.report
    assert report, report.findings
    finding = next(f for f in report.findings if f.code == "IN001")
    assert finding.severity == Severity.WARNING
    assert finding.evidence["scaling"] == "none"
    assert finding.evidence["scaling_that_fits"] == "unit"
    assert finding.actions[0].command is not None
    assert finding.actions[0].command.endswith("--normalize unit")
    assert report.preprocessing["scaling"] == "unit"
    assert report.preprocessing_origin == "found"
    assert "IN005" not in {f.code for f in report.findings}
    stated = check(model, folders[0], overrides=Overrides(scaling=Scaling.UNIT))
    assert [(s.id, s.correct) for s in report.sides] == [(s.id, s.correct) for s in stated.sides]
    assert '"scaling": "unit"' in (tmp_path / "bundle" / "bundle.json").read_text()
    assert packed


def test_a_stated_scaling_is_not_replaced(model: Path, folders: tuple[Path, Path]) -> None:
    """What somebody states is held against them: IN001 is an error, and nothing is replaced."""
    report = check(model, folders[0], overrides=Overrides(scaling=Scaling.NONE))
    assert not report
    assert ("IN001", Severity.ERROR) in raised(report)
    assert report.preprocessing["scaling"] == "none"


def test_recalibration_replaces_it_too(model: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """`recalibrate` warns, measures on images that are scaled as found, and states that in the new file."""
    done = recalibrate(model, folders[0], tmp_path / "new.onnx", force=True)
    assert [(f.code, f.severity) for f in done.findings if f.code == "IN001"] == [("IN001", Severity.WARNING)]
    report = check(tmp_path / "new.onnx", folders[0])
    assert report, report.findings
    assert (report.preprocessing["scaling"], report.preprocessing_origin) == ("unit", "onnx metadata")


def test_what_is_looked_up_is_not_rescaled(tmp_path: Path) -> None:
    """Numbers of table rows are never multiplied by 255, integers or not; the check says what it finds without them."""
    rng = np.random.default_rng(0)
    path = write(
        tmp_path / "words.onnx",
        [
            helper.make_node("Cast", ["x"], ["ids"], "ids", to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "ids"], ["rows"], "rows"),
            helper.make_node("Transpose", ["rows"], ["cn"], "cn", perm=[0, 2, 1]),
            helper.make_node("BatchNormalization", ["cn", "gamma", "beta", "mean", "var"], ["bn"], "bn"),
            helper.make_node("GlobalAveragePool", ["bn"], ["pool"], "pool"),
            helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "head"], ["logits"], "head"),
            helper.make_node("Softmax", ["logits"], ["y"], "softmax"),
        ],
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6]),
        {
            "table": rng.normal(0, 1, (20, 4)),
            "gamma": np.ones(4),
            "beta": np.full(4, 0.5),
            "mean": np.full(4, 30.0),
            "var": np.ones(4),
            "head": rng.normal(0, 1, (4, 10)),
        },
    )
    np.savez(tmp_path / "ids.npz", x=rng.integers(0, 20, (64, 6)).astype(np.float32))
    report = check(path, inputs=tmp_path / "ids.npz")
    assert ("IN002", Severity.WARNING) in raised(report)
    assert not any(code == "IN001" for code, _ in raised(report))


def test_statistics_that_cannot_be_examined_are_no_error(
    model: Path, digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """BN005 is a warning that says why, where the modes differ and recalibrating fails."""
    from bnexport.errors import InputError
    from bnexport.recalibration import staged

    def fail(*_: object) -> None:
        raise InputError("the layer twice is called more than once")

    monkeypatch.setattr(staged, "measure", fail)
    rows = np.flatnonzero(digits[1] == 3)[:64]
    np.savez(tmp_path / "threes.npz", x=digits[0][rows].astype(np.float32) / np.float32(255))
    report = check(model, inputs=tmp_path / "threes.npz")
    finding = next(f for f in report.findings if f.code == "BN005")
    assert finding.severity == Severity.WARNING
    assert "could not be examined: the layer twice is called more than once" in finding.message
    assert report


def test_the_remedy_is_measured_on_the_gpu_too() -> None:
    """Without a CPU side of the export the recalibrated graph is held against another side of inference mode."""

    def side(id_: str, mode: str = "inference") -> Side:
        return Side(id_, "onnxruntime", mode, "cpu", 1, 2, (), (), 0.0)

    cuda = [side("keras-inference"), side("keras-training", "training"), side("onnx-inference@cuda")]
    tried = side("onnx-recalibrated@cpu")
    assert in_inference_mode([*cuda, tried], foreign=False) is cuda[0]
    assert in_inference_mode([tried], foreign=False) is None
    own = side("onnx-inference@cpu")
    assert in_inference_mode([*cuda, own, tried], foreign=False) is own
    assert in_inference_mode([*cuda, own, tried], foreign=True) is cuda[0]
