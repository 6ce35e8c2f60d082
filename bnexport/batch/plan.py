"""A plan: models x image sets x options, in TOML.

    results = "results"                       where the results go; paths are seen from the plan's folder
    jobs = 2                                  how many checks at a time; as many as there are CPU threads where it does not say
    timeout = 600                             seconds for one check

    [[check]]
    models = ["zoo/*.keras", "old/**/*.h5"]   globs, or names
    images = ["sets/*"]                       folders, manifests, shards or URLs; or inputs = ["data/*.npz"]
    onnx = "{model}.onnx"                     the deployed file, {model} for the model's path without its suffix; "" for none
    options = {scaling = "unit", layers = true}
    # or several: each model on each set with each of them
    # options = [{name = "cpu", provider = ["cpu"]}, {name = "gpu", require = ["cuda"]}]

Options are those of `bnexport check` without their dashes; `name` is what reports call them.
"""

from __future__ import annotations

import glob
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bnexport.errors import InputError, UsageError
from bnexport.system import files

Options = dict[str, Any]

_OWN = {
    "format",
    "report",
    "quiet",
    "allow-remote",
    "time-limit",
    "onnx",
    "inputs",
    "trust",
    "import",
    "no-cache",
    "null",
    "memory-limit",
    "mlflow",
    "mlflow-uri",
    "mlflow-experiment",
}
"""Options that the batch sets itself, or that must be typed."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[check]] of a plan."""

    models: list[str]
    images: list[str] = []
    inputs: list[str] = []
    onnx: str = ""
    options: Options | list[Options] = {}


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole plan."""

    check: list[Entry]
    results: str = "results"
    jobs: int = 0
    timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a plan.

    Args:
        name: by which it is told apart in reports, and from one run to the next.
        model: the model.
        images: a path or URL, as `bnexport check` takes it; "" where there are arrays.
        inputs: the arrays; None where there are images.
        onnx: the deployed file; None for none.
        labels: the table of labels; None for none.
        arguments: the options as `bnexport check` takes them.
    """

    name: str
    model: Path
    images: str
    inputs: Path | None
    onnx: Path | None
    labels: Path | None
    arguments: tuple[str, ...]

    @property
    def keras(self) -> bool:
        """Whether it may need Keras; an ONNX file alone does not."""
        try:
            return files.model_format(self.model) != files.Format.ONNX
        except InputError:
            return True  # the check says what is wrong with it

    @property
    def command(self) -> list[str]:
        """The arguments of `bnexport` that run it."""
        given = [] if self.images else ["--inputs", str(self.inputs)]
        named = {"--onnx": self.onnx, "--labels": self.labels}
        beside = [part for option, path in named.items() if path for part in (option, str(path))]
        positional = ["--", str(self.model), *([self.images] if self.images else [])]  # none of them is an option
        return ["check", *given, *beside, *self.arguments, *positional]


def read(path: Path) -> Plan:
    """The plan in a file.

    Raises:
        InputError: it cannot be read.
        UsageError: it is no plan.
    """
    try:
        values = tomllib.loads(files.read_bounded(path, files.MOST_TEXT).decode())
    except FileNotFoundError as error:
        raise InputError(f"there is no plan {path}", fix="write one: see bnexport batch --help") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"cannot read {path} ({error})") from error
    return parsed(values, str(path))


def parsed(values: Mapping[str, Any], named: str) -> Plan:
    """A plan of plain values.

    Args:
        values: what the TOML file holds.
        named: by which errors tell it.

    Raises:
        UsageError: it is no plan.
    """
    try:
        plan = msgspec.convert(values, Plan)
    except msgspec.ValidationError as error:
        raise UsageError(f"{named} is not a plan ({error})", fix="see bnexport batch --help") from error
    if not plan.check:
        raise UsageError(f"{named} is not a plan", found="no [[check]]")
    if plan.jobs < 0:
        raise UsageError(f"{named}: jobs must be 0 or more", found=f"{plan.jobs}")
    return plan


def checks(plan: Plan, folder: Path, known: Sequence[str]) -> list[Check]:
    """Every check of a plan, in its order.

    Args:
        plan: the plan.
        folder: from where its paths are seen.
        known: the options of `bnexport check`, without their dashes.

    Raises:
        UsageError: a glob finds nothing, there is no check, an option is unknown, or two checks are the same.
    """
    found = [check for entry in plan.check for check in _of(entry, folder, known)]
    if not found:
        raise UsageError(
            "the plan has no check", found="an entry without models", fix="name some: models = ['zoo/*.keras']"
        )
    [(most, times)] = Counter(check.name for check in found).most_common(1)
    if times > 1:
        raise UsageError(f"the plan has the check {most} twice", fix="give its options a name, or leave one out")
    return found


def _of(entry: Entry, folder: Path, known: Sequence[str]) -> Iterator[Check]:
    if bool(entry.images) == bool(entry.inputs):
        raise UsageError("each [[check]] needs images or inputs", found="both" if entry.images else "none")
    models = [Path(name) for name in _matching(entry.models, folder)]
    sets = _matching(entry.images or entry.inputs, folder)
    variants = entry.options if isinstance(entry.options, list) else [entry.options]
    for model in models:
        for data in sets:
            for options in variants or [{}]:
                told = str(options.get("name", "")) or " ".join(_arguments(options, known))
                parts = [_short(str(model), folder), _short(data, folder), told]
                onnx = entry.onnx.replace("{model}", str(model.with_suffix("")))
                labels = options.get("labels")
                yield Check(
                    name=" | ".join(part for part in parts if part),
                    model=model,
                    images=data if entry.images else "",
                    inputs=Path(data) if entry.inputs else None,
                    onnx=folder / onnx if onnx else None,
                    labels=folder / str(labels) if labels else None,
                    arguments=tuple(_arguments({k: v for k, v in options.items() if k != "labels"}, known)),
                )


def _matching(patterns: Sequence[str], folder: Path) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        if "://" in pattern or ".." in pattern.partition("{")[2]:  # a URL; shards {0000..0099} are one set
            found[pattern if "://" in pattern else str(folder / pattern)] = None
            continue
        names = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
        here = [str(folder / name) for name in sorted(names)]
        if not here:
            raise UsageError(f"nothing matches {pattern} in {folder}")
        found |= dict.fromkeys(here)
    return list(found)


def _short(path: str, folder: Path) -> str:
    return path.removeprefix(f"{folder.as_posix().rstrip('/')}/")


def _arguments(options: Mapping[str, Any], known: Sequence[str]) -> Iterator[str]:
    for key, value in options.items():
        option = key.replace("_", "-")
        if option == "name":
            continue
        if option in _OWN or option not in known:
            raise UsageError(f"a plan cannot set {key}", expected=", ".join(sorted(set(known) - _OWN)))
        if value is True:
            yield f"--{option}"
        elif value is not False:
            for each in value if isinstance(value, list) else [value]:
                yield f"--{option}={each}"
