"""What is published: the workflows, the citation, the lock file and what the archives hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import bnexport

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GITHUB = ROOT / ".github"


def test_the_version_stands_in_one_file() -> None:
    """pyproject.toml reads it there; the citation and the newest entry of the changelog are of the same version, or of the next."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "bnexport/version.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == bnexport.__version__
    assert citation["license"] == PROJECT["project"]["license"]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", "workflows/*.yml"),
        ("vendor.dependabot", "dependabot.yml"),
        ("vendor.github-issue-forms", "ISSUE_TEMPLATE/[!c]*.yml"),
        ("vendor.github-issue-config", "ISSUE_TEMPLATE/config.yml"),
        ("vendor.citation-file-format", "../CITATION.cff"),
    ],
)
def test_files_for_github_are_valid(schema: str, files: str) -> None:
    """Against the schemas that GitHub's editors use."""
    paths = sorted(map(str, GITHUB.glob(files)))
    assert paths
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_workflows_are_safe() -> None:
    """Actions are pinned to hashes, tokens may do little, no expression is pasted into a shell: zizmor finds nothing."""
    command = [Path(sys.executable).parent / "zizmor", "--offline", "--no-progress", "--persona", "auditor", GITHUB]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_workflows_run_what_there_is() -> None:
    """Scripts, files of tests and extras that the workflows name exist; `run` lines hold together under bash."""
    extras = PROJECT["project"]["optional-dependencies"].keys()
    for path in GITHUB.glob("workflows/*.yml"):
        text = path.read_text()
        for name in re.findall(r"(?:scripts|tests)/[\w/.]+\w", text):
            assert (ROOT / name).exists(), name
        assert set(re.findall(r"\.\[(\w+)\]", text)) <= extras
        for job in yaml.safe_load(text)["jobs"].values():
            for step in job["steps"]:
                if "run" in step:
                    parsed = subprocess.run(
                        ["bash", "-n", "-c", step["run"]], capture_output=True, text=True, check=False
                    )
                    assert parsed.returncode == 0, parsed.stderr


def test_commit_hooks_run_commands_of_the_dev_extra() -> None:
    """Each hook's command is installed with bnexport[dev]."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        program = hook["entry"].split()[0]
        assert any(re.match(rf"{program}\b", need) for need in [*extra("dev"), *extra("test")]), program


def extra(name: str) -> list[str]:
    return PROJECT["project"]["optional-dependencies"][name]


def test_the_lock_file_is_of_these_dependencies() -> None:
    """uv.lock has each package that an extra or the project names, and files of the public registry only."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    own = next(package for package in lock["package"] if package["name"] == "bnexport")
    wanted = {
        "": PROJECT["project"]["dependencies"],
        **PROJECT["project"]["optional-dependencies"],
    }
    listed = {"": own["dependencies"], **own["optional-dependencies"]}
    assert listed.keys() == wanted.keys()
    for name, needs in wanted.items():
        names = {re.split(r"[\[<>=!~; ]", need, maxsplit=1)[0].lower().replace("_", "-") for need in needs} - {
            "bnexport"
        }
        assert names <= {package["name"] for package in listed[name]}, name
    hosts = set(re.findall(r"https://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_what_the_sdist_leaves_out() -> None:
    """Everything that git has is in the sdist or is listed here."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not in a repository")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    included = {name.strip("/") for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    tops = {name.split("/")[0] for name in listed if name}
    assert tops - included == {".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "pyproject.toml", "uv.lock"}
