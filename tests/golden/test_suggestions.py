"""Whatever name is mistyped, the sentence that refuses it offers the name that may have been meant; hidden names are never offered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bnexport.cli import app
from bnexport.demo.keras_train import architectures
from bnexport.keras_files.architecture import net_names
from bnexport.results.option_names import FORMER_NAMES
from bnexport.system.suggestions import most_similar

GROUP: Any = typer.main.get_command(app)
MODEL = ("tiny_residual.onnx", "three")
PLAN = '[[check]]\nmodels = ["*.onnx"]\nimages = ["three"]\n'

TYPED: dict[str, tuple[tuple[str, ...], str]] = {
    "an option": (("check", *MODEL, "--taget", "openvino"), "--target"),
    "an option with its value": (("check", *MODEL, "--taget=openvino"), "--target"),
    "a former option": (("check", *MODEL, "--sacling", "unit"), "--normalize (formerly --scaling)"),
    "a former option with its value": (("pack", *MODEL, "-o", "b", "--providr=x"), "--target (formerly --provider)"),
    "an option with one dash": (("check", *MODEL, "-target", "openvino"), "--target"),
    "an option of the program": (("--versoin",), "--version"),
    "the option for help": (("check", "--hlep"), "--help"),
    "a command": (("chek", *MODEL), "check"),
    "a command in capitals": (("Verify", "bundle"), "verify"),
    "a format": (("check", *MODEL, "--format", "josn"), "json"),
    "a format in capitals": (("fold", "a.onnx", "-o", "b.onnx", "--format", "JSON"), "json"),
    "a format of a batch": (("batch", "plan.toml", "--format", "ndjsn"), "ndjson"),
    "a format of explanations": (("explain", "--format", "markdwon"), "markdown"),
    "an interpolation": (("check", *MODEL, "--interpolation", "pil-bilinar"), "pil-bilinear"),
    "a scaling by its former option": (("check", *MODEL, "--scaling", "minus-one"), "minus-one-one"),
    "a color mode": (("check", *MODEL, "--color-mode", "grey"), "gray"),
    "an engine": (("recalibrate", *MODEL, "-o", "out.onnx", "--engine", "rya"), "ray"),
    "a signing method": (("pack", *MODEL, "-o", "bundle", "--sign", "certificat"), "certificate"),
    "an action on the cache": (("cache", "claer"), "clear"),
    "a finding": (("explain", "RT0099"), "RT009"),
    "a finding in small letters": (("explain", "ex02"), "EX002"),
    "a command of config": (("config", "recalbrate"), "recalibrate"),
    "a target": (("check", *MODEL, "--target", "openvnio"), "openvino"),
    "a target with a device": (("check", *MODEL, "--target", "onnxruntme:cpu"), "onnxruntime"),
    "a device": (("pack", *MODEL, "-o", "bundle", "--target", "onnxruntime:cud"), "onnxruntime:cuda"),
    "a provider": (("check", *MODEL, "--target", "onnxruntime:xnpack"), "xnnpack"),
    "a backend": (("check", "tiny_residual.keras", "three", "--target", "keras:jaxx"), "keras:jax"),
    "an option of a target": (("check", *MODEL, "--target", "opencv:thread=1"), "threads"),
    "a required target": (("doctor", "--require-target", "openvnio"), "openvino"),
    "a package of releases": (("verify", "bundle", "--matrix", "onnxruntme==1.20"), "onnxruntime"),
    "a tensor": (("check", *MODEL, "--rtol", "logit=1e-3"), "logits"),
    "a network": (("train", "three", "-o", "net.h5", "--arch", "resnet5"), "ResNet50"),
}
"""What is typed, and what is offered."""

WRITTEN: dict[str, tuple[str, str]] = {
    "a key of a plan": (PLAN.replace("[[check]]", 'ouput-dir = "out"\n[[check]]'), "output-dir"),
    "the table of a plan": (PLAN.replace("[[check]]", "[[chek]]"), "check"),
    "a key of a check": (PLAN.replace("models", "model"), "models"),
    "an option in a plan": (PLAN + "options = {layerwize = true}\n", "layerwise"),
    "a former option in a plan": (PLAN + "options = {sacling = 'unit'}\n", "normalize (formerly scaling)"),
    "a former key of a plan": (PLAN.replace("[[check]]", 'reslts = "out"\n[[check]]'), "output-dir (formerly results)"),
    "a value in a plan": (PLAN + 'options = {interpolation = "pil-bilinar"}\n', "pil-bilinear"),
}
"""Plans, and what is offered."""

SETTINGS: dict[str, tuple[str, str]] = {
    "an option": ("bach-size = 4", "batch-size"),
    "an option of a command": ("[check]\ninterpolaton = 'pil-box'", "interpolation"),
    "a former option": ("[check]\nsacling = 'unit'", "normalize (formerly scaling)"),
    "a command": ("[chek]\nlayerwise = true", "check"),
    "a value": ("[check]\ninterpolation = 'pil-bilinar'", "pil-bilinear"),
}
"""Settings, and what is offered."""


@pytest.fixture(autouse=True)
def _in_a_folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*MODEL, "tiny_residual.keras"):
        (tmp_path / name).symlink_to(models / name)
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def offered(completed: Result) -> str:
    """The name that the last line offers; it is one sentence."""
    assert completed.exit_code == 2, completed.output
    last = completed.stderr.strip().splitlines()[-1]
    assert last.count("did you mean") == 1, completed.stderr
    assert last.endswith("?")
    assert "Possible options" not in last
    return last.partition("did you mean ")[2].removesuffix("?")


@pytest.mark.parametrize("case", TYPED)
def test_what_is_mistyped_on_the_command_line(case: str) -> None:
    """Commands, options, values, targets and codes: exit code 2, and one name is offered."""
    arguments, name = TYPED[case]
    assert offered(run(*arguments)) == name


@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_mistyped_in_a_plan(case: str, tmp_path: Path) -> None:
    """Nothing of the plan is run."""
    content, name = WRITTEN[case]
    (tmp_path / "plan.toml").write_text(content)
    assert offered(run("batch", "plan.toml", "-q")) == name
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("case", SETTINGS)
def test_what_is_mistyped_in_settings(case: str, tmp_path: Path) -> None:
    """The file is named, and the key as it would be written there."""
    content, name = SETTINGS[case]
    (tmp_path / "bnexport.toml").write_text(content)
    completed = run("check", *MODEL)
    assert offered(completed) == name


@pytest.mark.parametrize("command", sorted(GROUP.commands))
def test_no_hidden_option_is_offered(command: str) -> None:
    """Where a former name is mistyped, the name that the help shows is offered, with the former one behind it."""
    hidden = {
        name for param in GROUP.commands[command].params if getattr(param, "hidden", False) for name in param.opts
    }
    assert hidden <= {f"--{name}" for name in FORMER_NAMES.values()}
    for name in hidden:
        completed = run(command, f"{name}x")
        assert completed.exit_code == 2
        assert f"No such option: {name}x" in completed.stderr
        offers = completed.stderr.partition("did you mean ")[2].strip().removesuffix("?")
        present = {f"--{now}": f"--{former}" for now, former in FORMER_NAMES.items()}
        offered_name, _, behind = offers.partition(" (formerly ")
        assert offered_name in present
        assert behind == f"{present[offered_name]})" == f"{name})"


def test_what_resembles_nothing_gets_no_suggestion() -> None:
    """A wrong guess is worse than none."""
    for arguments in (
        ("check", *MODEL, "--zzzzzz"),
        ("qqqqqq",),
        ("check", *MODEL, "--format", "zzzz"),
        ("explain", "?"),
    ):
        completed = run(*arguments)
        assert completed.exit_code == 2
        assert "did you mean" not in completed.output


def test_an_unknown_network_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image is read and no framework is imported for it."""
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    assert offered(run("train", "nowhere", "-o", "net.h5", "--arch", "resnet5")) == "ResNet50"


@pytest.mark.keras
def test_every_network_of_keras_is_known() -> None:
    """So that none of them is refused."""
    assert set(architectures()) == set(net_names())


def test_one_of_several_similar_names() -> None:
    """The most similar one is offered, whatever its case; none where all are far."""
    assert most_similar("ONNXRUNTIM", ["onnx-reference", "onnxruntime"]) == "onnxruntime"
    assert most_similar("", ["a"]) == most_similar("a", []) == ""
