"""A manifest: a table with a path or URL for each picture, and its label. CSV, TSV or Parquet.

The columns are called path (or file, image, filename, file_name, url) and label (or class). A CSV without such a first line has them in this order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from bnexport.datasets import places
from bnexport.datasets.decode import looks_like_a_picture
from bnexport.datasets.listing import Lister, Listing
from bnexport.errors import InputError, MachineError, reason

SUFFIXES = (".csv", ".tsv", ".parquet")

_PATH = ("path", "file", "image", "filename", "file_name", "url")
_LABEL = ("label", "class")


def is_manifest(location: str) -> bool:
    """Whether a path or URL ends like a manifest's."""
    return location.lower().endswith(SUFFIXES)


def read(location: str) -> Listing:
    """The pictures in a manifest, in its order.

    Raises:
        InputError: it cannot be read, or is none.
        MachineError: it is Parquet, and pyarrow is missing.
    """
    lister = Lister(places.parent(location))
    try:
        for name, label in _parquet(location) if location.lower().endswith(".parquet") else rows(location):
            lister.add(name, label)
    except OverflowError as error:
        raise InputError(f"the manifest {location} is too large") from error
    return lister.listing(numbers=True)


def rows(location: str, columns: int | None = None) -> Iterator[tuple[str, str]]:
    """The name and label of each line of a CSV or TSV; a line that names the columns is left out.

    Args:
        location: a path or URL.
        columns: how many there must be; None for one or two, or any number where the first line names them.

    Raises:
        InputError: it cannot be read, or a line has other columns.
    """
    delimiter = "\t" if location.lower().endswith(".tsv") else ","
    where: tuple[int, int | None] | None = None
    width = columns
    try:
        with places.open_stream(location) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
            for row in csv.reader(text, delimiter=delimiter):
                if not row:
                    continue
                if where is None:
                    head = _columns([cell.strip().lower() for cell in row])
                    where = head or (0, 1 if len(row) > 1 else None)
                    width = width or len(row)
                    if head is None and (width > 2 or not _names_a_picture(row[0].strip())):
                        raise _none(location, row)
                    if head is not None and len(row) == width:
                        continue
                if len(row) != width:
                    raise _none(location, row)
                yield row[where[0]].strip(), row[where[1]].strip() if where[1] is not None else ""
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {location} (it is not UTF-8)") from error
    except csv.Error as error:
        raise InputError(f"cannot read {location} ({error})") from error


def read_labels(location: str) -> dict[str, str]:
    """The label of each file in a table of two columns.

    Raises:
        InputError: it cannot be read, a line has other columns, or a file has two labels.
    """
    labels: dict[str, str] = {}
    for name, label in rows(location, 2):
        if labels.setdefault(name, label) != label:
            raise InputError(
                f"{location} gives the file {name} two labels",
                found=f"{labels[name]} and {label}",
                expected="one label for each file",
            )
    return labels


def _names_a_picture(cell: str) -> bool:
    return places.is_url(cell) or looks_like_a_picture(cell)


def _columns(names: Sequence[str]) -> tuple[int, int | None] | None:
    path = next((names.index(name) for name in _PATH if name in names), None)
    label = next((names.index(name) for name in _LABEL if name in names), None)
    return None if path is None else (path, label)


def _none(location: str, row: Sequence[str]) -> InputError:
    """The error for a file that is no manifest; its content is not shown, which may be anybody's."""
    return InputError(
        f"{location} is not a table of images",
        found=f"a line of {len(row)} column{'' if len(row) == 1 else 's'}",
        expected="rows of path,label (an image file such as a.png, or a URL), or a header row with these names",
    )


def _parquet(location: str) -> Iterator[tuple[str, str]]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MachineError(
            "reading a Parquet manifest requires pyarrow", fix="install it with: pip install 'bnexport[parquet]'"
        ) from error
    try:
        with places.open_stream(location) as stream, parquet.ParquetFile(stream) as file:
            names = [name.lower() for name in file.schema_arrow.names]
            where = _columns(names)
            if where is None:
                raise InputError(
                    f"{location} is not a table of images",
                    found=f"the columns {', '.join(names)[:80]}",
                    expected=f"a column {_PATH[0]}",
                )
            wanted = [file.schema_arrow.names[column] for column in where if column is not None]
            for batch in file.iter_batches(columns=wanted):
                columns = [batch.column(name).cast(arrow.string()).to_pylist() for name in wanted]
                labels = columns[1] if len(columns) > 1 else [""] * len(columns[0])
                yield from ((name or "", label or "") for name, label in zip(columns[0], labels, strict=True))
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {location} ({reason(error)})") from error
