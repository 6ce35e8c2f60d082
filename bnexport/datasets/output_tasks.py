"""The tables `[outputs.NAME]` of a sidecar: what each output of a model is for.

[outputs.detections]
kind = "boxes"                  classes, boxes, mask, embedding, sequence or values
layout = "cxcywh"               of boxes: xyxy, xywh or cxcywh; or all columns by name:
columns = ["cx", "cy", "w", "h", "scores"]
scores = "confidences"          of boxes: the outputs with their scores and classes
classes = "labels"
threshold = 0.25                of boxes: the score above which they count; of a mask with one channel: what is set
axis = 1                        of boxes or a mask: the axis of the columns or the classes, where the shape does not show it
unit = "kg"                     of values
end = 2                         of a sequence: the token that ends it
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from bnexport.errors import InputError
from bnexport.numerics.tasks.detections import LAYOUTS, column_problem
from bnexport.results.tasks import OutputKind, OutputTask
from bnexport.types import Nested

_KEYS: dict[OutputKind, set[str]] = {
    OutputKind.CLASSES: set(),
    OutputKind.BOXES: {"layout", "columns", "axis", "threshold", "scores", "classes"},
    OutputKind.MASK: {"axis", "threshold"},
    OutputKind.EMBEDDING: set(),
    OutputKind.SEQUENCE: {"end"},
    OutputKind.VALUES: {"unit"},
}
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "layout": ((str,), "a text"),
    "columns": ((list, tuple), "a list of names"),
    "axis": ((int,), "a whole number"),
    "threshold": ((int, float), "a number"),
    "scores": ((str,), "the name of an output"),
    "classes": ((str,), "the name of an output"),
    "unit": ((str,), "a text"),
    "end": ((int,), "a whole number"),
}


def read_tasks(tables: Nested, source: str) -> dict[str, OutputTask]:
    """What the outputs are for, by name, from plain values.

    Args:
        tables: the tables by the name of the output.
        source: where they come from, for errors.

    Raises:
        InputError: a table is not as this module's docstring says.
    """
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise InputError(f"{source} does not describe the outputs as tables", expected="[outputs.NAME] with a kind")
    return {str(name): _read_task(table, f"[outputs.{name}] of {source}") for name, table in tables.items()}


def _read_task(table: Mapping[str, Nested], where: str) -> OutputTask:
    kinds = ", ".join(OutputKind)
    if table.get("kind") not in list(OutputKind):
        raise InputError(f"{where} has no valid kind", found=repr(table.get("kind"))[:80], expected=kinds)
    kind = OutputKind(table["kind"])
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in _KEYS[kind]:
            raise InputError(
                f"{where} has the key {str(key)!r}, which the kind {kind} does not have",
                expected=", ".join(sorted(_KEYS[kind])) or "no other key than kind",
            )
        types, expected = _TYPES[key]
        if not isinstance(value, types) or isinstance(value, bool) or (isinstance(value, float) and math.isnan(value)):
            raise InputError(f"{where} has an invalid {key}", found=repr(value)[:80], expected=expected)
    values = {key: value for key, value in table.items() if key not in ("kind", "layout", "columns")}
    return OutputTask(kind, columns=_columns(table, where), **values)


def _columns(table: Mapping[str, Nested], where: str) -> tuple[str, ...]:
    layout, columns = table.get("layout"), table.get("columns")
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"{where} has an unknown layout", found=repr(layout)[:80], expected=", ".join(LAYOUTS))
    if columns is None:
        return LAYOUTS[layout] if layout else ()
    if layout is not None:
        raise InputError(
            f"{where} has both a layout and columns", fix="remove the layout: the names of the columns say it"
        )
    names = tuple(str(name) for name in columns)
    if problem := column_problem(names):
        raise InputError(
            f"{where} has columns that are no boxes",
            found=problem,
            expected=f"one of {', '.join(' '.join(names) for names in LAYOUTS.values())}, with score, class, image, - or, as the last one, scores",
        )
    return names


def as_values(tasks: Mapping[str, OutputTask]) -> dict[str, dict[str, object]]:
    """The inverse of `read_tasks`; what is not stated is left out."""
    return {
        name: {
            key: list(value) if isinstance(value, tuple) else str(value) if key == "kind" else value
            for key, value in asdict(task).items()
            if value not in (None, "", ())
        }
        for name, task in tasks.items()
    }
