"""Options as data: a record has a field for each, and the field says how it is spelled and read where people write it.

One record is the source of a function's keywords, a command's flags, a plan's keys and what a settings file may set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bnexport.errors import UsageError
from bnexport.system.suggestions import suggest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DATA = "Data"
MODEL = "Model"
PREPROCESSING = "Preprocessing"
TARGETS = "Targets"
TOLERANCES = "Tolerances"
OUTPUT = "Output"
CLUSTER = "Cluster"
ISOLATION = "Isolation"
"""The panels that group options in the help."""

R = TypeVar("R")

_FLAG, _RECORD = "flag", "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How an option is written.

    Args:
        name: without its dashes.
        help: a sentence or more.
        panel: where the help shows it.
        kind: what is written: str, int, float, bool, Path, an enumeration, or a list of one of them for a repeatable option.
        default: what holds where nothing is written, as it would be written; None for nothing.
        read: makes the value of the field of what is written, or of None.
        metavar: what the help shows in place of the value.
        short: its short form.
        least: the smallest number.
        choices: what a shell completes.
    """

    name: str
    help: str
    panel: str
    kind: Any = str
    default: Any = None
    read: Callable[[Any], Any] = lambda value: value
    metavar: str | None = None
    short: str = ""
    least: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """The name as an identifier."""
        name = self.name.replace("-", "_")
        return f"{name}s" if name == "import" else name

    @property
    def repeatable(self) -> bool:
        """Whether it may be written several times."""
        return getattr(self.kind, "__origin__", None) is list

    @property
    def unwritten(self) -> object:
        """What holds where nothing is written, as it would be written: a list of its own for a repeatable option."""
        return list(self.default or ()) if self.repeatable else self.default


def option(flag: Flag, default: object = None) -> Any:
    """A field of a record that is written as `flag`; its default is what is read where nothing is written.

    Args:
        flag: how it is written.
        default: the value of the field; only for values that `flag.read` does not make of `flag.default`.
    """
    value = default if default is not None else flag.read(flag.unwritten)
    if isinstance(value, dict | list):
        return field(default_factory=lambda: type(value)(value), metadata={_FLAG: flag})
    return field(default=value, metadata={_FLAG: flag})


def options_of(record: type[R]) -> R:
    """A field of a record that is a record of options itself."""
    return field(default_factory=record, metadata={_RECORD: record})


def flags(record: type, chosen: Collection[str] | None = None, without: Collection[str] = ()) -> Iterator[Flag]:
    """The flags of a record, in its order.

    Args:
        record: a class of options.
        chosen: the fields that are meant; None for all.
        without: fields that are not.
    """
    for one in fields(record):
        if (chosen is not None and one.name not in chosen) or one.name in without:
            continue
        if _FLAG in one.metadata:
            yield one.metadata[_FLAG]
        elif _RECORD in one.metadata:
            yield from flags(one.metadata[_RECORD])


def read_options(record: Callable[..., R], written: Mapping[str, object]) -> R:
    """A record of what was written.

    Args:
        record: a class of options.
        written: values by the names of flags; what is not among them keeps its default.

    Raises:
        UsageError: a value is invalid.
    """
    values: dict[str, object] = {}
    for one in fields(record):  # type: ignore[arg-type] # a class of options is a dataclass
        if _RECORD in one.metadata:
            values[one.name] = read_options(one.metadata[_RECORD], written)
        elif _FLAG in one.metadata and (flag := one.metadata[_FLAG]).name in written:
            values[one.name] = flag.read(_convert(flag, written[flag.name]))
    return record(**values)


def keywords_of(options: DataclassInstance) -> dict[str, Any]:
    """The fields of a record of options by name, as the keywords of the function that they are for."""
    return {one.name: getattr(options, one.name) for one in fields(options)}


def _convert(flag: Flag, value: object) -> object:
    """A value as the command line gives it: plans and scripts write numbers and names in their own way."""
    if value is None:
        return None
    if flag.repeatable:
        [kind] = flag.kind.__args__
        return [_one(flag, kind, entry) for entry in (value if isinstance(value, list | tuple) else [value])]
    if isinstance(value, list):
        raise UsageError(f"--{flag.name} has {len(value)} values", expected="one")
    return _one(flag, flag.kind, value)


def _one(flag: Flag, kind: Any, value: object) -> object:
    if kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"--{flag.name} is invalid", found=repr(value), expected="true or false")
        return value
    try:
        typed = kind(value if kind is Path else str(value))
    except ValueError as error:
        names = list(kind) if issubclass(kind, StrEnum) else []
        expected = ", ".join(names) or f"a value such as {kind(1)}"
        fix = suggest(str(value), names)
        raise UsageError(f"--{flag.name} is invalid", found=str(value), expected=expected, fix=fix) from error
    if flag.least is not None and not typed >= flag.least:
        raise UsageError(f"--{flag.name} is invalid", found=str(value), expected=f"{flag.least:g} or more")
    return typed
