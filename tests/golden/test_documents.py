"""Every block of code in README and docs/ is run on small models, or says why not and is parsed.

A block that cannot run here has the line `<!-- not run: REASON -->` above it. `bash` blocks hold bnexport's own commands, whose exit
code is 0 or the one in the comment `# exit code N`. `console` blocks hold commands behind `$` with what they print, where a line of
three dots stands for any lines.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from bnexport.cli import app
from bnexport.runtimes.ort_library import cuda_missing
from tests.golden.documents import BLOCKS, PAGES, ROOT, Block, indented

pytestmark = pytest.mark.keras

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
DATA = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
CONTINUED = re.compile(r"\\\n\s*")


def run(words: list[str]) -> Any:
    """One command in this process, which imports TensorFlow once."""
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """What the examples call their files: models that are right, one that is not, images, arrays and a bundle."""
    from onnxconverter_common import float16
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(models, folder / "models")
    shutil.copytree(models / "three", folder / "images")
    for suffix in ("", ".toml"):
        shutil.copy(models / f"tiny_residual.keras{suffix}", folder / f"stale.keras{suffix}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ["recalibrate", "stale.keras", "images", "-o", "model.keras", "-q"],
            ["export", "model.keras", "-o", "model.onnx", "-q"],
            ["pack", "model.keras", "images", "-o", "bundle", "-q"],
        ):
            done = run(words)
            assert done.exit_code == 0, done.output
    shutil.copy(folder / "model.onnx", folder / "deployed.onnx")
    small = onnx.load(folder / "model.onnx")
    half = float16.convert_float_to_float16(small, keep_io_types=True, disable_shape_infer=True, max_finite_val=6e4)
    onnx.save(half, folder / "float16.onnx")
    quantize_dynamic(folder / "model.onnx", folder / "int8.onnx", weight_type=QuantType.QUInt8)
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }'
    )
    for name in ("net.onnx", "float32.onnx", "other.onnx"):
        onnx.save(net, folder / name)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    np.savez(folder / "data.npz", x=x)
    np.savez(folder / "outputs.npz", y=np.maximum(x, 0))
    (folder / "plan.toml").write_text('[[check]]\nmodels = ["*.keras"]\nimages = ["images"]\n')
    return folder


@pytest.fixture
def scratch(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is prepared, as the current folder."""
    shutil.copytree(prepared, tmp_path / "scratch")
    monkeypatch.chdir(tmp_path / "scratch")
    return tmp_path / "scratch"


def commands(text: str) -> Iterator[tuple[list[str], int]]:
    """The words and the exit code of each of bnexport's commands in a shell's text."""
    for line in CONTINUED.sub(" ", text).splitlines():
        code = re.search(r"# exit code (\d+)$", line)
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["bnexport"]:
                yield words[1:], int(code[1]) if code else 0


def parse(words: list[str]) -> None:
    """The command and its options exist, and their values can be read."""
    if words == ["--install-completion"]:
        return
    command = COMMANDS[words[0]]
    assert command.make_context(words[0], list(words[1:]), resilient_parsing=True) is not None
    options = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]} | {
        "--help"
    }
    used = {word.split("=")[0] for word in words[1:] if re.match(r"-{1,2}[a-zA-Z]", word)}
    assert used <= options, used - options


def same(expected: str, printed: str) -> bool:
    """Whether a command printed what a document shows; a line of three dots stands for any lines."""
    pattern = "".join(
        "(?:.*\n)*?" if line == "..." else re.escape(line.rstrip()) + " *\n" for line in expected.splitlines()
    )
    return re.fullmatch(pattern, printed) is not None


RUN = [block for block in BLOCKS if not block.reason]


@pytest.mark.parametrize("block", [b for b in RUN if b.language == "bash"], ids=str)
def test_commands_run(block: Block, scratch: Path) -> None:
    """Each line is a command of bnexport, which ends with the exit code that is stated."""
    assert scratch.is_dir()
    lines = [line for line in CONTINUED.sub(" ", block.text).splitlines() if line.strip() and not line.startswith("#")]
    assert all(line.startswith("bnexport ") for line in lines), "a block of other commands says why it is not run"
    for words, code in commands(block.text):
        done = run(words)
        assert done.exit_code == code, (words, done.output)


@pytest.mark.parametrize("block", [b for b in RUN if b.language == "console"], ids=str)
def test_commands_print_what_is_shown(block: Block, scratch: Path) -> None:
    """The output of each command is the one in the document."""
    assert scratch.is_dir()
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, expected = part.split("\n", 1)
        [(words, _)] = commands(line)
        printed = run([*words, "--quiet"]).stdout
        assert same(expected, printed), printed


