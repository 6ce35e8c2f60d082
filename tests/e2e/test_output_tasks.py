"""Outputs that are named in MODEL.toml, or that a graph shows to be masks or boxes, through whole checks on graphs of a few nodes."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from rich.console import Console

from bnexport import check, pack, verify
from bnexport.comparison.opening import Request
from bnexport.datasets import sidecar
from bnexport.datasets.output_tasks import as_values, read_tasks
from bnexport.errors import InputError
from bnexport.onnx_graph.tasks import output_tasks
from bnexport.reporting import html, json as json_report, markdown, text
from bnexport.results.tasks import OutputKind, OutputTask
from bnexport.results.verdict import CheckReport, Comparison
from tests.e2e import quantised_nets

RNG = np.random.default_rng(0)


def graph(body: str, weights: dict[str, Any] | None = None) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {body}')
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def write(folder: Path, model: onnx.ModelProto, x: np.ndarray, toml: str = "", name: str = "net") -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    np.savez(folder / "data.npz", x=x)
    if toml:
        sidecar.path_for(path).write_text(toml)
    return path


def inference(report: CheckReport) -> dict[str, Comparison]:
    return {
        c.tensor: c for c in report.comparisons if c.actual == "onnx-inference@cpu" and "one by one" not in c.reference
    }


HEADS = """g (float[N, 6] x) => (float[N, 5] vector, float[N, 3] weight, float[N, 4, 7] words, float[N, 2, 2] flags) {
    vector = MatMul(x, a)  weight = MatMul(x, b)  flat = MatMul(x, c)  words = Reshape(flat, as_words)
    corner = Slice(flat, zero, four, one)  flags = Reshape(corner, as_flags) }"""
WEIGHTS = {
    "a": normal(6, 5),
    "b": normal(6, 3),
    "c": normal(6, 28),
    "as_words": np.int64([0, 4, 7]),
    "as_flags": np.int64([0, 2, 2]),
    "zero": np.int64([0]),
    "four": np.int64([4]),
    "one": np.int64([1]),
}
STATED = """
[outputs.vector]
kind = "embedding"
[outputs.weight]
kind = "values"
unit = "kg"
[outputs.words]
kind = "sequence"
end = 2
[outputs.flags]
kind = "mask"
threshold = 0.5
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with several heads, and one of which a weight of each head was changed."""
    folder = tmp_path_factory.mktemp("heads")
    write(folder, graph(HEADS, WEIGHTS), normal(12, 6), STATED)
    changed = {**WEIGHTS, **{name: WEIGHTS[name] + 0.3 * normal(*WEIGHTS[name].shape) for name in "abc"}}
    write(folder, graph(HEADS, changed), np.load(folder / "data.npz")["x"], name="changed")
    return folder


@pytest.fixture(scope="module")
def failed(workdir: Path) -> CheckReport:
    return check(workdir / "net.onnx", inputs=workdir / "data.npz", deployed=workdir / "changed.onnx")


def test_a_difference_is_stated_in_the_terms_of_each_output(workdir: Path, failed: CheckReport) -> None:
    """Each output has the figures of its kind; the verdict is that of the numbers, and the finding says what they mean."""
    assert not failed
    compared = inference(failed)
    assert {name: str(c.task.kind) for name, c in compared.items() if c.task} == {
        "vector": "embedding",
        "weight": "values",
        "words": "sequence",
        "flags": "mask",
    }
    assert compared["weight"].task is not None
    assert compared["weight"].task.described.count(" kg") == 2
    assert compared["weight"].task.figures["largest_error"] == pytest.approx(compared["weight"].difference.max_abs)
    assert all(c.top1_agreement is None for c in compared.values())
    [cause] = [f for f in failed.findings if f.severity == "error"]
    assert "; in vector the smallest cosine is 0." in cause.message
    passed = check(workdir / "net.onnx", inputs=workdir / "data.npz")
    assert passed, str(passed)
    assert all(c.task is not None and c.task.agreement in (None, 1.0) for c in inference(passed).values())


def test_reports_have_the_figures(failed: CheckReport) -> None:
    """Text, Markdown and HTML have the sentence; JSON has every figure and follows the schema."""
    stream = StringIO()
    text.show_check(failed, Console(file=stream, width=300))
    line = "flags (mask) of onnx-inference@cpu: "
    assert all(line in page for page in (stream.getvalue(), html.check(failed, [])))
    assert "of the pixels get the same class" in markdown.check(failed)
    values = json.loads(json_report.dumps(json_report.check(failed)))
    jsonschema.validate(values, json.loads(json_report.SCHEMA.read_text()))
    by_name = {c["tensor"]: c["task"] for c in values["comparisons"] if c["task"]}
    assert by_name["flags"]["figures"]["classes"] == 2
    assert by_name["vector"]["sentence"].startswith("the smallest cosine")


def test_tasks_travel_into_files_and_bundles(workdir: Path, tmp_path: Path) -> None:
    """A bundle keeps what the outputs are for, and so does the ONNX file that is made of a model."""
    packing = pack(Request(workdir / "net.onnx", inputs=workdir / "data.npz"), tmp_path / "bundle", samples=6)
    assert packing, packing.refused
    report = verify(tmp_path / "bundle", providers=["cpu"])
    assert report, str(report)
    assert {c.tensor: str(c.task.kind) for c in report.comparisons if c.task} == {
        "vector": "embedding",
        "weight": "values",
        "words": "sequence",
        "flags": "mask",
    }


def test_export_writes_tasks_into_the_metadata(tmp_path: Path) -> None:
    """MODEL.toml beside a Keras file becomes metadata, which a check of the ONNX file reads; the file's own sidecar goes before."""
    from bnexport import export

    models = Path(__file__).parents[2] / "models"
    (tmp_path / "net.keras").write_bytes((models / "tiny_residual.keras").read_bytes())
    name = onnx.load(models / "tiny_residual.onnx").graph.output[0].name
    toml = f'[outputs.{name}]\nkind = "embedding"\n'
    sidecar.path_for(tmp_path / "net.keras").write_text(toml)
    export(tmp_path / "net.keras", tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", normal(3, 32, 32, 1))
    report = check(tmp_path / "net.onnx", inputs=tmp_path / "data.npz")
    assert {str(c.task.kind) for c in inference(report).values() if c.task} == {"embedding"}
    assert all(c.top1_agreement is None for c in report.comparisons)  # an embedding decides no class
    sidecar.path_for(tmp_path / "net.onnx").write_text(f'[outputs.{name}]\nkind = "classes"\n')
    report = check(tmp_path / "net.onnx", inputs=tmp_path / "data.npz")
    assert all(c.task is None for c in report.comparisons)
    assert inference(report)["probabilities"].top1_agreement == 1
    sidecar.path_for(tmp_path / "net.keras").write_text(toml.replace(name, "nothing"))
    with pytest.raises(InputError, match="names the output nothing, which the model does not have"):
        export(tmp_path / "net.keras", tmp_path / "again.onnx")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[outputs.weight]\nkind = "weights"', r"\[outputs.weight\] of .* has no valid kind: found 'weights'; expected classes, boxes, mask"),
        ('[outputs.wait]\nkind = "values"', r"names the output wait, which the model does not have: expected vector, weight, words, flags"),
        ('[outputs.weight]\nkind = "values"\nend = 2', "has the key 'end', which the kind values does not have: expected unit"),
        ('[outputs.weight]\nkind = "boxes"\ncolumns = ["x", "y"]', "has columns that are no boxes: found the coordinates x, y"),
        ('[outputs.weight]\nkind = "boxes"\nlayout = "yolo"', "has an unknown layout: found 'yolo'; expected xyxy, xywh, cxcywh"),
        ('[outputs.weight]\nkind = "boxes"\nlayout = "xyxy"\ncolumns = ["x"]', "has both a layout and columns"),
        ('[outputs.vector]\nkind = "boxes"', r"says boxes, which the output of shape \(\?, 5\) is not: expected an axis with the 4"),
        ('[outputs.weight]\nkind = "mask"', r"says mask, which the output of shape \(\?, 3\) is not: expected \(N, H, W, K\)"),
        ('[outputs.weight]\nkind = "sequence"\nend = "</s>"', "has an invalid end: found '</s>'; expected a whole number"),
        ('[outputs.weight]\nkind = "sequence"', "the output weight is stated to be sequence: an output of shape"),
        ("outputs = 3", "does not describe the outputs as tables"),
    ],
)  # fmt: skip
def test_what_is_stated_wrongly_is_one_sentence(workdir: Path, tmp_path: Path, toml: str, message: str) -> None:
    """An unknown kind, output, key or column, or a kind that the shape contradicts, is refused."""
    (tmp_path / "net.onnx").write_bytes((workdir / "net.onnx").read_bytes())
    sidecar.path_for(tmp_path / "net.onnx").write_text(toml)
    with pytest.raises(InputError, match=message):
        check(tmp_path / "net.onnx", inputs=workdir / "data.npz")


