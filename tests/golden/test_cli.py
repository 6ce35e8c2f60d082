"""The command line as its users meet it: exit code, stdout and stderr, one row for each way to hold it wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bnexport.cli import app
from bnexport.reporting.json import SCHEMA
from bnexport.runtimes.ort_library import cuda_missing


def run(*arguments: Any, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


@pytest.fixture
def pictures(models: Path) -> Path:
    return models / "three"


def _weights_only(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["dense"]
        file.create_group("dense")


def _truncated(path: Path, models: Path) -> None:
    path.write_bytes((models / "tiny_residual.h5").read_bytes()[:5000])


BROKEN_MODELS: dict[str, tuple[str, Callable[[Path, Path], object], str]] = {
    "missing": ("model.h5", lambda *_: None, "model.h5 does not exist"),
    "directory": ("model.h5", lambda path, _: path.mkdir(), "is a directory"),
    "empty file": ("model.h5", lambda path, _: path.touch(), "an empty file"),
    "text as .h5": ("model.h5", lambda path, _: path.write_text("not a model\n"), "a text file"),
    "page as .keras": ("model.keras", lambda path, _: path.write_text("<html>404</html>"), "an HTML or XML file"),
    "git-LFS pointer": (
        "model.keras",
        lambda path, _: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "git lfs pull",
    ),
    "weights only": ("model.h5", lambda path, _: _weights_only(path), "weights only"),
    "truncated .h5": ("model.h5", lambda path, models: _truncated(path, models), "damaged HDF5 file"),
    "zip without a model": ("model.keras", lambda path, _: _zip(path), "an archive without a Keras model"),
    "noise as .onnx": ("model.onnx", lambda path, _: path.write_bytes(b"\x00\x01noise" * 9), "not a valid ONNX model"),
}


def _zip(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


@pytest.mark.keras
@pytest.mark.parametrize("case", BROKEN_MODELS)
def test_a_broken_model_is_one_sentence(case: str, tmp_path: Path, models: Path, pictures: Path) -> None:
    """Whatever is wrong with the model file, there is one sentence that says what it is, and exit code 2."""
    name, make, words = BROKEN_MODELS[case]
    make(tmp_path / name, models)
    result = run("check", tmp_path / name, pictures, "-q")
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def _folder(path: Path, **files: bytes) -> None:
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("_", ".")).write_bytes(content)


BROKEN_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda _: None, "does not exist"),
    "empty folder": (lambda path: _folder(path), "contains no images"),
    "no image among the files": (lambda path: _folder(path, readme_txt=b"hello"), "contains no images"),
    "text as .png": (lambda path: _folder(path, a_png=b"hello", b_jpg=b"hello"), "none of the 2 images can be read"),
    "truncated jpeg": (
        lambda path: _folder(path, a_jpg=b"\xff\xd8\xff\xe0" + b"\0" * 40),
        "none of the 1 images can be read",
    ),
}


@pytest.mark.parametrize("case", BROKEN_IMAGES)
def test_broken_images_are_one_sentence(case: str, tmp_path: Path, models: Path) -> None:
    """The same for the images."""
    make, words = BROKEN_IMAGES[case]
    make(tmp_path / "images")
    result = run("check", models / "tiny_residual.onnx", tmp_path / "images", "-q")
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


WRONG_USE: dict[str, tuple[list[str], str]] = {
    "wrong channel count": (["--channels", "3"], "number of channels does not match"),
    "impossible channel count": (["--channels", "2"], "number of channels is invalid"),
    "wrong size": (["--size", "64"], "image size does not match"),
    "unreadable size": (["--size", "big"], "cannot read --size big"),
    "unknown provider": (["--provider", "tpu"], "tpu"),
    "unknown kernel": (["--resize", "sinc"], "sinc"),
    "colour scaling of grey images": (["--scaling", "torch"], "requires color images"),
    "unknown report": (["--report", "report.doc"], "report.doc"),
    "report into nowhere": (["--report", "no/such/folder/report.json"], "create the folder"),
    "negative tolerance": (["--rtol", "-1"], "tolerance"),
    "unreadable tolerance": (["--rtol", "small"], "cannot read --rtol small"),
    "infinite tolerance": (["--atol", "logits=inf"], "tolerance"),
    "a tensor that is not there": (["--rtol", "nonsense=1"], "names the tensor nonsense, which is not compared"),
    "a deployed file that is not there": (["--deployed", "other.onnx"], "other.onnx does not exist"),
    "--layerwise of an ONNX file alone": (["--layerwise"], "pass the file to compare it with"),
    "a mean that is no number": (["--mean", "a,b"], "cannot read --mean a,b"),
    "a mean without a deviation": (["--mean", "0.5"], "requires a mean and a standard deviation"),
    "unknown fit": (["--fit", "squeeze"], "squeeze"),
    "grey images in another channel order": (["--channel-order", "bgr"], "requires color images"),
    "images and inputs": (["--inputs", "data.npz"], "images or on arrays, not both: found images and arrays"),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use_exits_2(case: str, models: Path, pictures: Path) -> None:
    """A wrong option names itself, exits with 2 and computes nothing."""
    options, words = WRONG_USE[case]
    result = run("check", models / "tiny_residual.onnx", pictures, "-q", *options)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.keras
def test_what_is_deployed_must_be_onnx(models: Path, pictures: Path, tmp_path: Path) -> None:
    """--onnx with a Keras file, a file that is not there, or noise: one sentence, before anything is loaded."""
    (tmp_path / "noise.onnx").write_bytes(b"noise" * 9)
    for file, words in (
        (models / "tiny_residual.keras", "is not an ONNX file"),
        (tmp_path / "none.onnx", "none.onnx does not exist"),
        (tmp_path / "noise.onnx", "not a valid ONNX model"),
    ):
        result = run("check", models / "tiny_residual.keras", pictures, "-q", "--onnx", file)
        assert result.exit_code == 2, result.output
        assert words in result.stderr


def test_the_cache_is_shown_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Path, pictures: Path
) -> None:
    """Where it is and how large; clearing removes the entries; --no-cache leaves nothing."""
    monkeypatch.setenv("BNEXPORT_CACHE_DIR", str(tmp_path))
    run("check", models / "tiny_residual.onnx", pictures, "-q", "--no-cache")
    assert f"{tmp_path}: 0 entries" in run("cache").stdout
    run("check", models / "tiny_residual.onnx", pictures, "-q")
    assert f"{tmp_path}: 0 entries" not in run("cache", "show").stdout
    assert "entries removed" in run("cache", "clear").stdout
    assert not list(tmp_path.iterdir())
    assert run("cache", "burn").exit_code == 2


@pytest.mark.keras
def test_layers_are_shown(models: Path, pictures: Path) -> None:
    """--layers: every layer with its error in floors, as a table and in JSON."""
    result = run("check", models / "tiny_residual.keras", pictures, "-q", "--layers", "--format", "json")
    report = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert {"stem_conv", "stem_bn", "block1_add", "predictions"} <= set(layers)
    assert not any(layer["off"] for layer in layers.values())
    text = run("check", models / "tiny_residual.keras", pictures, "-q", "--layers", "-v").stdout
    assert "stem_bn" in text
    assert "floors" in text


@pytest.mark.skipif(not cuda_missing(), reason="CUDA runs here")
def test_required_cuda_that_is_missing_exits_3(models: Path, pictures: Path) -> None:
    """--require cuda without CUDA exits with 3 and says what is missing."""
    result = run("check", models / "tiny_residual.onnx", pictures, "-q", "--require", "cuda")
    assert result.exit_code == 3
    assert cuda_missing() in result.stderr


@pytest.mark.skipif(not cuda_missing(), reason="CUDA runs here")
def test_cuda_that_was_asked_for_and_is_missing_fails_the_check(models: Path, pictures: Path) -> None:
    """--provider cuda without CUDA is RT001: what was asked for was not checked."""
    result = run("check", models / "tiny_residual.onnx", pictures, "-q", "--provider", "cuda", "--format", "json")
    assert result.exit_code == 1
    assert "RT001" in {finding["code"] for finding in json.loads(result.stdout)["findings"]}


@pytest.mark.keras
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".onnx"])
def test_check_tells_the_story_in_json(suffix: str, models: Path, pictures: Path, tmp_path: Path) -> None:
    """The overfit net fails its check: 1 of 3 in inference, 3 of 3 in training mode, on every side; the model file is untouched."""
    model = models / f"tiny_residual{suffix}"
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    result = run("check", model, pictures, "-q", "--format", "json", "--report", tmp_path / "check.json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert json.loads((tmp_path / "check.json").read_text()) == report
    right = {side["id"]: side["top1"]["correct"] for side in report["sides"]}
    keras = {"onnx-unoptimised@cpu": 1} if suffix == ".onnx" else {"keras-inference": 1, "keras-training": 3}
    assert {k: v for k, v in right.items() if "cuda" not in k} == {
        **keras,
        "onnx-inference@cpu": 1,
        "onnx-training@cpu": 3,
        "onnx-recalibrated@cpu": 3,
    }
    assert report["verdict"] == "fail"
    [finding] = [f for f in report["findings"] if f["code"] == "BN005"]
    assert finding["evidence"]["images_differing"] == 2
    [stale] = [f for f in report["findings"] if f["code"] == "BN001"]
    assert stale["evidence"]["stored_iterations"] == (None if suffix == ".onnx" else 5)
    assert 2 < stale["evidence"]["estimated_updates"] < 7
    parity = [c for c in report["comparisons"] if c["actual"].split("-")[1] == c["reference"].split("-")[1] + "@cpu"]
    assert all(c["passed"] for c in parity)
    assert len(parity) == (0 if suffix == ".onnx" else 4)
    assert report["model"]["sha256"] == before == hashlib.sha256(model.read_bytes()).hexdigest()
    assert report["model"]["batch_normalization"] == {"layers": 6, "frozen": 0}
    assert report["images"]["classes"] == ["cross", "disc", "stripes"]


def test_the_first_lines_say_verdict_reason_and_next_step(models: Path, pictures: Path) -> None:
    """A reader of a failing job's output sees in three lines what failed, why, and what to do."""
    result = run("check", models / "tiny_residual.onnx", pictures, "-q")
    verdict, reason, step, gain = result.stdout.splitlines()[:4]
    assert verdict.startswith("FAIL")
    assert reason.startswith("BN001 stale moving statistics: about ")
    assert step.strip().startswith("-> bnexport recalibrate")
    assert gain.strip() == "3 of 3 correct instead of 1"


