"""Tables of numbers, .csv, .tsv or .parquet: the columns are the inputs of a model, one row for each item.

A model with one input (N, K) takes all K columns in their order. A model with an input for each column takes them by name. A column
called label (or labels, class) that is not an input holds the classes, as names or numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from bnexport.datasets.arrays.fit import Dtypes, is_text, shape_text
from bnexport.datasets.npz import Shape
from bnexport.errors import InputError, MachineError, reason
from bnexport.system import files
from bnexport.types import Array

SUFFIXES = (".csv", ".tsv", ".parquet")

LABELS = ("label", "labels", "class")

MOST_BYTES = 1 << 30
"""The largest text table that is read."""

Column: TypeAlias = list[str] | Array
"""The cells of a column as text, or numbers as a Parquet file has them."""

_WHOLE = re.compile(r"[+-]?\d{1,18}")


def read_table(path: Path, shapes: Mapping[str, Shape], dtypes: Dtypes) -> dict[str, Array]:
    """The columns as arrays by the name of the input, `labels` among them where there are labels.

    Args:
        path: the file.
        shapes: the shape of each input of the model.
        dtypes: what each input takes.

    Raises:
        InputError: it cannot be read, a cell is no number, or the columns do not fit the model.
        MachineError: it is Parquet, and pyarrow is missing.
    """
    columns = _parquet(path) if path.suffix.lower() == ".parquet" else _text(path)
    if not columns or not all(len(cells) for cells in columns.values()):
        raise InputError(f"{path} has no rows", expected="a row of column names, and a row for each item")
    arrays: dict[str, Array] = {}
    label = next((name for name in columns if name.lower() in LABELS and name not in shapes), None)
    if label is not None:
        arrays["labels"] = _labels(path, label, columns.pop(label))
    if set(shapes) <= set(columns):
        return arrays | {
            name: _shape_column(path, name, _values(path, name, columns[name], dtypes.get(name)), shape)
            for name, shape in shapes.items()
        }
    if len(shapes) > 1:
        missing = next(name for name in shapes if name not in columns)
        raise InputError(
            f"{path} has no column for the input {missing}",
            found=f"the columns {', '.join(columns)}"[:200],
            expected=", ".join(shapes),
        )
    [(name, shape)] = shapes.items()
    table = np.stack([_values(path, column, cells, dtypes.get(name)) for column, cells in columns.items()], axis=1)
    if len(shape) > 1 and shape[1] not in (None, table.shape[1]):
        raise InputError(
            f"{path} has other columns than the input {name} of the model",
            found=f"{table.shape[1]} columns ({', '.join(columns)})"[:200],
            expected=f"{shape[1]}, from the shape {shape_text(shape)}",
            fix="remove the other columns, or call the column of classes label",
        )
    return arrays | {name: table.reshape(len(table), *(table.shape[1:] if len(shape) != 1 else ()))}


def _shape_column(path: Path, name: str, values: Array, shape: Shape) -> Array:
    """One column as an input takes it: (N,), or one value on each of its axes."""
    if any(side not in (None, 1) for side in shape[1:]):
        raise InputError(
            f"the input {name} of the model takes more than one value of each row of {path}",
            found="one column",
            expected=f"an input of shape {shape_text(shape)}",
        )
    return values.reshape(len(values), *(1 for _ in shape[1:]))


def _values(path: Path, name: str, cells: Column, wanted: np.dtype[np.generic] | None) -> Array:
    """The cells of a column as an input takes them.

    Raises:
        InputError: a cell is missing, or is not a number.
    """
    if is_text(wanted):
        return np.array(cells if isinstance(cells, list) else [str(cell) for cell in cells.tolist()], np.str_)
    if isinstance(cells, list):
        if all(_WHOLE.fullmatch(cell) for cell in cells):
            values: Array = np.array([int(cell) for cell in cells], np.int64)
        else:
            values = np.array([_number(path, name, row, cell) for row, cell in enumerate(cells)], np.float64)
    else:
        values = cells
    if values.dtype.kind not in "fiub":
        raise InputError(f"the column {name} of {path} is not numeric", found=str(values.dtype), expected="numbers")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise _missing(path, name, int(np.isnan(values).argmax()))
    return values.astype(wanted) if wanted is not None and wanted.kind == "f" else values


def _number(path: Path, name: str, row: int, cell: str) -> float:
    if not cell:
        raise _missing(path, name, row)
    try:
        return float(cell.replace("_", "?"))  # Python's own spelling of 1_000 is no number elsewhere
    except ValueError as error:
        raise InputError(
            f"the column {name} of {path} is not numeric",
            found=f"text in row {row + 1}",
            expected="numbers; text only in a column called as a text input",
        ) from error


def _missing(path: Path, name: str, row: int) -> InputError:
    return InputError(
        f"the column {name} of {path} has a missing value",
        found=f"nothing in row {row + 1}",
        expected="a number",
        fix="fill it as your program does before it calls the model, or remove the row",
    )


def _labels(path: Path, name: str, cells: Column) -> Array:
    if not isinstance(cells, list):
        return cells if cells.dtype.kind != "f" else _values(path, name, cells, None).astype(np.int64)
    if all(_WHOLE.fullmatch(cell) for cell in cells if cell):
        return np.array([int(cell) if cell else -1 for cell in cells], np.int64)
    return np.array(cells, np.str_)


def _text(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV or TSV file by name, as text."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        content = files.read_bounded(path, MOST_BYTES).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter) if row]
    except FileNotFoundError as error:
        raise InputError(f"the file {path} does not exist", fix="check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({reason(error)})", expected="a table in UTF-8") from error
    names = [cell.strip() for cell in rows[0]] if rows else []
    _refuse_unnamed(path, names)
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise InputError(
                f"row {number} of {path} has another number of cells than its first line",
                found=str(len(row)),
                expected=str(len(names)),
            )
    return {name: [row[column].strip() for row in rows[1:]] for column, name in enumerate(names)}


def _refuse_unnamed(path: Path, names: Sequence[str]) -> None:
    numbers = [name for name in names if re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", name, re.IGNORECASE)]
    twice = next((name for row, name in enumerate(names) if name in names[:row]), None)
    if not names or "" in names or numbers or twice:
        raise InputError(
            f"the first line of {path} does not name the columns",
            found=f"{twice} twice" if twice else f"the number {numbers[0]}" if numbers else "an empty name",
            expected="a name for each column",
        )


def _parquet(path: Path) -> dict[str, Column]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MachineError(
            "reading a Parquet table requires pyarrow", fix="install it with: pip install 'bnexport[parquet]'"
        ) from error
    columns: dict[str, Column] = {}
    try:
        with files.open_regular(path) as stream:
            table = parquet.read_table(stream)
        for name in table.column_names:
            column = table.column(name)
            if column.null_count:
                raise _missing(path, name, column.is_null().to_pylist().index(True))
            kind = column.type
            if arrow.types.is_dictionary(kind):
                kind = kind.value_type
            text = arrow.types.is_string(kind) or arrow.types.is_large_string(kind)
            columns[name] = [str(cell) for cell in column.to_pylist()] if text else np.asarray(column)
    except FileNotFoundError as error:
        raise InputError(f"the file {path} does not exist", fix="check the path") from error
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} ({reason(error)})") from error
    return columns
