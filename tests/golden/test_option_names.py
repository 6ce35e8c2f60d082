"""Options have one name in help and messages; the names of earlier releases keep working wherever an option can be set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bnexport.batch import plan
from bnexport.cli import app, settings
from bnexport.errors import UsageError
from bnexport.results.option_names import FORMER_NAMES

GROUP: Any = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)
PAIRS = [
    (command, name, former)
    for command in COMMANDS
    for name, former in FORMER_NAMES.items()
    if any(f"--{name}" in param.opts for param in GROUP.commands[command].params)
]
"""Each renamed option of each command, with both of its names."""

VALUES = {
    "--arrays": "data.npz",
    "--aspect": "crop",
    "--color-mode": "rgb",
    "--deployed": "file.onnx",
    "--interpolation": "pil-box",
    "--isolate-memory": "8GiB",
    "--isolate-timeout": "30",
    "--normalize": "unit",
    "--output-dir": "results",
    "--require-target": "onnxruntime:cpu",
    "--target": "onnxruntime:cpu",
    "--temp-dir": "temporary",
    "--validation-data": "images",
}
"""A value for each renamed option that takes one."""

ARGUMENTS = {
    "check": ["model.onnx"],
    "pack": ["model.onnx", "-o", "bundle"],
    "reduce": ["model.onnx", "-o", "part"],
    "recalibrate": ["model.onnx", "images", "-o", "out.onnx"],
    "verify": ["bundle"],
    "batch": ["plan.toml"],
    "train": ["images", "-o", "out.h5"],
    "export": ["model.h5", "-o", "out.onnx"],
    "fold": ["model.onnx", "-o", "out.onnx"],
    "doctor": [],
}


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env=environment)


def parse(command: str, *options: str) -> dict[str, Any]:
    context = GROUP.commands[command].make_context(command, [*ARGUMENTS[command], *options])
    parameters: dict[str, Any] = context.params
    return parameters


def spell(name: str, value: str | None) -> list[str]:
    return [f"--{name}"] if value is None else [f"--{name}", value]


def test_every_former_name_belongs_to_an_option() -> None:
    """No entry of the table is dead."""
    assert {name for _, name, _ in PAIRS} == set(FORMER_NAMES)


@pytest.mark.parametrize(("command", "name", "former"), PAIRS)
def test_both_names_set_the_same_option(command: str, name: str, former: str) -> None:
    """Typed by either name an option has the same value; typed by both, the error names both."""
    value = VALUES.get(f"--{name}")
    new, old = parse(command, *spell(name, value)), parse(command, *spell(former, value))
    assert new == old != parse(command)
    both = run(command, *ARGUMENTS[command], *spell(name, value), *spell(former, value))
    assert both.exit_code == 2
    assert f"--{name} and --{former} are two names of the same option" in both.stderr


@pytest.mark.parametrize(("command", "name", "former"), PAIRS)
def test_help_shows_the_new_name_only(command: str, name: str, former: str) -> None:
    """A former name is accepted, but nobody learns it from the help."""
    words = run(command, "--help", COLUMNS="500").stdout.split()
    assert f"--{name}" in words
    assert f"--{former}" not in words


@pytest.mark.parametrize("form", ["file", "environment"])
def test_settings_accept_both_names(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a variable set an option by either name; config shows the new name, and in JSON the former one beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("normalize", "scaling"):
        if form == "file":
            (tmp_path / "bnexport.toml").write_text(f'{name} = "unit"\n')
            shown = run("config", "check").stdout, run("config", "check", "--format", "json").stdout
        else:
            variables = {f"BNEXPORT_{name.upper()}": "unit"}
            shown = (
                run("config", "check", **variables).stdout,
                run("config", "check", "--format=json", **variables).stdout,
            )
        assert "--normalize" in shown[0]
        assert "--scaling" not in shown[0]
        values = {entry["option"]: entry["value"] for entry in json.loads(shown[1])["settings"]}
        assert values["normalize"] == values["scaling"] == "unit"


def test_variables_of_both_names_are_refused() -> None:
    """Two variables for one option are a usage error that names both."""
    refused = run("config", BNEXPORT_SCALING="unit", BNEXPORT_NORMALIZE="none")
    assert refused.exit_code == 2
    assert "BNEXPORT_SCALING" in refused.stderr
    assert "BNEXPORT_NORMALIZE" in refused.stderr


def test_a_typed_former_name_overrides_a_setting(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed wins, also where the file has the new name and the command line the former one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bnexport.toml").write_text('color-mode = "rgba"\n')
    arguments = ("check", models / "tiny_residual.onnx", models / "three", "-q")
    assert run(*arguments).exit_code == 2
    assert run(*arguments, "--channels", "1").exit_code == 1


def test_a_note_about_a_variable_knows_former_names() -> None:
    """A variable of a former name sets an option, so there is no note about it."""
    options = settings.list_options(typer.Context(GROUP))
    assert settings.describe_unknown_variables(options, {"BNEXPORT_INPUTS": "x", "BNEXPORT_ARRAYS": "x"}) == []
    [note] = settings.describe_unknown_variables(options, {"BNEXPORT_INPUT": "x"})
    assert "sets no option" in note
    [note] = settings.describe_unknown_variables(options, {"BNEXPORT_SACLING": "x"})
    assert note.endswith("did you mean BNEXPORT_NORMALIZE (formerly BNEXPORT_SCALING)?")


def test_plans_accept_both_names(tmp_path: Path) -> None:
    """A plan with former keys and options asks for the same checks as one with the new names."""
    (tmp_path / "a.onnx").touch()
    (tmp_path / "x.npz").touch()
    checks = []
    for text in (
        'results = "r"\n[[check]]\nmodels = ["a.onnx"]\ninputs = ["x.npz"]\nonnx = "{model}.onnx"\n'
        'options = {name = "n", layers = true, provider = ["cpu"], require = ["cuda"]}',
        'output-dir = "r"\n[[check]]\nmodels = ["a.onnx"]\narrays = ["x.npz"]\ndeployed = "{model}.onnx"\n'
        'options = {name = "n", layerwise = true, target = ["cpu"], require-target = ["cuda"]}',
    ):
        (tmp_path / "plan.toml").write_text(text)
        read = plan.read(tmp_path / "plan.toml")
        assert read.output_dir == "r"
        checks.append(plan.checks(read, tmp_path))
    assert checks[0] == checks[1]
    assert checks[0][0].needs_cuda


BOTH: dict[str, tuple[str, str]] = {
    "the folder": ('results = "r"\noutput-dir = "r"\n[[check]]\nmodels = []', "results and output-dir"),
    "the data": ('[[check]]\nmodels = ["a.onnx"]\ninputs = []\narrays = []', "inputs and arrays"),
    "an option": (
        '[[check]]\nmodels = ["a.onnx"]\narrays = ["a.onnx"]\noptions = {scaling = "unit", normalize = "unit"}',
        "scaling and normalize",
    ),
}


@pytest.mark.parametrize("case", BOTH)
def test_a_plan_with_both_names_is_refused(case: str, tmp_path: Path) -> None:
    """A key or an option that is given twice under two names is a usage error that names both."""
    text, names = BOTH[case]
    (tmp_path / "a.onnx").touch()
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(UsageError, match=names):
        plan.checks(plan.read(tmp_path / "plan.toml"), tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_in_panels(command: str) -> None:
    """Every option but --help is in a panel, and every parameter has a sentence of help."""
    for param in GROUP.commands[command].params:
        if not getattr(param, "hidden", False):
            assert param.help, param.name
            assert param.help.endswith("."), param.help
            if param.param_type_name == "option" and command not in ("config",):
                assert param.rich_help_panel, param.name


def test_the_panels_of_check() -> None:
    """The help of check is in this order."""
    titles = [line.removesuffix(":") for line in run("check", "--help").stdout.splitlines() if line.endswith(":")]
    assert [title for title in titles if not title.startswith(" ")] == [
        "Arguments",
        "Data",
        "Model",
        "Preprocessing",
        "Targets",
        "Tolerances",
        "Output",
        "Isolation",
        "Options",
    ]


def test_summaries_fit_into_80_columns() -> None:
    """The list of commands shows each summary whole."""
    lines = run("--help", COLUMNS="80").stdout.splitlines()
    commands = lines[lines.index("Commands:") + 1 :]
    commands = commands[: commands.index("")]
    assert [line.split()[0] for line in commands] == list(GROUP.commands)
    assert all(len(line) <= 80 and line.endswith(".") and not line.endswith("...") for line in commands)


def test_sizes_have_one_notation() -> None:
    """Every option for a size takes 500MB and 8GiB; a plain number means what it did before."""
    from bnexport.results.option_values import parse_size

    assert parse_size("500", unit=1_000_000, least=0) == parse_size("500MB") == 500_000_000
    assert parse_size("0", unit=1_000_000, least=0) == 0
    assert parse_size("8GiB", unit=1_000_000) == 8 << 30
    assert parse_size("1073741824") == 1 << 30
    for wrong in ("0", "-1", "much", "8XB"):
        with pytest.raises(UsageError):
            parse_size(wrong)


def test_targets_and_providers() -> None:
    """--target takes a runtime with a device, and the values that --provider had."""
    from bnexport.results.target_names import parse_providers, parse_required_targets, parse_targets

    for names in (parse_targets, parse_providers):
        assert names(["onnxruntime", "onnxruntime:cpu", "onnxruntime:cuda"]) == names(["auto", "cpu", "cuda"])
    for wrong in ("tpu", "onnxruntime:tpu", "openvino:cpu", ""):
        with pytest.raises(UsageError, match="--target"):
            parse_providers([wrong])
    with pytest.raises(UsageError, match="--require-target"):
        parse_required_targets(["onnxruntime"])
