"""The class names that Teachable Machine and others write beside a model: labels.txt, one line for each output.

A line is "0 Class name", numbered from 0 in the order of the outputs, or the name alone. The file says nothing about which model it
belongs to, so that it is taken only where it fits the model and the images, and ignored with a note where it does not. An output stands
for classes where it ends in softmax or sigmoid, where images have labels, or where the file bears the model's own name; other numbers, as of
a regression, have no class names.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexport import datasets
from bnexport.datasets import sidecar
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError
from bnexport.onnx_graph import metadata, outputs, tensors
from bnexport.progress import Progress
from bnexport.system import files

if TYPE_CHECKING:
    import onnx

NAME = "labels.txt"

MOST_BYTES = 64 << 10
"""The largest file of class names that is read."""

_NUMBERED = re.compile(r"([0-9]+)(?:[ \t]+(.*))?")


def add_class_names(
    model: Path,
    graph: onnx.ModelProto,
    model_sidecar: Sidecar | None,
    progress: Progress,
    pictures: Iterable[datasets.Listing | None] = (),
) -> Sidecar | None:
    """What travels with a model, with the class names of the text file beside it where nothing else names the classes.

    Args:
        model: the model's file or SavedModel folder.
        graph: its inference graph, whose metadata gets the names, in place.
        model_sidecar: what its sidecar or its metadata says.
        progress: notified where the class names come from, or why a file is ignored.
        pictures: the images whose labels have to be among the names; None entries are passed over.
    """
    if model_sidecar is not None and model_sidecar.classes:
        return model_sidecar
    path = None
    try:
        path = _path(model)
        if path is None:
            return model_sidecar
        names = parse(files.read_bounded(path, MOST_BYTES))
        listings = [listing for listing in pictures if listing is not None]
        _must_fit(names, graph, model_sidecar or Sidecar(), listings, of_the_folder=path.name == NAME)
    except (InputError, OSError, UnicodeDecodeError) as error:
        progress.note(f"{path or NAME} beside the model is ignored: {error}")
        return model_sidecar
    progress.note(f"class names are read from {path} ({len(names)} names, in the order of the outputs)")
    model_sidecar = replace(model_sidecar or Sidecar(), classes=names)
    metadata.write(graph, sidecar.for_metadata(model_sidecar))
    return model_sidecar


def _path(model: Path) -> Path | None:
    """The file of class names: STEM.labels.txt, which belongs to this model alone, or labels.txt; None where neither is there."""
    candidates = (model.with_name(f"{model.stem}.{NAME}"), model.with_name(NAME))
    return next((path for path in candidates if files.status(path) is not None), None)


def parse(content: bytes) -> tuple[str, ...]:
    r"""The class names in the content of such a file.

    Raises:
        InputError: it has no names, an empty line between names, a name twice, or numbers that do not count from 0.
        UnicodeDecodeError: it is not UTF-8.

    >>> parse(b"0 cardboard\r\n1 plastic\r\n")
    ('cardboard', 'plastic')
    >>> parse("\ufeffcardboard\nplastic".encode())
    ('cardboard', 'plastic')
    """
    text = io.StringIO(content.decode("utf-8-sig"), newline=None).read()
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if not all(lines):
        raise InputError("it contains no class names" if lines == [""] else "it contains an empty line between names")
    parts = [match.groups() for line in lines if (match := _NUMBERED.fullmatch(line))]
    if len(parts) == len(lines) and any(name for _, name in parts):
        if [number for number, _ in parts] != [str(row) for row in range(len(parts))]:
            raise InputError("its lines begin with numbers that do not count up from 0")
        lines = [name or number for number, name in parts]
    if len(set(lines)) != len(lines):
        twice = next(line for row, line in enumerate(lines) if line in lines[:row])
        raise InputError(f"it contains the name {twice!r} twice")
    return tuple(lines)


def _must_fit(
    names: Sequence[str],
    graph: onnx.ModelProto,
    model_sidecar: Sidecar,
    pictures: Sequence[datasets.Listing],
    *,
    of_the_folder: bool,
) -> None:
    given = graph.graph.output
    if len(given) != 1:
        raise InputError(f"it contains {len(names)} names, but the model has {len(given)} outputs instead of one")
    shape = tensors.shape(given[0]) or ()
    count = shape[-1] if len(shape) > 1 else None
    if count is None:
        raise InputError(f"it contains {len(names)} names, but the number of classes is not fixed in the graph")
    if count != len(names):
        raise InputError(f"it contains {len(names)} names, but the output of the model has {count} values")
    labels = {*model_sidecar.labels.values(), *(label for listing in pictures for label in listing.classes)}
    if strange := sorted(labels - {"", *names}):
        raise InputError(f"the images have the label {strange[0]!r}, which it does not contain")
    labelled = bool(labels - {""}) or any(listing.has_labels for listing in pictures)
    if of_the_folder and not labelled and not outputs.squashing_functions(graph):
        raise InputError(
            "the output of the model may not be class scores: it has no softmax or sigmoid, and the images have no labels",
            fix=f"if it is, rename the file to STEM.{NAME}, where STEM is the name of the model file",
        )
    numbers = any(not listing.classes for listing in pictures)  # labels may be class numbers, which keep their meaning
    if numbers and any(name.isdecimal() and name != str(row) for row, name in enumerate(names)):
        raise InputError("its names are numbers that differ from the positions of the outputs")
