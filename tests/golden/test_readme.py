"""What README and docs/ name is there: commands, options, links, runtimes. `test_documents.py` runs their code."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bnexport.cli import app
from tests.golden.documents import PAGES, ROOT, WRITTEN

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


def test_every_command_that_is_named_exists() -> None:
    """Each `bnexport WORD` in the README and in CONTRIBUTING is a command, and each command is in the README."""
    import typer.main

    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        named = set(re.findall(r"`bnexport ([a-z]+)", text))
        assert named <= commands
    assert set(re.findall(r"`bnexport ([a-z]+)", README)) == commands


def test_every_option_that_is_named_exists() -> None:
    """Each --option in README and docs/ belongs to a command, or to a tool that is named beside it."""
    helped = "".join(
        CliRunner().invoke(app, [name, "--help"]).stdout
        for name in (
            "check",
            "export",
            "pack",
            "verify",
            "recalibrate",
            "demo",
            "train",
            "fold",
            "batch",
            "explain",
            "cache",
            "config",
        )
    )
    theirs = {"--load-outputs", "--onnxrt", "--gpus", "--no-cache-dir", "--install-completion", "--group"}
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) - theirs:
        assert option in helped, option


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pictures_and_links_are_there(path: Path) -> None:
    """Each file that a document points to is in the repository, or is written when the documentation is built."""
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            linked = (path.parent / target).resolve()
            assert linked.is_file() or (linked.parent.name, linked.name) in {("reference", name) for name in WRITTEN}, (
                target
            )


def test_the_readme_is_short() -> None:
    """A reader sees in two minutes what it is."""
    assert len(README.splitlines()) <= 130


def test_the_readme_has_what_is_registered() -> None:
    """Its table of references and runtimes is what `python scripts/write_matrix.py` writes."""
    written = runpy.run_path(str(ROOT / "scripts" / "write_matrix.py"))["written"]
    assert written(README) == README


def test_the_reference_is_written_without_a_framework(tmp_path: Path) -> None:
    """The pages that the build of the documentation writes name each command, code and public name, and cost no import of a framework."""
    code = f"""
import runpy, sys
from pathlib import Path
runpy.run_path({str(ROOT / "scripts" / "write_reference.py")!r})["write"](Path({str(tmp_path)!r}))
assert not {{"tensorflow", "keras", "torch", "onnxruntime"}} & set(sys.modules), sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    import typer.main

    import bnexport
    from bnexport.rules.catalogue import CATALOGUE

    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert set(written) == WRITTEN
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"## bnexport {name}\n" in written["commands.md"]
    for code in CATALOGUE:
        assert f"## {code}: " in written["findings.md"]
    for name in set(bnexport.__all__) - {"__version__"}:
        assert f":: bnexport.{name}\n" in written["python.md"]
