"""A plan is gone through once: what was finished stays, what changed is checked again, and nothing that one model does stops the others."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest
from typer.testing import CliRunner, Result

from bnexport.cli import app

PLAN = """
results = "out"
jobs = 2
[[check]]
models = ["models/*.onnx"]
images = ["sets/*"]
options = {provider = ["cpu"]}
"""


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def small(models: Path, folder: Path, count: int) -> None:
    """So many small models with content of their own."""
    folder.mkdir(exist_ok=True)
    for nth in range(count):
        model = onnx.load(models / "tiny_residual.onnx")
        model.doc_string = f"number {nth}"
        onnx.save(model, folder / f"m{nth:02d}.onnx")


@pytest.fixture
def place(models: Path, tmp_path: Path) -> Path:
    """Two models, two sets of images, and a plan."""
    small(models, tmp_path / "models", 2)
    for name in ("a", "b"):
        shutil.copytree(models / "three", tmp_path / "sets" / name)
    (tmp_path / "sets/b/disc.png").unlink()
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def results(place: Path) -> dict[str, dict[str, Any]]:
    """The results by name, without the times."""
    found = {}
    for path in (place / "out/checks").glob("[!.]*.json"):
        values = json.loads(path.read_text())
        del values["seconds"], values["finished"]
        for side in (values["report"] or {"sides": []})["sides"]:
            del side["seconds"]
        found[values["name"]] = values
    return found


def stamps(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (place / "out/checks").glob("[!.]*.json")}


def test_a_plan_is_models_times_sets_times_options(place: Path) -> None:
    """What would run is shown, nothing runs; names tell checks apart."""
    (place / "plan.toml").write_text(
        PLAN.replace("options = {", "options = [{name = 'one', batch-size = 1}, {").replace("}\n", "}]\n")
    )
    done = run("batch", place / "plan.toml", "--dry-run")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert "to run   models/m00.onnx | sets/a | one" in lines
    assert "to run   models/m00.onnx | sets/a | --provider=cpu" in lines
    assert not list((place / "out/checks").iterdir())


def test_what_is_finished_is_not_repeated_and_what_changed_is(place: Path, models: Path) -> None:
    """The second run repeats nothing; another model, image or option repeats just what it concerns; failures and repairs since the last run are told."""
    assert run("batch", place / "plan.toml", "-q").exit_code == 1
    first = stamps(place)
    assert len(first) == 4
    again = run("batch", place / "plan.toml", "-q")
    assert "4 fail of 4 checks; 0 run now" in again.stdout
    assert stamps(place) == first
    repaired = run("recalibrate", place / "models/m00.onnx", models / "three", "-o", place / "models/m00.onnx", "-q")
    assert repaired.exit_code == 0, repaired.output
    (place / "sets/b/more.png").write_bytes((models / "three/disc.png").read_bytes())
    third = run("batch", place / "plan.toml", "-q")
    assert "of 4 checks; 3 run now" in third.stdout
    assert "fixed: models/m00.onnx | sets/a" in third.stdout
    assert {name: values for name, values in stamps(place).items() if name in first} == first


def test_a_plan_says_everything(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and variables that set options of `bnexport check` do not reach the checks of a plan, whose results would change behind their keys."""
    assert run("batch", place / "plan.toml", "-q").exit_code == 1
    plain = results(place)
    shutil.rmtree(place / "out")
    monkeypatch.chdir(place)
    monkeypatch.setenv("BNEXPORT_RTOL", "1e9")
    (place / "bnexport.toml").write_text("[check]\nbatch-size = 1\nscaling = 'unit'\nreport = ['x.html']\n")
    assert run("batch", place / "plan.toml", "-q").exit_code == 1
    assert results(place) == plain
    assert not (place / "x.html").exists()


def test_one_bad_model_never_stops_the_rest(place: Path) -> None:
    """A file that is no model and a check that takes too long have no verdict: exit code 4, the others have theirs, and they are tried again."""
    (place / "models/bad.onnx").write_text("no model")
    done = run("batch", place / "plan.toml", "-q")
    assert done.exit_code == 4
    found = results(place)
    assert sorted(values["status"] for values in found.values()) == ["error", "error", *["fail"] * 4]
    assert "is not a valid ONNX model" in found["models/bad.onnx | sets/a | --provider=cpu"]["error"]
    assert "6 checks; 2 run now" in run("batch", place / "plan.toml", "-q").stdout
    shutil.rmtree(place / "out")
    (place / "models/bad.onnx").unlink()  # which may be refused in less time
    done = run("batch", place / "plan.toml", "-q", "--timeout", "0.01")
    assert done.exit_code == 4
    assert {values["status"] for values in results(place).values()} == {"timeout"}


def test_copies_of_a_model_have_results_of_their_own(place: Path) -> None:
    """The same file in two folders is two checks, each with its own name; braces in `onnx` that mean nothing stay as they are."""
    (place / "more").mkdir()
    shutil.copy(place / "models/m00.onnx", place / "more/m00.onnx")
    (place / "plan.toml").write_text(
        "results = 'out'\n[[check]]\nmodels = ['models/m00.onnx', 'more/m00.onnx']\nimages = ['sets/a']\n"
    )
    assert run("batch", place / "plan.toml", "-q").exit_code == 1
    assert sorted(results(place)) == ["models/m00.onnx | sets/a", "more/m00.onnx | sets/a"]
    with (place / "plan.toml").open("a") as stream:
        stream.write("onnx = '{net}.onnx'\n")
    assert (
        run("batch", place / "plan.toml", "-q").exit_code == 4
    )  # an ONNX file held against an ONNX file has no verdict


