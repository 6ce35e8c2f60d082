"""Options can be set in files and in the environment; what is typed wins, and what was set by what can be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bnexport.cli import app, settings


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env=environment)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder inside a project, where commands run."""
    inside = tmp_path / "project/inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    return inside


def told(*arguments: object, **environment: str) -> dict[tuple[str, str], tuple[object, str]]:
    done = run("config", "--format", "json", *arguments, **environment)
    assert done.exit_code == 0, done.output
    settings = json.loads(done.stdout)["settings"]
    return {(s["command"], s["option"]): (s["value"], s["origin"]) for s in settings}


def test_nothing_is_set_where_nothing_says_so(folder: Path) -> None:
    """Without files and variables every option has its default, and all of them can be seen."""
    assert folder.is_dir()
    assert told() == {}
    assert told("check")["check", "batch-size"] == (32, "default")


def test_the_nearest_file_counts_and_the_environment_goes_before_it(folder: Path) -> None:
    """pyproject.toml above, bnexport.toml beside, a variable before both; for all commands or for one."""
    above = folder.parent / "pyproject.toml"
    above.write_text(
        '[tool.other]\nx = 1\n[tool.bnexport]\nbatch-size = 4\n[tool.bnexport.check]\nrtol = ["logits=1e-3"]\n'
    )
    found = told()
    assert found["check", "batch-size"] == ("4", str(above))
    assert found["recalibrate", "batch-size"] == ("4", str(above))
    assert found["check", "rtol"] == (["logits=1e-3"], str(above))
    assert ("verify", "rtol") not in found
    beside = folder / "bnexport.toml"
    beside.write_text('batch-size = 8\n[verify]\nlabels = "x"\n'.replace('[verify]\nlabels = "x"\n', ""))
    assert told()["check", "batch-size"] == ("8", str(beside))
    assert ("check", "rtol") not in told()
    set_by_variable = told(BNEXPORT_BATCH_SIZE="16", BNEXPORT_PROVIDER="cpu cuda", BNEXPORT_QUIET="yes")
    assert set_by_variable["check", "batch-size"] == ("16", "environment BNEXPORT_BATCH_SIZE")
    assert set_by_variable["check", "provider"] == (["cpu", "cuda"], "environment BNEXPORT_PROVIDER")
    assert set_by_variable["check", "quiet"] == (True, "environment BNEXPORT_QUIET")


def test_settings_act_and_what_is_typed_wins(folder: Path, models: Path) -> None:
    """A check takes its format and its reports from the file, the report beside it; a flag overrides it."""
    (folder.parent / "bnexport.toml").write_text('quiet = true\n[check]\nformat = "json"\nlayers = false\n')
    arguments = ("check", models / "tiny_residual.onnx", models / "three")
    assert json.loads(run(*arguments).stdout)["schema_version"] == "1.0"
    assert run(*arguments).stderr == ""
    assert run(*arguments, "--format", "text").stdout.startswith("FAIL")
    (folder.parent / "bnexport.toml").write_text('[check]\nreport = ["told.json"]\n')
    run(*arguments, "-q")
    assert json.loads((folder.parent / "told.json").read_text())["verdict"] == "fail"


