"""Commands of findings, with the names of the files a user gave filled in, so that they can be pasted as they are.

A rule does not know how files are called. It writes one of these placeholders, and `addressed` replaces them:

* `{model}`: the model;
* `{keras}`: the model, where it is one that `bnexport export` reads;
* `{data}`: the images or arrays with the options that say how they are read (`images/ --labels labels.csv`);
* `{check}`: what followed `bnexport check`;
* `{stem}`: the model's path without its suffix;
* `{recalibrated}`: where the recalibrated model would go.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bnexport.results.verdict import Action, Finding

EXPORT = "bnexport export {keras} -o {stem}.onnx"
RECALIBRATE = "bnexport recalibrate {model} {data} -o {recalibrated}"
CHECK = "bnexport check {check}"
DOCTOR = "bnexport doctor"

_PLACEHOLDER = re.compile(r"\{(model|keras|data|check|stem|recalibrated)\}")


def names(model: Path, data: Sequence[str], check: Sequence[str] = ()) -> dict[str, str]:
    """The value of every placeholder that is known.

    Args:
        model: the model as the user named it.
        data: the arguments that name the images or arrays; empty where no command can name them (standard input, a list
            of images in Python).
        check: further arguments of the check, such as `--onnx FILE`.

    >>> names(Path("a net.h5"), ["images"])["recalibrated"]
    "'a net-recalibrated.h5'"
    >>> "data" in names(Path("net.h5"), [])
    False
    """
    path, stem = _argument(model), str(model.with_suffix("")) if model.suffix else f"{model}"
    onnx = model.suffix == ".onnx"
    suffix = ".onnx" if onnx or not model.suffix else ".keras" if model.suffix == ".keras" else ".h5"
    values = {"model": path, "stem": _argument(stem), "recalibrated": _argument(f"{stem}-recalibrated{suffix}")}
    if not onnx:
        values["keras"] = path
    if data:
        values["data"] = " ".join(map(shlex.quote, data))
        values["check"] = " ".join([path, values["data"], *map(shlex.quote, check)])
    return values


def addressed(findings: Iterable[Finding], values: Mapping[str, str]) -> tuple[Finding, ...]:
    """The findings with every command filled in; a command that needs a name that is not known is left out."""
    return tuple(
        replace(finding, actions=tuple(_filled(action, values) for action in finding.actions)) for finding in findings
    )


def _filled(action: Action, values: Mapping[str, str]) -> Action:
    if action.command is None:
        return action
    if any(name not in values for name in _PLACEHOLDER.findall(action.command)):
        return replace(action, command=None)
    return replace(action, command=_PLACEHOLDER.sub(lambda match: values[match.group(1)], action.command))


def _argument(path: Path | str) -> str:
    """A path as one word of a shell command that is no option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
