"""Class names from a labels.txt beside the model: taken where it fits the model and the images, ignored with a note where not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from bnexport import check
from bnexport.comparison.subject import open_subject
from bnexport.datasets import label_file
from bnexport.errors import InputError
from bnexport.onnx_graph import metadata
from bnexport.progress import Progress
from bnexport.reporting import json as json_report
from bnexport.results.verdict import CheckReport

NUMBERED = "0 cross\n1 disc\n2 stripes\n"
NAMES = ("cross", "disc", "stripes")


class Notes(Progress):
    """Keeps the lines about class names."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keeps one of labels.txt."""
        if label_file.NAME in text:
            self.lines.append(text)


@pytest.fixture
def model(tmp_path: Path, models: Path) -> Path:
    """An ONNX file of three classes that does not name them."""
    graph = onnx.load(models / "tiny_residual.onnx")
    metadata.write(graph, {"classes": None, "labels": None})
    onnx.save(graph, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    """One picture in a folder for each class."""
    return sorted_into(tmp_path / "images", models, NAMES)


def sorted_into(folder: Path, models: Path, classes: tuple[str, ...]) -> Path:
    for source, name in zip(NAMES, classes, strict=True):
        (folder / name).mkdir(parents=True)
        shutil.copy(models / "three" / f"{source}.png", folder / name)
    return folder


def checked(model: Path, source: Path, labels: Path | None = None) -> tuple[CheckReport, Notes]:
    notes = Notes()
    return check(model, source, labels=labels, providers=["cpu"], progress=notes), notes


def right(report: CheckReport) -> int | None:
    """How many of the three images are right in training mode: the model's moving statistics are stale on purpose."""
    [count] = [side.correct for side in report.sides if side.id == "onnx-training@cpu"]
    return count


@pytest.mark.parametrize("name", ["labels.txt", "net.labels.txt"])
def test_class_names_come_from_the_file(model: Path, models: Path, name: str) -> None:
    """On a flat folder, which names no classes, the report has those of the file, and says where they come from."""
    model.with_name(name).write_bytes(b"\xef\xbb\xbf" + NUMBERED.replace("\n", "\r\n").encode())
    report, notes = checked(model, models / "three")
    assert report.images.classes == NAMES
    assert json_report.check(report)["images"]["classes"] == list(NAMES)
    assert notes.lines == [f"class names are read from {model.with_name(name)} (3 names, in the order of the outputs)"]


def test_the_names_decide_which_output_a_folder_is(model: Path, folder: Path) -> None:
    """The order is the file's, not the alphabet's: with two names exchanged, two of three answers are wrong."""
    labels = model.with_name("labels.txt")
    labels.write_text("disc\ncross\nstripes\n")
    assert right(checked(model, folder)[0]) == 1
    labels.write_text(NUMBERED)
    assert right(checked(model, folder)[0]) == 3
    shutil.rmtree(folder / "cross")  # fewer classes than the model has, which cannot be placed without the names
    assert right(checked(model, folder)[0]) == 2
    labels.unlink()
    with pytest.raises(InputError, match="do not match the model"):
        checked(model, folder)


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("Cross", "Disc", "Stripes"), ("cross", "disc", "striped")])
def test_folders_of_other_names_work_as_before(
    model: Path, models: Path, tmp_path: Path, classes: tuple[str, str, str]
) -> None:
    """A file that lacks one of the images' labels is ignored: classes are in alphabetical order, as Keras takes them."""
    source = sorted_into(tmp_path / "images", models, classes)
    model.with_name("labels.txt").write_text("0 stripes\n1 disc\n2 cross\n")
    report, notes = checked(model, source)
    assert (report.images.classes, right(report)) == (classes, 3)
    assert len(notes.lines) == 1
    assert "is ignored: the images have the label" in notes.lines[0]


@pytest.mark.parametrize(
    ("content", "given", "correct"),
    [
        ("stripes\ndisc\ncross\n", NAMES, 1),  # two of three are in another place than the alphabet's
        ("stripes\ndisc\ncross\n", ("a", "b", "c"), 3),  # not those of the file
        ("stripes\ndisc\ncross\n", ("0", "1", "2"), 3),  # class numbers
        ("2\n1\n0\n", ("0", "1", "2"), 3),  # class numbers, of which a name is none
    ],
)
def test_labels_of_a_table_are_held_against_the_file(
    model: Path, models: Path, tmp_path: Path, content: str, given: tuple[str, str, str], correct: int
) -> None:
    """Names in labels.csv have to be in the file; class numbers keep their meaning also where the names are numbers."""
    table = tmp_path / "labels.csv"
    table.write_text("".join(f"{name}.png,{label}\n" for name, label in zip(NAMES, given, strict=True)))
    model.with_name("labels.txt").write_text(content)
    assert right(checked(model, models / "three", table)[0]) == correct


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"0 cross\n1 disc\n", "it contains 2 names, but the output of the model has 3 values"),
        (NUMBERED.encode() + b"3 dots\n", "it contains 4 names"),
        (b"1 cross\n2 disc\n3 stripes\n", "do not count up from 0"),
        (b"0 cross\n2 disc\n1 stripes\n", "do not count up from 0"),
        (b"cross\n\ndisc\n", "an empty line"),
        (b"cross\ndisc\ndisc\n", "the name 'disc' twice"),
        (b"", "it contains no class names"),
        (b"\xff\xfec\0\n\0", "can't decode"),
        (b"x" * (label_file.MOST_BYTES + 1), "too large"),
        (None, "not a regular file"),
    ],
)
def test_a_file_that_does_not_fit_is_ignored(model: Path, content: bytes | None, why: str) -> None:
    """It is no reason to refuse a model that can be checked without it."""
    path = model.with_name("labels.txt")
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    notes = Notes()
    subject = open_subject(model, notes)
    assert not (subject.model_sidecar and subject.model_sidecar.classes)
    assert metadata.read(subject.graph, "classes") is None
    assert len(notes.lines) == 1
    assert why in notes.lines[0]


