"""A plan: models x image sets x options, in TOML.

    output-dir = "results"                    the folder for the results; paths are relative to the plan's folder
    jobs = 2                                  how many checks at a time; as many as there are CPU threads where it does not say
    timeout = 600                             seconds for one check

    [[check]]
    models = ["zoo/*.keras", "old/**/*.h5"]   globs, or names
    images = ["sets/*"]                       folders, manifests, shards or URLs; or arrays = ["data/*.npz"]
    deployed = "{model}.onnx"                 the deployed file, {model} for the model's path without its suffix; "" for none
    options = {normalize = "unit", layerwise = true}
    # or several: each model on each set with each of them
    # options = [{name = "cpu", target = ["onnxruntime:cpu"]}, {name = "gpu", require-target = ["onnxruntime:cuda"]}]

Options are those of `bnexport check` without their dashes; `name` is what reports call them. Former names of keys and options are accepted.
"""

from __future__ import annotations

import glob
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from bnexport.comparison.options import CheckOptions
from bnexport.errors import InputError, UsageError
from bnexport.results.option_names import current_name, former_names
from bnexport.results.options import flags, read_options
from bnexport.system import files
from bnexport.system.suggestions import suggest

Options = dict[str, Any]

_OWN = {"deployed", "arrays", "allow-custom-code", "weights"}
"""Options that a plan has keys for, that must be typed, or that belong to a model that is no file."""

_ISOLATE = "isolate"
"""Each check of a batch is isolated; where a plan says so, its images must lie in the folder that it names, too."""

_SETTABLE = {flag.name for flag in flags(CheckOptions)} - _OWN | {_ISOLATE}

_FORMER_KEYS = {"results": "output-dir", "output_dir": "output-dir"}
_FORMER_ENTRY_KEYS = {"inputs": "arrays", "onnx": "deployed"}
"""Keys of a plan and of its [[check]] as earlier releases wrote them, and what they are called now."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[check]] of a plan."""

    models: list[str]
    images: list[str] = []
    arrays: list[str] = []
    deployed: str = ""
    options: Options | list[Options] = {}


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole plan."""

    check: list[Entry]
    output_dir: str = msgspec.field(default="results", name="output-dir")
    jobs: int = 0
    timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a plan.

    Args:
        name: by which reports distinguish it, and from one run to the next.
        model: the model.
        images: a path or URL, as `bnexport check` takes it; "" where there are arrays.
        arrays: the arrays; None where there are images.
        deployed: the deployed file; None for none.
        labels: the table of labels; None for none.
        options: how it is checked.
        arguments: the same as `bnexport check` takes them, as reports show them.
    """

    name: str
    model: Path
    images: str
    arrays: Path | None
    deployed: Path | None
    labels: Path | None
    options: CheckOptions
    arguments: tuple[str, ...]

    @property
    def keras(self) -> bool:
        """Whether it may need Keras; an ONNX file alone does not."""
        try:
            return files.model_format(self.model) != files.Format.ONNX
        except InputError:
            return True  # the check says what is wrong with it

    @property
    def needs_cuda(self) -> bool:
        """Whether it requires a CUDA device."""
        return "cuda" in self.options.require

    @property
    def command(self) -> list[str]:
        """The arguments of `bnexport` that would run it."""
        given = [] if self.images else ["--arrays", str(self.arrays)]
        named = {"--deployed": self.deployed, "--labels": self.labels}
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
        raise InputError(f"the plan {path} does not exist", fix="see bnexport batch --help for the format") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"cannot read {path} ({error})") from error
    return parse(values, str(path))


def parse(values: Mapping[str, object], named: str) -> Plan:
    """A plan of plain values.

    Args:
        values: what the TOML file holds.
        named: by which errors tell it.

    Raises:
        UsageError: it is no plan.
    """
    try:
        plan = msgspec.convert(_with_current_keys(values, named), Plan)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{named} is not a valid plan ({error})", fix="see bnexport batch --help for the format"
        ) from error
    if not plan.check:
        raise UsageError(f"{named} is not a plan", found="no [[check]] table")
    if plan.jobs < 0:
        raise UsageError(f"{named}: jobs must be 0 or more", found=f"{plan.jobs}")
    return plan


def _with_current_keys(values: Mapping[str, object], named: str) -> dict[str, object]:
    """A plan's values under the names that its keys have now."""
    renamed = _rename(values, _FORMER_KEYS, Plan.__struct_encode_fields__, named)
    entries = renamed.get("check")
    if isinstance(entries, list):
        renamed["check"] = [
            _rename(entry, _FORMER_ENTRY_KEYS, Entry.__struct_fields__, named) if isinstance(entry, Mapping) else entry
            for entry in entries
        ]
    return renamed