def test_values_are_the_inverse_of_reading() -> None:
    """What is written into metadata is what was read from the file."""
    tasks = {
        "a": OutputTask(OutputKind.BOXES, ("cx", "cy", "w", "h", "scores"), 1, 0.3, "s", "c"),
        "b": OutputTask(OutputKind.VALUES, unit="kg"),
        "c": OutputTask(OutputKind.SEQUENCE, end=0),
        "d": OutputTask(OutputKind.MASK, threshold=0.0),
    }
    assert read_tasks(as_values(tasks), "test") == tasks
    assert read_tasks({"a": {"kind": "boxes", "layout": "xywh"}}, "test")["a"].columns == ("x", "y", "w", "h")


SEGMENT = "g (float[N, 3, 16, 16] x) => (float[N, 5, 16, 16] y) {{ {} }}"


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        (SEGMENT.format("c = Conv<kernel_shape = [1, 1]>(x, w)  y = Softmax<axis = 1>(c)"), 1),
        ("g (float[N, 3, 16, 16] x) => (float[N, 16, 16, 5] y) { c = Conv<kernel_shape = [1, 1]>(x, w)"
         " t = Transpose<perm = [0, 2, 3, 1]>(c)  y = Softmax(t) }", 3),
        (SEGMENT.format("c = Conv<kernel_shape = [1, 1]>(x, w)  y = Sigmoid(c)"), None),  # may be anything
        (SEGMENT.format("c = Conv<kernel_shape = [1, 1]>(x, w)  y = Relu(c)"), None),
        ("g (float[N, 3, 16, 16] x) => (float[N, 5, 8, 8] y) { c = Conv<kernel_shape = [1, 1], strides = [2, 2]>(x, w)"
         " y = Softmax<axis = 1>(c) }", None),
        ("g (float[N, 3, 16, 16] x) => (float[N, 5] y) { m = GlobalAveragePool(x)  f = Flatten(m)  c = MatMul(f, w)"
         " y = Softmax(c) }", None),
    ],
)  # fmt: skip
def test_only_a_softmax_over_every_pixel_is_taken_for_a_mask(text: str, axis: int | None) -> None:
    """Whatever else it could be stays without a kind."""
    tasks = output_tasks(graph(text, {"w": normal(5, 3, 1, 1)}), {}, "test")
    assert tasks == ({} if axis is None else {"y": OutputTask(OutputKind.MASK, axis=axis)})