def test_commands_of_findings_can_be_pasted(models: Path, pictures: Path, tmp_path: Path) -> None:
    """What a finding says to run is a shell command, also for names with spaces, quotes and dollars; the reason is beside it."""
    folder = tmp_path / "it's a $HOME folder"
    folder.mkdir()
    model = Path(shutil.copy(models / "tiny_residual.onnx", folder / "a net.onnx"))
    labels = folder / "the labels.csv"
    labels.write_text("file,label\ncross.png,cross\ndisc.png,disc\nstripes.png,stripes\n", encoding="utf-8")
    commands = []
    for scaling in ("unit", "none"):
        result = run("check", model, pictures, "--labels", labels, "--scaling", scaling, "-q", "--format", "json")
        actions = [action for finding in json.loads(result.stdout)["findings"] for action in finding["actions"]]
        commands += [action["command"] for action in actions if action["command"]]
        assert all(action["reason"] for action in actions)
    assert any("recalibrate" in command for command in commands), commands
    assert any("--normalize none" in command for command in commands), commands
    for command in commands:
        script = f"PATH={Path(sys.executable).parent}:$PATH; {command} -q"
        shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert shell.returncode in (0, 1), shell.stderr
    assert not any("{" in command for command in commands)


def test_odd_places_and_names(models: Path, pictures: Path, tmp_path: Path) -> None:
    """A read-only folder with a space and names beyond ASCII is read like any other, labels included."""
    folder = tmp_path / "Bilder für später"
    shutil.copytree(pictures, folder)
    (folder / "disc.png").rename(folder / "Scheibe ⬤.png")
    (folder / "labels.csv").write_text("file,label\nScheibe ⬤.png,disc\ncross.png,cross\n", encoding="utf-8")
    folder.chmod(0o555)
    result = run("check", models / "tiny_residual.onnx", folder, "-q", "--format", "json")
    folder.chmod(0o755)
    report = json.loads(result.stdout)
    assert report["images"]["count"] == 3
    [inference] = [s for s in report["sides"] if s["id"] == "onnx-inference@cpu"]
    assert inference["top1"] == {"correct": 1, "of": 3}  # two by labels.csv, stripes.png by the sidecar's own list


