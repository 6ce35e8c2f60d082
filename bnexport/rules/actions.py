"""Operations that rules advise, and the files of a check that `add_files` fills in, so that commands can be pasted as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bnexport.results.actions import Action, NamedOptions, Operation
from bnexport.results.verdict import Finding

EXPORT = Operation("export")
RECALIBRATE = Operation("recalibrate")
DOCTOR = Operation("doctor")
CHECK = "check"


def check_with(options: Mapping[str, object]) -> Operation:
    """The same check with other options."""
    return Operation(CHECK, options)


def option(keyword: str) -> NamedOptions:
    """An option that a reason names, without a value."""
    return NamedOptions({keyword: None})


@dataclass(frozen=True, slots=True)
class Names:
    """What the user called the files of a check.

    Args:
        model: the model; None where it has no file.
        data: the arguments that say what it is run on, and how that is read, by their keywords; empty where nothing can name
            it (standard input, a list of images, arrays in memory).
        check: further arguments of the check, such as `onnx`.
        graph: the deployed ONNX file; None where there is none.
        written: whether commands write such models. Others are repaired in `graph`.
    """

    model: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    graph: Path | None = None
    written: bool = True

    def arguments(self, operation: Operation) -> dict[str, object] | None:
        """All arguments of an operation; None where one of them has no name.

        >>> Names(Path("a net.h5"), {"data": "images"}).arguments(RECALIBRATE)["output"].name
        'a net-recalibrated.h5'
        >>> Names(Path("net.h5")).arguments(RECALIBRATE) is None
        True
        >>> Names(Path("nets:build"), {"data": "images"}, graph=Path("net.onnx"), written=False).arguments(RECALIBRATE)["output"].name
        'net-recalibrated.onnx'
        """
        if operation.name == DOCTOR.name:
            return {}
        if self.model is None:
            return None
        model = self.model if self.written or operation.name == CHECK else self.graph
        if model is None:
            return None
        onnx, stem = model.suffix == ".onnx", model.with_suffix("") if model.suffix else model
        if operation.name == EXPORT.name:
            which = {key: value for key, value in self.data.items() if key in ("signature", "architecture")}
            return None if onnx else {"model": model, "output": Path(f"{stem}.onnx"), **which}
        if not self.data:
            return None
        if operation.name == RECALIBRATE.name:
            suffix = model.suffix if onnx or model.suffix == ".keras" else ".h5"
            suffix = suffix if model.suffix else ".onnx"
            return {"model": model, **self.data, "output": Path(f"{stem}-recalibrated{suffix}")}
        same = {k: v for k, v in {**self.data, **self.check}.items() if k not in operation.arguments}
        return {"model": self.model, **same, **operation.arguments}


def add_files(findings: Iterable[Finding], names: Names) -> tuple[Finding, ...]:
    """The findings with every operation's arguments filled in; an operation that needs a name that there is not is left out."""
    return tuple(
        replace(finding, actions=tuple(_fill(action, names) for action in finding.actions)) for finding in findings
    )


def _fill(action: Action, names: Names) -> Action:
    if action.operation is None:
        return action
    arguments = names.arguments(action.operation)
    if arguments is None:
        return replace(action, command=None, operation=None)
    operation = replace(action.operation, arguments=arguments)
    return replace(action, command=operation.command, operation=operation)