def test_every_summary_tells_the_same(place: Path) -> None:
    """NDJSON, JUnit, Markdown and HTML have each check once, in the plan's order; NDJSON on stdout as they come."""
    (place / "models/bad<b>.onnx").write_text("no model")
    done = run("batch", place / "plan.toml", "-q", "--format", "ndjson")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    kept = [json.loads(line) for line in (place / "out/summary.ndjson").read_text().splitlines()]
    assert sorted(t["name"] for t in told) == [k["name"] for k in kept]
    assert all(t["report"]["verdict"] == "fail" for t in told if t["status"] == "fail")
    suite = ElementTree.fromstring((place / "out/summary.xml").read_text())[0]  # noqa: S314 - our own
    assert [case.get("name") for case in suite.findall("testcase")] == [k["name"] for k in kept]
    assert (suite.get("failures"), suite.get("errors")) == ("4", "2")
    for name in ("summary.md", "summary.html"):
        text = (place / "out" / name).read_text()
        assert "<b>" not in text
        assert text.count("BN001") == 4


WRONG = {
    "no TOML": ("check = [", "cannot read"),
    "no check": ("jobs = 1", "is not a valid plan"),
    "an unknown key": ("[[check]]\nmodel = ['x']", "found the key model; expected models,"),
    "another type": ("[[check]]\nmodels = 'x'", "Expected `array`"),
    "nothing there": ("[[check]]\nmodels = ['nothing/*']\nimages = ['sets/a']", "no file matches nothing/*"),
    "images and inputs": ("[[check]]\nmodels = ['models/*']\nimages = ['sets/a']\ninputs = ['x']", "images or arrays"),
    "no model": ("[[check]]\nmodels = []\nimages = ['sets/a']", "has no check"),
    "an unknown option": (
        "[[check]]\nmodels = ['models/*']\nimages = ['sets/a']\noptions = {fast = true}",
        "cannot set fast",
    ),
    "an option that must be typed": (
        "[[check]]\nmodels = ['models/*']\nimages = ['sets/a']\noptions = {trust = true}",
        "cannot set trust",
    ),
    "a module": (
        "[[check]]\nmodels = ['models/*']\nimages = ['sets/a']\noptions = {import = 'os'}",
        "cannot set import",
    ),
    "a command of the shell": (
        "[[check]]\nmodels = ['models/*']\nimages = ['sets/a']\noptions = {install-completion = true}",
        "expected architecture, aspect, atol, batch-size, channel-order, color-mode, gpu-mem-limit, interpolation, isolate,",
    ),
    "a timeout without end": (
        "timeout = inf\n[[check]]\nmodels = ['models/*']\nimages = ['sets/a']",
        "the timeout of a check is invalid",
    ),
    "no path": ('results = "a\\u0000"\n[[check]]\nmodels = ["models/*"]\nimages = ["sets/a"]', "null byte"),
    "the same twice": ("[[check]]\nmodels = ['models/*']\nimages = ['sets/a']\noptions = [{}, {}]", "twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_plan_that_is_wrong_says_so(case: str, place: Path) -> None:
    """One sentence and exit code 2, before anything runs."""
    content, reason = WRONG[case]
    (place / "plan.toml").write_text(content)
    done = run("batch", place / "plan.toml", "-q")
    assert done.exit_code == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_killed_batch_goes_on_where_it_was(models: Path, tmp_path: Path) -> None:
    """12 models x 3 sets, kill -9 at five random moments, each after a few more checks: the results equal an uninterrupted run's but for times, and no finished check ran twice."""
    for name in ("killed", "whole"):
        place = tmp_path / name
        place.mkdir()
        small(models, place / "models", 12)
        for folder in ("a", "b", "c"):
            shutil.copytree(models / "three", place / "sets" / folder)
        (place / "plan.toml").write_text(PLAN)
    command = [sys.executable, "-m", "bnexport", "batch", "plan.toml", "-q"]
    rng = random.Random(0)  # noqa: S311 - to be repeated
    killed = tmp_path / "killed"
    known: dict[str, int] = {}
    for _ in range(5):
        child = subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL, start_new_session=True)
        enough = len(known) + rng.randint(1, 5)
        while len(stamps(killed)) < enough:
            assert child.poll() is None
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.3))
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        now = stamps(killed)
        assert {name: now[name] for name in known} == known
        known = now
    assert 0 < len(known) < 36
    assert subprocess.run(command, cwd=killed, capture_output=True, check=False).returncode == 1
    now = stamps(killed)
    assert {name: now[name] for name in known} == known
    assert subprocess.run(command, cwd=tmp_path / "whole", capture_output=True, check=False).returncode == 1
    ours, theirs = (json.dumps(results(tmp_path / name), sort_keys=True) for name in ("killed", "whole"))
    assert len(json.loads(ours)) == 36
    assert ours.replace(str(killed), "") == theirs.replace(str(tmp_path / "whole"), "")
