"""Folders with one file for each item: arrays (.npy, or .npz for several inputs) or recordings.

FOLDER/a.npy                  an item
FOLDER/CLASS/a.npy            an item of a class
FOLDER/INPUT/a.npy            one input of the item a.npy, where every subfolder is called as an input
FOLDER/INPUT/CLASS/a.npy      the same with its class
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from bnexport.datasets import manifest, npz
from bnexport.datasets.arrays import audio
from bnexport.datasets.arrays.fit import Dtypes
from bnexport.datasets.arrays.items import Described, Item, Items, of_items
from bnexport.datasets.decode import looks_like_a_picture
from bnexport.datasets.npz import Shape
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, reason
from bnexport.system import files
from bnexport.types import Array

TABLE = "labels.csv"
"""The labels of the files in a folder."""

LABELS = "labels"
"""The array in an .npz file that holds the class."""

SUFFIXES = (".npy", ".npz", *audio.SUFFIXES)


def holds_items(folder: Path) -> bool:
    """Whether there are files of arrays or recordings below a folder, and no pictures."""
    names = _below(folder)
    return any(_suffix(name) in SUFFIXES for name in names) and not any(map(looks_like_a_picture, names))


def read_folder(
    folder: Path,
    shapes: Mapping[str, Shape],
    dtypes: Dtypes,
    model_sidecar: Sidecar | None,
    batch_size: int,
    labels: Path | None = None,
    rate: int | None = None,
) -> Items:
    """The items in a folder.

    Args:
        folder: where they are.
        shapes: the shape of each input of the model.
        dtypes: what each input takes.
        model_sidecar: the labels and classes that the model came with.
        batch_size: the largest batch.
        labels: a CSV file with the columns file and label; by default labels.csv in the folder.
        rate: the sample rate of recordings that the model says it takes.

    Raises:
        InputError: there is none, a file cannot be read, or does not fit the model.
        MachineError: they are recordings, and soundfile is not installed.
    """
    names = [name for name in _below(folder) if _suffix(name) in SUFFIXES]
    kinds = sorted({_suffix(name) for name in names})
    sounds = [kind for kind in kinds if kind in audio.SUFFIXES]
    if not names or (len(kinds) > 1 and len(sounds) != len(kinds)):
        raise InputError(
            f"{folder} is not a folder of items of one kind",
            found=", ".join(kinds) or "no file of arrays",
            expected="files that end in .npy, in .npz, or in " + ", ".join(audio.SUFFIXES),
        )
    groups = group(names, shapes)
    table = labels or (folder / TABLE if (folder / TABLE).is_file() else None)
    listed = manifest.read_labels(str(table)) if table else {}
    if sounds:
        recordings = audio.Recordings(
            folder, shapes, dtypes, [path for entry in groups for path in entry.paths.values()], rate
        )
        describe: Callable[[str, str], Described] = recordings.describe
        read: Callable[[str, str], Mapping[str, Array]] = recordings.read
        notes = recordings.notes
    else:
        describe, read, notes = partial(_describe, folder), partial(_read, folder), ()
    items = [
        Item(
            entry.name,
            listed.get(entry.name, entry.label)
            or (_label(folder / next(iter(entry.paths.values()))) if kinds == [".npz"] else ""),
            _merge(describe(name, path) for name, path in entry.paths.items()),
            partial(_read_all, read, entry.paths),
        )
        for entry in groups
    ]
    return of_items(items, str(folder), shapes, dtypes, model_sidecar, batch_size, notes)


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one item: their paths by the input that they are for; "" where the folder does not say."""

    name: str
    label: str
    paths: Mapping[str, str]


def group(names: Sequence[str], shapes: Mapping[str, Shape]) -> list[Group]:
    """The files of each item.

    Args:
        names: paths below a folder, with slashes.
        shapes: the inputs of the model by name.

    Raises:
        InputError: an item lacks a file for an input.

    >>> [entry.paths for entry in group(["left/a.npy", "right/a.npy"], {"left": (), "right": ()})]
    [{'left': 'left/a.npy', 'right': 'right/a.npy'}]
    """
    tops = {name.split("/")[0] if "/" in name else "" for name in names}
    if not (len(shapes) > 1 and tops <= set(shapes)):
        return [Group(name, name.split("/")[0] if "/" in name else "", {"": name}) for name in names]
    items: dict[str, dict[str, str]] = {}
    for name in names:
        top, below = name.split("/", 1)
        items.setdefault(below, {})[top] = name
    for name, paths in items.items():
        if missing := [top for top in shapes if top not in paths]:
            raise InputError(
                f"the item {name} has no file for the input {missing[0]}",
                found=", ".join(sorted(paths.values())),
                expected=f"{missing[0]}/{name}",
            )
    return [
        Group(name, name.split("/")[0] if "/" in name else "", {top: paths[top] for top in shapes})
        for name, paths in items.items()
    ]


def _below(folder: Path) -> list[str]:
    """The files below a folder that are not hidden, sorted."""
    names = [
        (Path(root) / name).relative_to(folder).as_posix() for root, _, listed in os.walk(folder) for name in listed
    ]
    return sorted(
        (n for n in names if not any(part.startswith(".") for part in n.split("/"))), key=lambda n: n.split("/")
    )


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _merge(parts: Iterable[Described]) -> Described:
    return {name: described for part in parts for name, described in part.items()}


def _read_all(read: Callable[[str, str], Mapping[str, Array]], paths: Mapping[str, str]) -> Mapping[str, Array]:
    return {name: x for top, path in paths.items() for name, x in read(top, path).items()}


def _describe(folder: Path, name: str, path: str) -> Described:
    """The shape and dtype of the arrays in a file; of an .npy file only its head is read."""
    where = folder / path
    if _suffix(path) == ".npz":
        return {key: (x.shape, x.dtype) for key, x in _read(folder, name, path).items()}
    try:
        with files.open_regular(where) as stream:
            version = np.lib.format.read_magic(stream)
            if version > (2, 0):
                array = npz.load_one(where)
                return {name or "input": (array.shape, array.dtype)}
            head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = head(stream)
    except InputError:
        raise
    except Exception as error:  # as in `npz.load_one`
        raise InputError(f"{where} is not an .npy file ({reason(error)})", fix="write it with numpy.save") from error
    return {name or "input": (shape, dtype)}


def _label(where: Path) -> str:
    """The class number or name in an .npz file; "" where it has none."""
    label = npz.load(where, rows=False).get(LABELS)
    return "" if label is None or label.size != 1 else str(label.item())


def _read(folder: Path, name: str, path: str) -> Mapping[str, Array]:
    where = folder / path
    if _suffix(path) == ".npz":
        arrays = {key: x for key, x in npz.load(where, rows=False).items() if key != LABELS}
        return {name: next(iter(arrays.values()))} if name and len(arrays) == 1 else arrays
    return {name or "input": npz.load_one(where)}