def test_class_subfolders_are_labels(models: Path, pictures: Path, tmp_path: Path) -> None:
    """One subfolder for each class works as labels."""
    for name in ("cross", "disc", "stripes"):
        (tmp_path / name).mkdir()
        shutil.copy(pictures / f"{name}.png", tmp_path / name / "1.png")
    report = json.loads(run("check", models / "tiny_residual.onnx", tmp_path, "-q", "--format", "json").stdout)
    assert {s["id"]: s["top1"] for s in report["sides"]}["onnx-training@cpu"] == {"correct": 3, "of": 3}


def test_images_from_a_list_on_stdin(models: Path, pictures: Path) -> None:
    """Paths on standard input are checked in their order."""
    listing = "\n".join(str(pictures / f"{name}.png") for name in ("stripes", "cross", "disc"))
    report = json.loads(
        run("check", models / "tiny_residual.onnx", "-", "-q", "--format", "json", stdin=listing).stdout
    )
    assert {s["id"]: s["top1"] for s in report["sides"]}["onnx-training@cpu"] == {"correct": 3, "of": 3}


def test_an_unreadable_image_among_good_ones_is_named(models: Path, pictures: Path, tmp_path: Path) -> None:
    """IN004 lists it; the others are checked."""
    folder = tmp_path / "images"
    shutil.copytree(pictures, folder)
    (folder / "broken\x1b[31m.png").write_bytes(b"hello")
    result = run("check", models / "tiny_residual.onnx", folder, "-q")
    assert "IN004" in result.stdout
    assert "\x1b" not in result.stdout
    report = json.loads(run("check", models / "tiny_residual.onnx", folder, "-q", "--format", "json").stdout)
    assert report["images"]["count"] == 3
    assert len(report["images"]["unreadable"]) == 1


