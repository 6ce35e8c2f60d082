"""Commands whose parameters are records of options (`bnexport.results.options`): each flag of the record becomes an option of the command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Annotated, Any, get_args

import typer

from bnexport.results.options import Flag, flags, read_options


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which fields of a record a command has: `Annotated[CheckOptions, Chosen({"trust"})]`, `Annotated[CheckOptions, Chosen(without={"targets"})]`."""

    fields: Collection[str] | None = None
    without: Collection[str] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Other defaults of this command, by the names of flags."""


def with_options(command: Callable[..., int]) -> Callable[..., int]:
    """A command as typer takes it: parameters that are records are replaced by an option for each of their flags."""
    signature = inspect.signature(command, eval_str=True)
    records: dict[str, tuple[Any, list[Flag]]] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        record, chosen = _record(parameter.annotation)
        if record is None:
            parameters.append(parameter)
            continue
        of_record = flags(record, chosen.fields, chosen.without)
        records[name] = record, [replace(f, default=chosen.defaults.get(f.name, f.default)) for f in of_record]
        parameters += [_parameter(flag) for flag in records[name][1]]

    @functools.wraps(command)
    def run(**values: object) -> int:
        for name, (record, of_record) in records.items():
            written = {flag.name: values.pop(flag.parameter) for flag in of_record}
            values[name] = read_options(record, written)
        return command(**values)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _record(annotation: object) -> tuple[type | None, Chosen]:
    """The record of options in a parameter's annotation, and which of its fields are meant; None where it is something else."""
    parts: Sequence[Any] = (annotation, *get_args(annotation)) if hasattr(annotation, "__metadata__") else (annotation,)
    chosen = next((part for part in parts if isinstance(part, Chosen)), Chosen())
    record = next((part for part in parts if isinstance(part, type) and is_dataclass(part)), None)
    return (record, chosen) if record is not None and any(flags(record)) else (None, chosen)


def _parameter(flag: Flag) -> inspect.Parameter:
    info = typer.Option(
        *([f"-{flag.short}"] if flag.short else []),
        f"--{flag.name}",
        metavar=flag.metavar,
        min=flag.least,
        autocompletion=_completing(flag.choices) if flag.choices else None,
        rich_help_panel=flag.panel,
        help=flag.help,
    )
    kind = flag.kind if flag.unwritten is not None else flag.kind | None
    return inspect.Parameter(
        flag.parameter, inspect.Parameter.KEYWORD_ONLY, default=flag.unwritten, annotation=Annotated[kind, info]
    )


def _completing(choices: Sequence[str]) -> Callable[[], list[str]]:
    def complete() -> list[str]:
        return list(choices)

    return complete