def test_what_names_the_classes_already_stays(models: Path, tmp_path: Path) -> None:
    """Metadata and sidecars go first: the text file beside them is not even looked at."""
    for name in ("tiny_residual.onnx", "torch_residual.onnx", "torch_residual.onnx.toml"):
        shutil.copy(models / name, tmp_path)
    (tmp_path / "labels.txt").write_text("0 a\n1 b\n2 c\n")
    for name in ("tiny_residual.onnx", "torch_residual.onnx"):
        notes = Notes()
        known = open_subject(tmp_path / name, notes).model_sidecar
        assert known is not None
        assert (known.classes, notes.lines) == (NAMES, [])


def test_the_names_travel_with_the_graph(model: Path) -> None:
    """What is made of the graph carries them as it carries a sidecar's, and keeps what else the file says."""
    model.with_name("labels.txt").write_text(NUMBERED)
    subject = open_subject(model, Notes())
    assert metadata.read(subject.graph, "classes") == {"names": list(NAMES)}
    assert metadata.read(subject.graph, "preprocessing") is not None
    assert subject.heads(NAMES).named_by_model


def test_arrays_have_class_numbers(model: Path, tmp_path: Path) -> None:
    """With --inputs the names are shown, and labels stay numbers."""
    model.with_name("labels.txt").write_text(NUMBERED)
    data = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=data, labels=np.array([0, 1, 2, -1]))
    report = check(model, inputs=tmp_path / "data.npz", providers=["cpu"])
    assert report.images.classes == NAMES
    assert {side.of for side in report.sides} == {3}


def test_numbers_that_are_no_classes_have_no_names(tmp_path: Path, models: Path) -> None:
    """A regression of three values beside a labels.txt of three lines; labels of images, or the model's own name, say that they are classes."""
    text = "g (float[N, 32, 32, 1] x) => (float[N, 3] y) { h = Flatten(x)  y = MatMul(h, w) }"
    graph = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    weight = np.random.default_rng(0).normal(0, 1e-3, (1024, 3)).astype(np.float32)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(graph, tmp_path / "net.onnx")
    (tmp_path / "labels.txt").write_text(NUMBERED)
    report, notes = checked(tmp_path / "net.onnx", models / "three")
    assert report.images.classes == ()
    assert all(not side.answers for side in report.sides)
    [line] = notes.lines
    assert "is ignored: the output of the model may not be class scores" in line
    table = tmp_path / "labels.csv"
    for labels in (NAMES, ("0", "1", "2")):
        table.write_text("".join(f"{name}.png,{label}\n" for name, label in zip(NAMES, labels, strict=True)))
        assert checked(tmp_path / "net.onnx", models / "three", table)[0].images.classes == NAMES
    (tmp_path / "labels.txt").rename(tmp_path / "net.labels.txt")
    assert checked(tmp_path / "net.onnx", models / "three")[0].images.classes == NAMES


def test_several_outputs_have_no_names(tmp_path: Path) -> None:
    """Which of the outputs the names would belong to is not said."""
    text = "g (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) { y = Relu(x)  z = Neg(x) }"
    graph = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    (tmp_path / "net.onnx").write_bytes(graph.SerializeToString())
    (tmp_path / "labels.txt").write_text(NUMBERED)
    notes = Notes()
    assert open_subject(tmp_path / "net.onnx", notes).model_sidecar is None
    assert "the model has 2 outputs" in notes.lines[0]


def test_lines_are_numbered_or_names() -> None:
    """Names may begin with digits, hold spaces and be numbers; a number without a name stands for itself."""
    assert label_file.parse(b"0 Class 1\n1\tb c \n2 \n") == ("Class 1", "b c", "2")
    assert label_file.parse(b"7 up\ncola\n\n") == ("7 up", "cola")
    assert label_file.parse(b"5\n3\n8") == ("5", "3", "8")
    assert label_file.parse("é\u2028x\nü".encode()) == ("é\u2028x", "ü")


@pytest.mark.keras
def test_an_export_carries_the_names(models: Path, tmp_path: Path) -> None:
    """The ONNX file's metadata has the names as it has a sidecar's, so that they go on without the text file."""
    from bnexport import export

    shutil.copy(models / "tiny_residual.h5", tmp_path / "net.h5")
    (tmp_path / "labels.txt").write_text(NUMBERED)
    notes = Notes()
    export(tmp_path / "net.h5", tmp_path / "net.onnx", progress=notes)
    assert len(notes.lines) == 1
    assert metadata.read(onnx.load(tmp_path / "net.onnx"), "classes") == {"names": list(NAMES)}