def test_arrays_in_place_of_images(models: Path, tmp_path: Path) -> None:
    """--inputs takes an .npz file, labels included."""
    np.savez(
        tmp_path / "data.npz", image=np.random.default_rng(0).random((5, 32, 32, 1)), labels=np.array([0, 1, 2, 0, 1])
    )
    report = json.loads(
        run("check", models / "tiny_residual.onnx", "--inputs", tmp_path / "data.npz", "-q", "--format", "json").stdout
    )
    assert report["images"]["count"] == 5
    assert report["preprocessing"] is None
    assert report["sides"][0]["top1"]["of"] == 5


BROKEN_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "wrong shape": ({"image": np.zeros((2, 8, 8, 1))}, "wrong shape"),
    "no items": ({"image": np.zeros((0, 32, 32, 1))}, "empty"),
    "another number of labels": ({"image": np.zeros((2, 32, 32, 1)), "labels": np.zeros(3)}, "differ in length"),
    "another input": ({"a": np.zeros((2, 32, 32, 1)), "b": np.zeros(2)}, "are not the inputs of the model"),
    "pickled objects": ({"image": np.array([object()], dtype=object)}, "plain arrays"),
    "a label beyond the classes": ({"image": np.zeros((2, 32, 32, 1)), "labels": np.array([0, 7])}, "3 classes"),
}