@pytest.mark.parametrize("block", [b for b in RUN if b.language == "python"], ids=str)
def test_python_runs(block: Block, scratch: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The code runs, its tests pass, and the loop in the guide to batches prints a line for each check."""
    from bnexport.exporter import registry

    assert scratch.is_dir()
    names: dict[str, Any] = {"__name__": "example"}
    custom = dict(registry.CUSTOM)
    try:
        exec(compile(block.text, str(block), "exec"), names)  # noqa: S102 - the documents' own
        for name, value in list(names.items()):
            if name.startswith("test_"):
                value()
        if "iter_checks" in block.text:
            assert "model.keras | images pass {'correct': 3, 'of': 3}\n" in capfd.readouterr().out
        if "MyRuntime" in names:
            from bnexport.runtimes.protocols import Artifact, Want

            with names["MyRuntime"]().open(Artifact("onnx", Path("net.onnx").read_bytes()), Want()) as session:
                assert session.run({"x": -np.ones((1, 4), np.float32)})["y"].tolist() == [[0, 0, 0, 0]]
    finally:
        registry.CUSTOM.clear()
        registry.CUSTOM.update(custom)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_is_run_or_parsed(block: Block) -> None:
    """A language that is run or is data, or a reason; commands exist with their options, and code compiles."""
    if block.language in {"bash", "sh", "console"}:
        text = (
            re.sub(r"^(?!\$ ).*\n", "", block.text, flags=re.M).replace("$ ", "")
            if block.language == "console"
            else block.text
        )
        parsed = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, parsed.stderr
        for words, _ in commands(text):
            parse(words)
    elif block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language in DATA:
        assert DATA[block.language](block.text)
        for line in re.findall(r"^ *- (?:run: |entry: )?(bnexport .*)$", block.text, re.M):
            parse(shlex.split(line)[1:])
    elif block.language == "dockerfile":
        assert {line.split(" ", 1)[0] for line in block.text.splitlines()} <= {
            "FROM",
            "RUN",
            "COPY",
            "ENTRYPOINT",
            "CMD",
        }
    elif block.language != "text":
        assert block.reason, f"{block.language} is neither run nor parsed"
        outside = re.sub(r"\"[^\"\n]*\"|'[^'\n]*'|`[^`\n]*`", "", block.text)
        assert outside.count("{") == outside.count("}")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_code_is_in_fences(path: Path) -> None:
    """No block of code is hidden in an indentation, which no test would see."""
    assert not indented(path)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a language in a page."""
    return [block.text for block in BLOCKS if block.page == page and block.language == language]


def recipe(page: str) -> Any:
    """The YAML block of a page."""
    [text] = blocks(page, "yaml")
    return yaml.safe_load(text)


def test_the_pytest_recipe_fails_on_a_stale_model(scratch: Path) -> None:
    """The test in the README, which passes on a model that is right, fails on a stale one with the finding and the call that repairs it."""
    [code] = blocks("README.md", "python")
    assert code == blocks("docs/how-to/python.md", "python")[0]
    for suffix in ("", ".toml"):
        shutil.copy(scratch / f"stale.keras{suffix}", scratch / f"model.keras{suffix}")
    test: dict[str, Any] = {}
    exec(compile(code, "test_model.py", "exec"), test)  # noqa: S102 - the README's own
    [name] = (name for name in test if name.startswith("test_"))
    with pytest.raises(AssertionError) as failed:
        test[name]()
    assert "BN001 error: stale moving statistics" in str(failed.value)
    assert "-> bnexport.recalibrate('model.keras', " in str(failed.value)


def test_the_github_job_runs(scratch: Path) -> None:
    """Its bnexport steps exit with 0 in order and leave what the last step uploads."""
    shutil.rmtree(scratch / "bundle")
    steps = recipe("docs/how-to/github-actions.md")["jobs"]["bnexport"]["steps"]
    steps_of_ours = [step["run"].split() for step in steps if step.get("run", "").startswith("bnexport ")]
    assert len(steps_of_ours) == 2
    for words in steps_of_ours:
        done = run(words[1:])
        assert done.exit_code == 0, done.output
    for pattern in steps[-1]["with"]["path"].split():
        assert list(scratch.glob(pattern)), pattern
    [readme] = blocks("README.md", "yaml")
    [step] = [
        step["run"]
        for step in yaml.safe_load(readme)["jobs"]["bnexport"]["steps"]
        if "bnexport check" in step.get("run", "")
    ]
    assert " ".join(steps_of_ours[0]).startswith(step)


def test_the_gitlab_job_runs() -> None:
    """Its commands are those of the GitHub job, but for the format of the output."""
    steps = recipe("docs/how-to/github-actions.md")["jobs"]["bnexport"]["steps"]
    ours = [step["run"].replace(" --format github", "") for step in steps if "run" in step]
    job = recipe("docs/how-to/gitlab-ci.md")["model"]
    assert job["script"] == ours
    assert all(any(name in line for line in ours) for name in job["artifacts"]["paths"])


def test_the_container_asks_for_cuda(scratch: Path) -> None:
    """The image's and the initContainer's commands verify the bundle: exit code 3 where CUDA does not run, so that the pod does not start."""
    assert scratch.is_dir()
    [text] = blocks("docs/how-to/docker.md", "dockerfile")
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    assert lines["ENTRYPOINT"] == '["bnexport"]'
    image = yaml.safe_load(lines["CMD"])
    [container] = recipe("docs/how-to/kubernetes.md")["spec"]["initContainers"]
    for arguments in (image, container["args"]):
        done = run([str(argument).replace("/bundle", "bundle") for argument in arguments])
        assert done.exit_code == (3 if cuda_missing() else 0), done.output


def test_the_plan_is_one(scratch: Path) -> None:
    """The plan in the guide can be read, and asks for each model on each set with each of its options."""
    [text] = blocks("docs/how-to/batch.md", "toml")
    for name in ("zoo/a.keras", "old/older/b.h5"):
        (scratch / name).parent.mkdir(parents=True)
        shutil.copy(scratch / "model.keras", scratch / name)
    shutil.copytree(scratch / "images", scratch / "sets/one")
    (scratch / "plan.toml").write_text(text)
    done = run(["batch", "plan.toml", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 4


def test_the_commit_hook_passes(scratch: Path) -> None:
    """What pre-commit would run exits with 0 on a bundle that is right."""
    assert scratch.is_dir()
    [repository] = recipe("docs/how-to/pre-commit.md")["repos"]
    [hook] = repository["hooks"]
    assert run(hook["entry"].split()[1:]).exit_code == 0