def test_boxes_behind_a_suppression_are_boxes() -> None:
    """What is gathered from the boxes and scores that NonMaxSuppression reads are the boxes and scores of detections."""
    tasks = output_tasks(graph(DETECTOR), {}, "test")
    assert tasks == {"kept": OutputTask(OutputKind.BOXES, ("x1", "y1", "x2", "y2"), threshold=0.0, scores="sure")}


DETECTOR = """g (float[N, 64, 4] boxes_in, float[N, 1, 64] scores_in) => (float[K, 4] kept, float[K] sure) {
    boxes = Relu(boxes_in)  scores = Sigmoid(scores_in)
    chosen = NonMaxSuppression(boxes, scores, most, overlap, threshold)
    where = Gather<axis = 1>(chosen, image_and_box)  kept = GatherND(boxes, where)  sure = GatherND(scores, chosen) }"""


@pytest.fixture(scope="module")
def segmenting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small segmentation net, with its data."""
    folder = tmp_path_factory.mktemp("segmentation")
    weights = {"w": normal(8, 3, 3, 3), "b": normal(8), "v": normal(4, 8, 1, 1), "c": normal(4)}
    body = """c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, b)  r = Relu(c)
        z = Conv<kernel_shape = [1, 1]>(r, v, c4)  y = Softmax<axis = 1>(z)"""
    weights["c4"] = weights.pop("c")
    model = graph(f"g (float[N, 3, 12, 12] x) => (float[N, 4, 12, 12] y) {{ {body} }}", weights)
    for nth, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{nth}"
    return quantised_nets.save(folder, model, normal(16, 3, 12, 12))


@pytest.mark.parametrize(("how", "code"), [("half_io", "RT003"), ("good", "QT001")])
def test_reduced_precision_is_told_in_pixels(segmenting: Path, how: str, code: str) -> None:
    """The answers of a segmentation are its pixels; --min-agreement acts on them."""
    file = quantised_nets.quantise(segmenting, how)
    report = check(segmenting / "net.onnx", inputs=segmenting / "data.npz", deployed=file)
    assert report, str(report)
    [finding] = [f for f in report.findings if f.code == code]
    assert "of the pixels get the same class (mean IoU" in finding.message
    agreement = finding.evidence["agreement"]
    assert finding.evidence["task"] == "mask"
    assert 0.9 < agreement <= 1
    strict = check(
        segmenting / "net.onnx", inputs=segmenting / "data.npz", deployed=file, min_agreement=min(1.0, agreement + 1e-6)
    )
    assert bool(strict) == (agreement == 1)
    assert agreement == 1 or "of the pixels get the same class, the limit is" in str(strict)


YOLO = """g (float[N, 8] x) => (float[N, 6, 40] head) {
    flat = MatMul(x, w)  raw = Reshape(flat, shape)  box, logits = Split<axis = 1>(raw, parts)
    placed = Abs(box)  scores = Sigmoid(logits)  head = Concat<axis = 1>(placed, scores) }"""


def test_raw_heads_of_detectors_are_read_by_their_columns(tmp_path: Path) -> None:
    """A head (N, 4 + K, M) is boxes; a decode that puts them elsewhere fails, and says how many are lost."""
    weights = {"w": 3 * normal(8, 240), "shape": np.int64([0, 6, 40]), "parts": np.int64([4, 2])}
    toml = '[outputs.head]\nkind = "boxes"\ncolumns = ["cx", "cy", "w", "h", "scores"]\nthreshold = 0.5\n'
    path = write(tmp_path, graph(YOLO, weights), normal(6, 8), toml)
    report = check(path, inputs=tmp_path / "data.npz")
    assert report, str(report)
    task = inference(report)["head"].task
    assert task is not None
    assert task.agreement == 1
    moved = graph(YOLO.replace("Abs(box)", "Softplus(box)"), weights)
    other = write(tmp_path, moved, np.load(tmp_path / "data.npz")["x"], name="moved")
    report = check(path, inputs=tmp_path / "data.npz", deployed=other)
    task = inference(report)["head"].task
    assert not report
    assert task is not None
    assert task.figures["actual_boxes"] == task.figures["reference_boxes"]
    assert task.agreement is not None
    assert task.agreement < 0.9
    assert "boxes match one of the" in str(report)


def test_a_bundle_that_states_impossible_selections_is_no_trouble() -> None:
    """Axes and columns that a tensor does not have are passed over: a bundle may be anybody's."""
    from bnexport.comparison.tasks import TaskMeasures
    from bnexport.results.heads import Heads, Selection

    boxes, index = np.float32([[0, 0, 2, 2]]), np.int64([[0, 0, 1]])
    for selection in (Selection(0, "i", batch=9), Selection(-4, "i", batch=0), Selection(0, "i", batch=0)):
        selections = {"y": Selection(0, "i"), "i": selection}
        measures = TaskMeasures(Heads(("y",), tasks={"y": OutputTask(OutputKind.BOXES)}, selections=selections))
        measures.add({"y": boxes, "i": index}, {"y": boxes, "i": index})
        result = measures.result("y")
        assert result is not None
        assert result.agreement == 1