def _rename(values: Mapping[str, object], names: Mapping[str, str], accepted: Sequence[str], named: str) -> Options:
    renamed: Options = {}
    given: dict[str, str] = {}
    for key, value in values.items():
        name = names.get(key, key)
        if name not in accepted:
            keys, fix = ", ".join(accepted), suggest(key, accepted, names)
            raise UsageError(f"{named} is not a valid plan", found=f"the key {key}", expected=keys, fix=fix)
        if name in given:
            raise UsageError(f"{named}: {given[name]} and {key} are two names of the same key", fix="set one of them")
        given[name], renamed[name] = key, value
    return renamed


def checks(plan: Plan, folder: Path) -> list[Check]:
    """Every check of a plan, in its order.

    Args:
        plan: the plan.
        folder: from where its paths are seen.

    Raises:
        UsageError: a glob finds nothing, there is no check, an option is unknown, or two checks are the same.
    """
    planned = [check for entry in plan.check for check in _of(entry, folder)]
    if not planned:
        raise UsageError(
            "the plan has no check",
            found="an entry without models",
            fix="add models, for example models = ['zoo/*.keras']",
        )
    [(most, times)] = Counter(check.name for check in planned).most_common(1)
    if times > 1:
        raise UsageError(
            f"the plan contains the check {most} twice", fix="give its options a name, or remove one of them"
        )
    return planned


def _of(entry: Entry, folder: Path) -> Iterator[Check]:
    if bool(entry.images) == bool(entry.arrays):
        raise UsageError("each [[check]] requires either images or arrays", found="both" if entry.images else "none")
    models = [Path(name) for name in _matching(entry.models, folder)]
    sets = _matching(entry.images or entry.arrays, folder)
    variants = entry.options if isinstance(entry.options, list) else [entry.options]
    for model in models:
        for data in sets:
            for options in variants or [{}]:
                values = _values(options)
                architecture = folder / str(values.get("architecture", ""))
                if architecture.is_file():  # otherwise it is the name of a network
                    values["architecture"] = str(architecture)
                how = _options(values)
                labels = values.pop("labels", "")
                arguments = tuple(_arguments(values))
                variant = str(options.get("name", "")) or " ".join(
                    _arguments({k: v for k, v in options.items() if k != "name"})
                )
                parts = [_short(str(model), folder), _short(data, folder), variant]
                deployed = entry.deployed.replace("{model}", str(model.with_suffix("")))
                yield Check(
                    name=" | ".join(part for part in parts if part),
                    model=model,
                    images=data if entry.images else "",
                    arrays=Path(data) if entry.arrays else None,
                    deployed=folder / deployed if deployed else None,
                    labels=folder / str(labels) if labels else None,
                    options=how,
                    arguments=arguments,
                )


def _matching(patterns: Sequence[str], folder: Path) -> list[str]:
    paths: dict[str, None] = {}
    for pattern in patterns:
        if "://" in pattern or ".." in pattern.partition("{")[2]:  # a URL; shards {0000..0099} are one set
            paths[pattern if "://" in pattern else str(folder / pattern)] = None
            continue
        names = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
        here = [str(folder / name) for name in sorted(names)]
        if not here:
            raise UsageError(f"no file matches {pattern} in {folder}")
        paths |= dict.fromkeys(here)
    return list(paths)


def _short(path: str, folder: Path) -> str:
    return path.removeprefix(f"{folder.as_posix().rstrip('/')}/")


def _values(options: Mapping[str, object]) -> dict[str, object]:
    """Options by the names that they have now; the name of the variant, which only a plan has, is left out."""
    values: dict[str, object] = {}
    given: dict[str, str] = {}
    for key, value in options.items():
        if key == "name":
            continue
        option = current_name(key)
        if option not in _SETTABLE:
            names = sorted(_SETTABLE)
            fix = "" if option in _OWN else suggest(option, names, former_names(names, str))
            raise UsageError(f"a plan cannot set {key}", expected=", ".join(names), fix=fix)
        if option in given:
            raise UsageError(
                f"the plan: {given[option]} and {key} are two names of the same option", fix="set one of them"
            )
        given[option], values[option] = key, value
    return values


def _options(values: Mapping[str, object]) -> CheckOptions:
    """The options of a check.

    Raises:
        UsageError: a value is not usable.
    """
    written = dict(values)
    isolated = written.pop(_ISOLATE, False)
    if not isinstance(isolated, bool):
        raise UsageError(f"a plan sets {_ISOLATE} to {isolated!r}", expected="true or false")
    return replace(read_options(CheckOptions, written), local=isolated)


def _arguments(values: Mapping[str, object]) -> Iterator[str]:
    """Options as arguments of the command line."""
    for option, value in values.items():
        if value is True:
            yield f"--{option}"
        elif value is not False:
            for each in value if isinstance(value, list) else [value]:
                yield f"--{option}={each}"
