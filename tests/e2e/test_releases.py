"""`verify --matrix`: the release in which an answer changes is found in few runs, with its cause, and nothing is said that was not seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import parser
from typer.testing import CliRunner, Result

from bnexport.bundles.verify import verify
from bnexport.cli import app
from bnexport.errors import MachineError, UsageError
from bnexport.reporting.json import SCHEMA
from bnexport.results.releases import ReleaseOutcome
from bnexport.system import environments, uv
from tests.wheels import numpy_wheel, runtime_wheel

pytestmark = [pytest.mark.usefixtures("index"), pytest.mark.slow]

GRAPH = """
<ir_version: 9, opset_import: ["": 18]>
g (float[n, 2] x) => (float[n, 2] y) <float half = {0.5}> {
    [shift] p = Add(x, half)
    [again] y = Add(p, half)
}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that adds 1, packed."""
    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(parser.parse_model(GRAPH), folder / "net.onnx")
    np.savez(folder / "x.npz", x=np.random.default_rng(0).random((6, 2), np.float32))
    done = run("pack", folder / "net.onnx", "--arrays", folder / "x.npz", "-o", folder / "bundle", "-q")
    assert done.exit_code == 0, done.output
    return folder / "bundle"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of releases 1.0 to 1.9: 1.1 cannot be installed, 1.4 not imported, from 1.6 to 1.8 it is wrong, 1.8 for another reason, 2.0 is for another machine."""
    folder = tmp_path_factory.mktemp("index")
    wheels = folder / "wheels"
    wheels.mkdir()
    numpy_wheel(wheels, folder / "numpy-here")
    for version in ("1.0", "1.2", "1.3", "1.5", "1.9"):
        runtime_wheel(wheels, version)
    runtime_wheel(wheels, "1.1", needs="no-such-package")
    runtime_wheel(wheels, "1.4", message="import")
    runtime_wheel(wheels, "1.6", broken=True)
    runtime_wheel(wheels, "1.7", broken=True)
    runtime_wheel(wheels, "1.8", broken="always")
    runtime_wheel(wheels, "2.0", tag="py3-none-win_arm64")
    runtime_wheel(wheels, "3.0rc1")
    (folder / "uv.toml").write_text(f'no-index = true\nfind-links = ["{wheels.as_posix()}"]\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CONFIG_FILE", str(folder / "uv.toml"))
        patch.setenv("UV_CACHE_DIR", str(folder / "uv"))
        patch.setenv("BNEXPORT_CACHE_DIR", str(folder / "cache"))
        patch.setattr(uv, "interpreters", lambda: [uv.OWN])  # looking for others takes a second
        patch.setattr("bnexport.checking.optimisations.OPTIMIZERS", ("ConvAddFusion", "Pad_Fusion", "GeluFusion"))
        yield wheels


@pytest.fixture
def no_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for causes, which starts a process for each optimisation that is tried."""
    monkeypatch.setattr("bnexport.bundles.release_causes.find_causes", lambda *_: {})


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def verified(bundle: Path, matrix: str, *more: str) -> tuple[Result, dict[str, Any]]:
    done = run("verify", bundle, "--matrix", matrix, "--format", "json", "-q", *more)
    assert done.exit_code in (0, 1), done.output
    values = json.loads(done.stdout)
    jsonschema.validate(values, json.loads(SCHEMA.read_text()))
    return done, values


def outcomes(values: dict[str, Any]) -> dict[str, str]:
    return {release["version"]: release["outcome"] for release in values["releases"]["releases"]}


def test_the_release_that_changed_the_answer_is_named_with_its_optimisation(bundle: Path) -> None:
    """In at most log2(n) + 2 runs, rounded up; what cannot be installed or imported is skipped with its reason."""
    done, values = verified(bundle, "onnxruntime==1.0..1.7")
    [finding] = values["findings"]
    assert (done.exit_code, finding["code"], finding["severity"]) == (1, "RT021", "error")
    assert (finding["evidence"]["before"], finding["evidence"]["after"]) == ("1.5", "1.6")
    assert finding["evidence"]["optimizers"] == ["Pad_Fusion"]
    assert "onnxruntime 1.6 is the first, of the" in finding["message"]
    assert "disabled_optimizers=['Pad_Fusion']" in finding["actions"][0]["reason"]
    assert values["releases"]["changes"] == [{"before": "1.5", "after": "1.6"}]
    assert values["releases"]["runs"] <= 5
    assert {side["id"] for side in values["sides"]} > {"onnx-inference@onnxruntime==1.6", "golden-inference"}
    assert "onnx-inference@cpu" not in {side["id"] for side in values["sides"]}, "the one that is installed is not run"


@pytest.mark.usefixtures("no_causes")
def test_the_newest_release_decides(bundle: Path, tmp_path: Path) -> None:
    """An upgrade to 1.9 is safe, exit code 0; that 1.8 was wrong is a warning. Releases for other machines and pre-releases are none.

    All reports show it. In JUnit a release on which the verdict does not depend is no failure.
    """
    files = [tmp_path / f"report{suffix}" for suffix in (".html", ".md", ".xml", ".json")]
    options = [word for file in files for word in ("--report", str(file))]
    done = run("verify", bundle, "--matrix", "onnxruntime==1.8..", "-qv", *options)
    assert done.exit_code == 0, done.output
    html, markdown, junit, values = (file.read_text() for file in files)
    assert "PASS" in done.stdout
    assert "the outputs of onnxruntime 1.9 agree with those" in done.stdout
    for text in (done.stdout, html, markdown.replace("\\", "")):
        sentence = "onnxruntime 1.9 is the first, of the 2 releases that were run, that is right: 1.8 is wrong by"
        assert sentence in " ".join(text.split())
        assert "1.8 and 1.9 differ" in text
    assert "<failure" not in junit
    [finding] = json.loads(values)["findings"]
    assert finding["severity"] == "warning"
    assert outcomes(json.loads(values)) == {"1.8": "wrong", "1.9": "right"}


def test_a_release_that_bnexport_cannot_use_does_not_refuse_the_model(bundle: Path, index: Path) -> None:
    """What a library raises that nobody expected says nothing about the model: the release is skipped."""
    runtime_wheel(index, "0.7", message="other interface")
    runtime_wheel(index, "0.8")
    _, values = verified(bundle, "onnxruntime==0.7..0.8")
    assert outcomes(values) == {"0.7": "skipped", "0.8": "right"}
    assert "bnexport cannot use this release" in values["releases"]["releases"][0]["reason"]


def test_ends_that_agree_say_nothing_about_what_is_between_them(bundle: Path) -> None:
    """Two runs, no finding, and a sentence."""
    done, values = verified(bundle, "onnxruntime==1.5..1.9")
    assert (done.exit_code, values["findings"], values["releases"]["runs"]) == (0, [], 2)
    assert "1.5 and 1.9 agree, both are right; the 3 between them were not run" in values["releases"]["described"]


def test_releases_that_are_named_are_all_run_and_all_judged(bundle: Path) -> None:
    """1.9 is right, and 1.8 was asked for, too: exit code 1. The one that cannot be imported says why.

    1.8 is wrong without optimisations, too: the first node that differs is named.
    """
    done, values = verified(bundle, "onnxruntime==1.4,1.8,1.9")
    assert done.exit_code == 1
    assert outcomes(values) == {"1.4": "skipped", "1.8": "wrong", "1.9": "right"}
    assert "the library is damaged" in values["releases"]["releases"][0]["reason"]
    [finding] = values["findings"]
    assert finding["severity"] == "error"
    assert finding["evidence"]["layer"] == "Add again"
    assert "the error begins at Add again: its inputs agree in both releases" in finding["message"]


def test_a_release_that_refuses_the_model_is_no_release_that_is_wrong(bundle: Path, index: Path) -> None:
    """Its own words are reported."""
    runtime_wheel(index, "0.9", message="refuse")
    try:
        done, values = verified(bundle, "onnxruntime==0.9..1.0")
    finally:
        (index / "onnxruntime-0.9-py3-none-any.whl").unlink()
    assert done.exit_code == 0
    assert outcomes(values) == {"0.9": "refused", "1.0": "right"}
    assert "official released onnx opset versions" in values["findings"][0]["message"]


def test_without_an_index_what_is_kept_goes_on_working(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And where nothing is kept, or uv is missing, there is one sentence and exit code 3."""
    verified(bundle, "onnxruntime==1.9")
    broken = tmp_path / "uv.toml"
    broken.write_text('index-url = "http://127.0.0.1:9/simple"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(broken))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    _, values = verified(bundle, "onnxruntime==1.9..")
    assert outcomes(values) == {"1.9": "right"}
    assert "only the releases whose environments are kept are known" in values["releases"]["note"]
    done = run("verify", bundle, "--matrix", "onnxruntime==7.0..", "-q")
    assert done.exit_code == 3
    assert "uv cannot list the releases of onnxruntime" in done.output
    monkeypatch.setattr(uv, "find_uv", no_uv)
    done = run("verify", bundle, "--matrix", "onnxruntime==7.0..", "-q")
    assert (done.exit_code, done.output.count("\n")) == (3, 1)
    assert "pip install 'bnexport[matrix]'" in done.output


def no_uv() -> str:
    raise MachineError("uv is not installed", fix="install it with: pip install 'bnexport[matrix]'")


def test_what_cannot_be_run_is_one_sentence(bundle: Path) -> None:
    """A package without a runtime, a range without releases, a runtime of other files: exit code 2; releases that do not run: 3."""
    with pytest.raises(UsageError, match="brings no runtime"):
        verify(bundle, matrix="numpy==1..")
    with pytest.raises(UsageError, match="executes no ONNX files"):
        verify(bundle, matrix="ai-edge-litert==2..")
    with pytest.raises(UsageError, match="no release of onnxruntime"):
        verify(bundle, matrix="onnxruntime==7..")
    with pytest.raises(UsageError, match="--matrix-all"):
        verify(bundle, matrix_all=True)
    with pytest.raises(
        MachineError, match=r"no release of onnxruntime .* runs on this machine: found 1\.1: .*no-such-package"
    ):
        verify(bundle, matrix="onnxruntime==1.1")


def test_environments_are_whole_or_not_there(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once make one; one whose interpreter is gone is made again; `bnexport cache` lists and removes them all."""
    monkeypatch.setenv("BNEXPORT_CACHE_DIR", str(index / "other"))
    wanted = environments.environment_of("onnxruntime", "1.0", ("numpy",), uv.OWN)
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(environments.make(wanted))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert [path.name for path in environments.folder().iterdir()] == [wanted.name]
    made[0].unlink()
    assert list(environments.kept()) == []
    assert environments.make(wanted) == made[0]
    with pytest.raises(MachineError, match="no-such-package"):
        environments.make(environments.environment_of("onnxruntime", "1.1", ("numpy",), uv.OWN))
    assert [path.name for path in environments.folder().iterdir()] == [wanted.name]
    assert "onnxruntime 1.0, Python" in run("cache").stdout
    assert "1 environments removed" in run("cache", "clear").stdout
    assert not environments.folder().exists()


def test_ctrl_c_leaves_nothing_half_made(bundle: Path, tmp_path: Path) -> None:
    """The command ends with exit code 130, and no environment is left that is not whole."""
    environment = {**os.environ, "BNEXPORT_CACHE_DIR": str(tmp_path / "cache")}
    command = [
        sys.executable,
        "-m",
        "bnexport",
        "verify",
        str(bundle),
        "--matrix",
        "onnxruntime==1.0..",
        "--matrix-all",
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    folder = tmp_path / "cache" / environments.FOLDER
    deadline = time.monotonic() + 60
    while not (folder.exists() and any(folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert all((path / environments.RECORD).exists() for path in folder.iterdir())


def test_outcomes_are_those_of_the_schema() -> None:
    """A new one needs a place there."""
    allowed = json.loads(SCHEMA.read_text())["properties"]["releases"]["properties"]["releases"]["items"]
    assert allowed["properties"]["outcome"]["enum"] == [str(outcome) for outcome in ReleaseOutcome]
