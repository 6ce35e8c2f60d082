"""Actions are data: what a rule advises can be pasted into a shell, and called in Python, and no rule spells a flag."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import bnexport
from bnexport.cli import app
from bnexport.errors import UsageError
from bnexport.results.actions import OVERRIDES, Action, NamedOptions, Operation, advise, flags
from bnexport.results.preprocessing import Order, Scaling
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.actions import DOCTOR, EXPORT, RECALIBRATE, Names, add_files, check_with

PACKAGE = Path(bnexport.__file__).parent
FLAG_OR_COMMAND = re.compile(r"--[a-z]|\bbnexport (?:check|export|recalibrate|fold|pack|verify|doctor|explain)\b")
FILES = [*sorted((PACKAGE / "rules").glob("*.py")), *sorted((PACKAGE / "numerics").glob("*.py"))]

NAMES = Names(
    Path("-a $net.h5"),
    {"data": "my images", "labels": Path("it's.csv"), "size": (32, 48), "order": Order.BGR, "scaling": Scaling.NONE},
    {"onnx": Path("net.onnx")},
)


def filled(operation: Operation, names: Names = NAMES) -> Action:
    """The one action of a finding, with the names of the files."""
    finding = Finding("XX001", Severity.INFO, "", actions=(advise("because", operation),))
    [action] = add_files([finding], names)[0].actions
    return action


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string outside of docstrings and of the explanations of a rule."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Rule":
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        yield from texts(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_rule_spells_a_flag_or_a_command(path: Path) -> None:
    """Messages, reasons and operations of rules and numerics hold keywords; flags are the command line's."""
    assert not [text for text in texts(ast.parse(path.read_text(encoding="utf-8"))) if FLAG_OR_COMMAND.search(text)]


@pytest.mark.parametrize("operation", [EXPORT, RECALIBRATE, DOCTOR, check_with({"scaling": "unit"})])
def test_an_operation_is_a_command_and_a_call(operation: Operation) -> None:
    """The words are those of the command's own options, whatever the files are called, and the call fits the function."""
    action = filled(operation)
    assert action.command is not None
    program, name, *words = shlex.split(action.command)
    assert (program, name) == ("bnexport", operation.name)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, list(words))
    given = {k: v for k, v in context.params.items() if context.get_parameter_source(k).name == "COMMANDLINE"}
    assert len(given) == len(action.operation.arguments if action.operation else ())
    calls: list[tuple[Any, ...]] = []

    def called(*args: Any, **keywords: Any) -> None:
        bound = inspect.signature(getattr(bnexport, name)).bind(*args, **keywords)
        calls.append(tuple(bound.arguments.values()))

    call = str(action).removesuffix(": because")
    eval(call, {"bnexport": SimpleNamespace(**{name: called}, Overrides=bnexport.Overrides)})  # noqa: S307 - our own
    assert len(calls) == 1
    assert "--" not in call


def test_the_commands_of_before() -> None:
    """A check's own options stay; one that the action gives another value is given once."""
    check = "bnexport check './-a $net.h5' 'my images' --labels 'it'\"'\"'s.csv' --size 32x48 --channel-order bgr"
    assert filled(check_with({"scaling": "unit"})).command == f"{check} --deployed net.onnx --normalize unit"
    assert filled(EXPORT).command == "bnexport export './-a $net.h5' -o './-a $net.onnx'"
    assert filled(RECALIBRATE).command == (
        check.replace("check", "recalibrate", 1) + " --normalize none -o './-a $net-recalibrated.h5'"
    )
    assert str(filled(check_with({"scaling": "unit"}), Names(Path("n.h5"), {"inputs": Path("x.npz")}))) == (
        "bnexport.check('n.h5', None, inputs='x.npz', overrides=bnexport.Overrides(scaling='unit')): because"
    )


@pytest.mark.parametrize("operation", [EXPORT, RECALIBRATE, check_with({})])
def test_an_operation_on_files_without_names_is_left_out(operation: Operation) -> None:
    """What was in memory only has no command; the reason stays."""
    action = filled(operation, Names())
    assert (action.command, action.operation, str(action)) == (None, None, "because")


def test_every_keyword_is_an_option_and_a_parameter() -> None:
    """Options that reasons of rules mention exist in `check`, as a flag and as a keyword or a field of Overrides."""
    mentioned = {"rtol", "layers", "onnx", "reference", "providers", "strict_placement", "max_slowdown", *OVERRIDES}
    source = "".join(path.read_text(encoding="utf-8") for path in FILES)
    assert set(re.findall(r'option\("(\w+)"\)|NamedOptions\(\{"(\w+)"', source)) <= {
        pair for keyword in mentioned for pair in ((keyword, ""), ("", keyword))
    }
    assert set(OVERRIDES) == {field.name for field in fields(bnexport.Overrides)}
    known = {flag for option in typer.main.get_command(app).commands["check"].params for flag in option.opts}  # type: ignore[attr-defined]
    for keyword in mentioned:
        assert set(flags({keyword: None})) <= known, keyword
        assert keyword in OVERRIDES or keyword in inspect.signature(bnexport.check).parameters


def test_a_reason_is_written_for_its_reader() -> None:
    """Flags on the command line and in JSON, keywords in `str`."""
    action = advise(("say it with ", NamedOptions({"size": None}), " and ", NamedOptions({"providers": ("cpu",)})))
    assert action.as_dict() == {"reason": "say it with --size and --target cpu", "command": None}
    assert str(action) == "say it with Overrides.size and providers=('cpu',)"


def test_overrides_take_names_of_kinds() -> None:
    """What `str` of an action writes can be called; a name that there is not ends in a sentence."""
    assert bnexport.Overrides(scaling="unit").scaling is Scaling.UNIT  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the value of scaling is invalid"):
        bnexport.Overrides(scaling="units")  # type: ignore[arg-type]
