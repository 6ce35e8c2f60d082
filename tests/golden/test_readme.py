"""What the README tells people to do is done here, on the small model, as far as a machine without a GPU and a cluster can."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bnexport.cli import app
from bnexport.runtimes.ort_library import cuda_missing

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.keras


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def recipe(key: str) -> Any:
    """The YAML block that has a key at its top."""
    [found] = [values for text in blocks("yaml") if key in (values := yaml.safe_load(text))]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A folder such as the recipes assume: a model that is right, its images, and a bundle."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(models / "three", folder / "images")
    command = ["recalibrate", str(models / "tiny_residual.keras"), "images", "-o", "model.keras", "-q"]
    assert done(command, folder).returncode == 0
    assert done(["pack", "model.keras", "images", "-o", "bundle", "-q"], folder).returncode == 0
    return folder


def done(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bnexport", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_command_that_is_named_exists() -> None:
    """Each `bnexport WORD` in the README and in CONTRIBUTING is a command, and each command is in the README."""
    import typer.main

    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^    bnexport ([a-z]+)|`bnexport ([a-z]+)", README, re.MULTILINE))
    assert {one or other for one, other in named} == commands


def test_every_option_that_is_named_exists() -> None:
    """Each --option in the README belongs to a command, or to a tool that is named beside it."""
    helped = "".join(
        CliRunner().invoke(app, [name, "--help"]).stdout
        for name in ("check", "pack", "verify", "recalibrate", "demo", "train", "fold", "batch", "explain")
    )
    theirs = {"--load-outputs", "--onnxrt", "--gpus", "--no-cache-dir", "--install-completion"}
    for option in set(re.findall(r"--[a-z][a-z-]+", README)) - theirs:
        assert option in helped, option


def test_the_pytest_recipe_passes_and_fails(place: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test in the README passes on a model that is right, and on a stale one fails with the finding and the call that repairs it."""
    [code, _] = blocks("python")
    test: dict[str, Any] = {}
    exec(compile(code, "test_model.py", "exec"), test)  # noqa: S102 - the README's own
    monkeypatch.chdir(place)
    [name] = (name for name in test if name.startswith("test_"))
    test[name]()
    stale = place / "stale"
    stale.mkdir()
    for suffix in ("", ".toml"):
        shutil.copy(models / f"tiny_residual.keras{suffix}", stale / f"model.keras{suffix}")
    shutil.copytree(models / "three", stale / "images")
    (stale / "test_model.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_model.py"]
    failed = subprocess.run(command, cwd=stale, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "BN001 error: stale moving statistics" in failed.stdout
    assert "-> bnexport.recalibrate('model.keras', " in failed.stdout


def test_the_script_gets_its_results(place: Path) -> None:
    """The loop in the README prints a line for each check."""
    [_, code] = blocks("python")
    (place / "script.py").write_text(code)
    ran = subprocess.run([sys.executable, "script.py"], cwd=place, capture_output=True, text=True, check=False)
    assert ran.stdout == "model.keras | images pass {'correct': 3, 'of': 3}\n", ran.stderr


def test_the_github_job_runs(place: Path) -> None:
    """Its bnexport steps exit with 0 in order and leave what the last step uploads."""
    steps = recipe("jobs")["jobs"]["bnexport"]["steps"]
    commands = [step["run"].split() for step in steps if step.get("run", "").startswith("bnexport ")]
    assert len(commands) == 2
    for command in commands:
        ended = done(command[1:], place)
        assert ended.returncode == 0, ended.stderr
    for pattern in steps[-1]["with"]["path"].split():
        assert list(place.glob(pattern)), pattern


def test_the_container_asks_for_cuda(place: Path) -> None:
    """The image's and the initContainer's commands verify the bundle: exit code 3 where CUDA does not run, so that the pod does not start."""
    [text] = blocks("dockerfile")
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    assert lines["ENTRYPOINT"] == '["bnexport"]'
    image = yaml.safe_load(lines["CMD"])
    [container] = recipe("kind")["spec"]["initContainers"]
    for arguments in (image, container["args"]):
        ended = done([str(a).replace("/bundle", "bundle") for a in arguments], place)
        assert ended.returncode == (3 if cuda_missing() else 0), ended.stderr


def test_the_plan_is_one(place: Path) -> None:
    """The plan in the README can be read, and asks for each model on each set with each of its options."""
    [text] = blocks("toml")
    room = place / "batch"
    (room / "zoo").mkdir(parents=True)
    (room / "old/older").mkdir(parents=True)
    shutil.copy(place / "model.keras", room / "zoo/a.keras")
    shutil.copy(place / "model.keras", room / "old/older/b.h5")
    shutil.copytree(place / "images", room / "sets/one")
    (room / "plan.toml").write_text(text)
    shown = done(["batch", "plan.toml", "--dry-run"], room)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 4


def test_the_commit_hook_passes(place: Path) -> None:
    """What pre-commit would run exits with 0 on a bundle that is right."""
    [repository] = recipe("repos")["repos"]
    [hook] = repository["hooks"]
    assert done(hook["entry"].split()[1:], place).returncode == 0


def test_pictures_and_links_are_there() -> None:
    """Each file that the README points to is in the repository."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).is_file(), target