@pytest.mark.parametrize("case", BROKEN_ARRAYS)
def test_broken_arrays_are_one_sentence(case: str, models: Path, tmp_path: Path) -> None:
    """The same as for images."""
    arrays, words = BROKEN_ARRAYS[case]
    np.savez(tmp_path / "data.npz", **arrays)
    result = run("check", models / "tiny_residual.onnx", "--inputs", tmp_path / "data.npz", "-q")
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.keras
def test_export_writes_a_whole_file(models: Path, tmp_path: Path, pictures: Path) -> None:
    """Exporting writes the ONNX file with the sidecar in it, and says what it wrote."""
    result = run("export", models / "tiny_residual.h5", "-o", tmp_path / "net.onnx", "-q", "--format", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["batch_normalization"] == 6
    assert told["seconds"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    checked = json.loads(run("check", tmp_path / "net.onnx", pictures, "-q", "--format", "json").stdout)
    assert checked["preprocessing"]["origin"] == "onnx metadata"


@pytest.mark.keras
def test_a_failed_export_leaves_the_old_file(models: Path, tmp_path: Path) -> None:
    """Where the model cannot be read, the file of an earlier export stays as it was, and nothing is left beside it."""
    target = tmp_path / "net.onnx"
    target.write_bytes(b"old")
    _truncated(tmp_path / "net.h5", models)
    assert run("export", tmp_path / "net.h5", "-o", target, "-q").exit_code == 2
    assert target.read_bytes() == b"old"
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.h5"}


WRONG_TRAINING: dict[str, tuple[list[str], str]] = {
    "unknown net": (["--arch", "ResNet5"], "keras.applications has no network ResNet5"),
    "too small": (["--arch", "InceptionV3", "--size", "20"], "InceptionV3 does not accept images"),
    "momentum of 1": (["--momentum", "1"], "momentum is invalid"),
}


@pytest.mark.keras
@pytest.mark.parametrize("case", WRONG_TRAINING)
def test_wrong_training_exits_2_and_leaves_nothing(case: str, tmp_path: Path, pictures: Path) -> None:
    """A net that cannot be trained is one sentence, and no file."""
    options, words = WRONG_TRAINING[case]
    result = run("train", pictures, "-o", tmp_path / "net.h5", "-q", *options)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_train_needs_two_classes_and_a_model_suffix(tmp_path: Path, pictures: Path) -> None:
    """One image is no classification, and .onnx is no Keras model."""
    (tmp_path / "one").mkdir()
    shutil.copy(pictures / "disc.png", tmp_path / "one")
    assert "contains only one class" in run("train", tmp_path / "one", "-o", tmp_path / "net.h5", "-q").stderr
    assert "expected .h5 or .keras" in run("train", pictures, "-o", tmp_path / "net.onnx", "-q").stderr


def test_an_internal_error_is_a_sentence(monkeypatch: pytest.MonkeyPatch, models: Path, pictures: Path) -> None:
    """What nobody foresaw exits with 70 and asks for a report; BNEXPORT_DEBUG shows the traceback."""
    monkeypatch.setattr("bnexport.comparison.opening.open_subject", lambda *_, **__: 1 / 0)
    result = run("check", models / "tiny_residual.onnx", pictures, "-q")
    assert result.exit_code == 70
    assert "ZeroDivisionError" in result.stderr
    monkeypatch.setenv("BNEXPORT_DEBUG", "1")
    assert isinstance(run("check", models / "tiny_residual.onnx", pictures, "-q").exception, ZeroDivisionError)


def test_interrupted_exits_130(monkeypatch: pytest.MonkeyPatch, models: Path, pictures: Path) -> None:
    """Ctrl-C is a sentence and 130."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bnexport.comparison.opening.open_subject", interrupted)
    result = run("check", models / "tiny_residual.onnx", pictures, "-q")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_checking_onnx_imports_no_tensorflow(models: Path, pictures: Path) -> None:
    """A machine without TensorFlow can check an ONNX file."""
    code = f"""
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from bnexport import check
report = check({str(models / "tiny_residual.onnx")!r}, {str(pictures)!r})
assert not report and {{s.id for s in report.sides}} >= {{"onnx-inference@cpu", "onnx-training@cpu"}}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "command",
    [
        "check MODEL IMAGES",
        "check OLD IMAGES",
        "check SAVED IMAGES",
        "check MODEL IMAGES --onnx tiny_residual.onnx",
        "export MODEL -o out.onnx",
        "recalibrate MODEL IMAGES -o out.keras",
        "pack MODEL IMAGES -o out",
        "train IMAGES -o out.h5",
        "demo out",
    ],
)
def test_keras_models_without_tensorflow_say_what_to_install(
    command: str, models: Path, pictures: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The base install alone (no tensorflow, keras, tf2onnx, h5py) and nothing in the cache: exit code 3, one sentence, nothing written."""
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").write_bytes(b"x")
    shutil.copy(models / "tiny_residual.onnx", tmp_path)
    before = set(tmp_path.iterdir())
    places = {"MODEL": models / "tiny_residual.keras", "OLD": models / "tiny_residual.h5", "SAVED": "saved"}
    arguments = [str({**places, "IMAGES": pictures}.get(part, part)) for part in [*command.split(), "-q"]]
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf2onnx', 'h5py'])); from bnexport.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, *arguments],
        cwd=tmp_path,
        env={**os.environ, "BNEXPORT_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "pip install 'bnexport[keras]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("export MODEL -o out.onnx", 0),
        ("export OLD -o out.onnx", 0),
        ("recalibrate MODEL IMAGES -o out.onnx", 0),
        ("recalibrate MODEL IMAGES -o out.keras", 0),
        ("recalibrate OLD IMAGES -o out.h5", 0),
        ("recalibrate OLD IMAGES -o out.keras", 0),
        ("recalibrate MODEL IMAGES -o out.h5", 0),
        ("check MODEL IMAGES", 3),
    ],
)
def test_keras_files_are_exported_and_repaired_without_tensorflow(
    command: str, code: int, models: Path, pictures: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only the reference of a check needs TensorFlow: where it is missing, one sentence says what to install."""
    places = {"MODEL": models / "tiny_residual.keras", "OLD": models / "tiny_residual.h5", "IMAGES": pictures}
    arguments = [str(places.get(part, part)) for part in [*command.split(), "-q"]]
    blocked = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf2onnx'])); from bnexport.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, *arguments],
        cwd=tmp_path,
        env={**os.environ, "BNEXPORT_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code:
        assert "pip install 'bnexport[keras]'" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    else:
        assert (tmp_path / command.split()[-1]).exists()


def test_an_assumed_specification_is_said_aloud(models: Path, tmp_path: Path) -> None:
    """A model that does not say how its images are prepared gets a warning with what was assumed."""
    import onnx

    model = onnx.load(models / "tiny_residual.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    report = json.loads(run("check", tmp_path / "bare.onnx", tmp_path / "a.png", "-q", "--format", "json").stdout)
    [finding] = [f for f in report["findings"] if f["code"] == "IN005"]
    assert "32x32, 1 channel" in finding["message"]
    assert report["sides"][0]["top1"] is None


def test_fold_compares_before_it_writes(models: Path, pictures: Path, tmp_path: Path) -> None:
    """Every BatchNormalization node goes, both graphs are run, and the numbers are told."""
    done = run(
        "fold",
        models / "tiny_residual.onnx",
        "-o",
        tmp_path / "folded.onnx",
        "--images",
        pictures,
        "-q",
        "--format",
        "json",
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {entry["node"] for entry in told["folded"]} >= {"stem_bn", "block1_1_bn", "block2_0_bn"}
    assert told["refused"] == []
    assert told["max_rel"] < 1e-5
    text = run("fold", models / "tiny_residual.onnx", "-o", tmp_path / "folded.onnx", "-q").stdout
    assert "nodes folded, 0 not folded" in text


def test_a_fold_that_changes_the_result_is_not_written(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the folded graph computes something else the exit code is 1 and no file appears."""
    from bnexport.onnx_graph import patterns

    original = patterns.attributes_of
    monkeypatch.setattr(patterns, "attributes_of", lambda node: {**original(node), "epsilon": 9.0})
    done = run("fold", models / "tiny_residual.onnx", "-o", tmp_path / "folded.onnx", "-q")
    assert done.exit_code == 1
    assert "REFUSED" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_folded_says_why(models: Path, tmp_path: Path) -> None:
    """A Keras model, and a graph that was folded before."""
    assert "export it first" in run("fold", models / "tiny_residual.h5", "-o", tmp_path / "f.onnx", "-q").stderr
    assert run("fold", models / "tiny_residual.onnx", "-o", tmp_path / "f.onnx", "-q").exit_code == 0
    again = run("fold", tmp_path / "f.onnx", "-o", tmp_path / "g.onnx", "-q")
    assert again.exit_code == 2
    assert "already be folded" in again.stderr
    refused = run("recalibrate", tmp_path / "f.onnx", models / "three", "-o", tmp_path / "g.onnx", "-q")
    assert "no BatchNormalization node" in refused.stderr


def test_recalibrate_and_fold_in_one_go(models: Path, pictures: Path, tmp_path: Path) -> None:
    """--fold leaves no BatchNormalization node and keeps the repaired answers; a Keras file cannot be folded."""
    import onnx

    done = run(
        "recalibrate",
        models / "tiny_residual.onnx",
        pictures,
        "-o",
        tmp_path / "r.onnx",
        "--fold",
        "-q",
        "--format",
        "json",
    )
    told = json.loads(done.stdout)
    assert told["after"]["top1"] == {"correct": 3, "of": 3}
    assert told["folded"] >= 6
    assert not [n for n in onnx.load(tmp_path / "r.onnx").graph.node if n.op_type == "BatchNormalization"]
    wrong = run("recalibrate", models / "tiny_residual.h5", pictures, "-o", tmp_path / "r.keras", "--fold", "-q")
    assert wrong.exit_code == 2
    assert "only an ONNX file can be folded" in wrong.stderr


def test_every_code_is_explained() -> None:
    """Each code of the catalogue has its explanation as text and as a section of the page, and an unknown code lists them."""
    from bnexport.rules.catalogue import CATALOGUE

    page = run("explain", "--format", "markdown").stdout
    for code, rule in CATALOGUE.items():
        told = run("explain", code.lower())
        assert told.exit_code == 0
        assert told.stdout.startswith(f"{code}: {rule.title}\n")
        assert "what to do" in told.stdout
        section = run("explain", code, "--format", "markdown").stdout
        assert section.rstrip() in page
        assert f"## {code}: " in section
    assert len(run("explain").stdout.splitlines()) == page.count("\n## ") == len(CATALOGUE)
    unknown = run("explain", "BN999")
    assert unknown.exit_code == 2
    assert "BN001" in unknown.stderr
