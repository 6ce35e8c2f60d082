"""Options are fields of records: flags, keywords and keys of plans come from them."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import typer

import bnexport
from bnexport.batch import plan
from bnexport.cli import app
from bnexport.comparison.options import CheckOptions
from bnexport.demo.options import TrainingKeywords, TrainingOptions
from bnexport.errors import UsageError
from bnexport.recalibration.options import RecalibrationOptions
from bnexport.results.options import flags, keywords_of, read_options
from bnexport.results.overrides import Overrides
from bnexport.results.preprocessing import Scaling

GROUP: Any = typer.main.get_command(app)

FUNCTIONS = [(bnexport.check, CheckOptions), (bnexport.recalibrate, RecalibrationOptions)]


@pytest.mark.parametrize(("function", "record"), FUNCTIONS)
def test_the_keywords_of_a_function_are_the_fields_of_its_record(function: Any, record: Any) -> None:
    """With the same defaults; None stands for an empty record or table."""
    keywords = inspect.signature(function).parameters
    for one in fields(record):
        default = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
        expected = keywords[one.name].default
        assert expected == default or (expected is None and default in ({}, Overrides())), one.name


def test_the_keywords_of_training_are_the_fields_of_its_record() -> None:
    """They are written down once more, for type checkers."""
    described = {one.name: one.type for one in fields(TrainingOptions)}
    assert described == {name: hint.__forward_arg__ for name, hint in TrainingKeywords.__annotations__.items()}


@pytest.mark.parametrize(
    ("command", "record"), [("check", CheckOptions), ("recalibrate", RecalibrationOptions), ("train", TrainingOptions)]
)
def test_a_command_has_every_flag_of_its_record(command: str, record: Any) -> None:
    """With its help and its default."""
    options = {spelling: param for param in GROUP.commands[command].params for spelling in param.opts}
    for flag in flags(record):
        option = options[f"--{flag.name}"]
        assert (option.help, option.multiple) == (flag.help, flag.repeatable)
        assert option.default == (list(flag.default or ()) if flag.repeatable else flag.default)


def test_what_is_written_becomes_a_record() -> None:
    """As texts of a command line and as values of TOML; what is not written keeps its default."""
    written = {"shard": "2/8", "size": "197x224", "normalize": "unit", "rtol": ["1e-3", "logits=1e-4"], "batch-size": 4}
    options = read_options(CheckOptions, written)
    assert options.shard == (1, 8)
    assert options.overrides == Overrides(size=(197, 224), scaling=Scaling.UNIT)
    assert options.rtol == {"": 1e-3, "logits": 1e-4}
    assert (options.batch_size, options.targets, options.labels) == (4, (), None)
    assert read_options(CheckOptions, {"labels": "l.csv", "target": "cpu"}) == CheckOptions(
        labels=Path("l.csv"), targets=["onnxruntime:cpu"]
    )
    assert CheckOptions(**keywords_of(options)) == options


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"batch-size": 0}, "--batch-size is invalid (found 0, expected 1 or more)"),
        ({"batch-size": "many"}, "--batch-size is invalid"),
        ({"batch-size": [1, 2]}, "--batch-size has 2 values"),
        ({"normalize": "unity"}, "--normalize is invalid"),
        ({"layerwise": "yes"}, "--layerwise is invalid"),
        ({"rtol": "-1"}, "the tolerance is invalid"),
        ({"shard": "3/2"}, "--shard is invalid"),
    ],
)
def test_what_is_not_usable_is_a_usage_error(written: dict[str, Any], sentence: str) -> None:
    """One sentence, which names the option."""
    with pytest.raises(UsageError) as caught:
        read_options(CheckOptions, written)
    assert sentence.partition(" (")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"batch-size": 0}, "--batch-size is invalid"), ({"labels": ["a.csv", "b.csv"]}, "--labels has 2 values")],
)
def test_a_plan_is_refused_before_anything_runs(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    """A value that a check would refuse is refused with the plan."""
    (tmp_path / "a.onnx").touch()
    entry = {"models": ["a.onnx"], "images": ["a.onnx"], "options": options}
    with pytest.raises(UsageError, match=sentence):
        plan.checks(plan.parse({"check": [entry]}, "the plan"), tmp_path)


def test_an_isolated_check_of_a_plan_reads_only_what_it_names(tmp_path: Path) -> None:
    """Every check of a batch has its own process; `isolate` adds that images lie in the folder that is named."""
    (tmp_path / "a.onnx").touch()
    entry = {"models": ["a.onnx"], "images": ["a.onnx"], "options": [{"isolate": True}, {"name": "not"}]}
    there, not_there = plan.checks(plan.parse({"check": [entry]}, "the plan"), tmp_path)
    assert (there.options.local, not_there.options.local) == (True, False)
    assert "--isolate" in there.arguments