WRONG: dict[str, tuple[str, str]] = {
    "a misspelt option": ("bach-size = 4", "did you mean batch-size?"),
    "an option of another command": ("[verify]\nlayers = true", "sets layers, which is not an option of verify"),
    "a value for a command": ("check = 1", "expected a table [check]"),
    "no TOML": ("batch-size = ", "cannot read"),
    "a flag that is none": ('quiet = "perhaps"', "expected true or false"),
    "two values for one": ("batch-size = [1, 2]", "has 2 values"),
    "a table for a value": ("[check.rtol]\nlogits = 1", "rtol is a table"),
    "trust": ("trust = true", "set it on the command line or with BNEXPORT_ALLOW_CUSTOM_CODE"),
    "force": ("[recalibrate]\nforce = true", "sets force, which a file must not set"),
    "scratch": ("[recalibrate]\nscratch = '/tmp'", "sets scratch, which a file must not set"),
    "an address": ("[recalibrate]\naddress = 'host:1'", "sets address, which a file must not set"),
    "an engine": ("[batch]\nengine = 'ray'", "sets engine, which a file must not set"),
    "where to send": ("[check]\nmlflow-uri = 'http://host'", "sets mlflow-uri, which a file must not set"),
    "that reports are sent": ("[check]\nmlflow = true", "sets mlflow, which a file must not set"),
    "a limit": ("[check]\nmemory-limit = '1TB'", "sets memory-limit, which a file must not set"),
    "no cache": ("no-cache = true", "sets no-cache, which a file must not set"),
    "a report above": ("[check]\nreport = ['../package.json']", "outside of its own folder"),
    "an absolute output": ("[recalibrate]\noutput = '/tmp/stolen.onnx'", "outside of its own folder"),
    "a path with a null byte": ('[check]\nreport = ["a\\u0000.json"]', "report contains a null byte"),
    "two names of one option": ("[check]\nlayers = true\nlayerwise = true", "layers and layerwise are two names"),
    "code by its new name": ("allow-custom-code = true", "sets allow-custom-code, which a file must not set"),
    "an interpreter": ("[check]\npython = '/tmp/python'", "sets python, which a file must not set"),
    "an interpreter of a target": ("[check]\ntarget = ['x:python=/tmp/python']", "because it starts a program"),
    "a program as a target": (
        "[verify]\ntarget = ['command:./infer {inputs} {outputs}']",
        "because it starts a program",
    ),
    "a required program": ("require-target = ['command:./infer {inputs} {outputs}']", "because it starts a program"),
    "a package of a target": ("[check]\ntarget = ['web:package=node_modules']", "because it starts a program"),
    "a server as a target": ("target = ['https://host/v2/models/net']", "because it sends data to another machine"),
    "results through a link": ("[batch]\nresults = 'link/results'", "outside of its own folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_wrong_says_so(case: str, folder: Path, models: Path) -> None:
    """One sentence that names the file, and exit code 2, whatever the command."""
    content, reason = WRONG[case]
    (folder / "bnexport.toml").write_text(content)
    (folder / "link").symlink_to("/")
    for command in (("verify", models), ("config",)):
        done = run(*command)
        assert done.exit_code == 2
        assert reason in done.stderr
        assert "bnexport.toml" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    """Each shell is told the commands and options that a word may become."""

    def words(line: str) -> str:
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_TYPER_COMPLETE_ARGS": line}
        environment = {
            **os.environ,
            **asked,
            "_BNEXPORT_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        program = "import sys; sys.argv = ['bnexport']; from bnexport.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
        ).stdout

    assert "verify" in words("bnexport ver")
    assert "--require" in words("bnexport verify --re")


def test_every_path_that_a_file_may_set_is_an_input_or_kept_below_its_folder() -> None:
    """An option that names a file is read, or written below the settings' own folder, or not for files: a new one must be one of them."""
    group = typer.main.get_command(app)
    known = settings.list_options(typer.Context(group))
    paths = {
        n for options in known.values() for n, p in options.items() if p.type.name in ("path", "file", "directory")
    }
    read = {"arrays", "labels", "deployed", "recorded", "validation_data", "weights"}
    assert paths <= read | settings._OUTPUTS | set(settings._TYPED_ONLY)


def test_the_environment_may_say_what_a_file_may_not(folder: Path) -> None:
    """Variables are set by whoever runs the command."""
    assert folder.is_dir()
    found = told(BNEXPORT_FORCE="yes", BNEXPORT_REPORT="../above.json", BNEXPORT_MLFLOW="1")
    assert found["recalibrate", "force"][0] is True
    assert found["check", "report"][0] == ["../above.json"]
