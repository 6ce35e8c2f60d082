"""The files of a recording: which tensor each holds, and for which items of the bundle.

    DIR/NAME.npy                        one row for each item of the bundle, in its order
    DIR/test_data_set_0/output_0.pb     the rows of a data set, in the layout of the ONNX standard
    DIR/ITEM.NAME.npy, DIR/ITEM/NAME.npy    one item; ITEM is the name of its picture in the bundle, or its own, without the suffix
    DIR/outputs.npz                     several tensors by name

NAME is that of an input or output of the graph. Letters that a file name cannot have may be underscores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bnexport.bundles.bundle import Bundle
from bnexport.bundles.recorded import formats
from bnexport.bundles.recorded.formats import Stored
from bnexport.errors import InputError
from bnexport.system import files

INPUTS, OUTPUTS = "inputs", "outputs"
"""Names of folders or files that say what the tensors in them are."""

MOST_FILES = 1_000_000
"""A folder with more files is refused."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One array of a recording.

    Args:
        path: its file.
        stored: its values.
        part: the position of its data set; None where it belongs to none.
        item: the position of its item in the bundle; None where it holds several.
    """

    path: Path
    stored: Stored
    part: int | None = None
    item: int | None = None


@dataclass(frozen=True, slots=True)
class Owners:
    """What folders and files may be named after.

    Args:
        parts: data sets by name.
        items: items by each of their names.
    """

    parts: Mapping[str, int]
    items: Mapping[str, int]

    def split(self, stem: str) -> tuple[int | None, int | None, str]:
        """The data set, the item and the rest of a name; the longest name counts.

        >>> Owners({"test_data_set_0": 0}, {"000001": 1}).split("000001.probabilities")
        (None, 1, 'probabilities')
        """
        for table, item in ((self.parts, False), (self.items, True)):
            for end in range(len(stem), 0, -1):
                if stem[:end] in table and (end == len(stem) or stem[end] in "._- "):
                    position = table[stem[:end]]
                    return (None, position, stem[end + 1 :]) if item else (position, None, stem[end + 1 :])
        return None, None, stem


def owners(index: Bundle) -> Owners:
    """The names of the data sets and items of a bundle; names that several items have belong to none."""
    names: list[tuple[str, int]] = []
    items = [item for part in index.sets for item in part.items]
    for position, item in enumerate(items):
        path = PurePosixPath(item.name)
        own = {PurePosixPath(item.file).stem, f"{position:06d}", item.name, path.name, path.stem} - {""}
        names += [(name, position) for name in own]
    counts = Counter(name for name, _ in names)
    return Owners(
        {part.folder: nth for nth, part in enumerate(index.sets)},
        {name: position for name, position in names if counts[name] == 1},
    )


def read_folder(folder: Path, index: Bundle) -> dict[str, list[Piece]]:
    """The arrays in a folder, by the tensor's name as far as it is named; a name of the bundle stands for each of its spellings.

    Raises:
        InputError: it does not exist, has no file that can be read, or one of them cannot be.
    """
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist", expected="a folder with recorded outputs")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in formats.SUFFIXES)[: MOST_FILES + 1]
    if not paths or len(paths) > MOST_FILES:
        raise InputError(
            f"{folder} is not a folder of recorded outputs",
            found="no such file" if not paths else f"more than {MOST_FILES:,} files",
            expected=", ".join(formats.SUFFIXES),
        )
    spellings, owned = _spellings(index), owners(index)
    pieces: dict[str, list[Piece]] = {}
    for path in paths:
        if files.status(path) is None:
            raise InputError(f"cannot read {path}", found="a link to a file that does not exist")
        inner = path.relative_to(folder).with_suffix("").parts
        role, part, item, stem = "", None, None, ""
        for level, name in enumerate(inner):
            its_part, its_item, rest = owned.split(name)
            part, item = (part if its_part is None else its_part), (item if its_item is None else its_item)
            if rest in (INPUTS, OUTPUTS):
                role, rest = rest, ""
            if level == len(inner) - 1:
                stem = rest
        for name, stored in formats.read(path).items():
            own = "" if path.suffix.lower() == ".npz" and not name else name or stem
            key = spellings.get((role, _plain(own))) or spellings.get(("", _plain(own))) or f"{role}:{own}"
            pieces.setdefault(key, []).append(Piece(path, stored, part, item))
    return pieces


def input_key(name: str) -> str:
    """The key of an input in what `read_folder` gives."""
    return f"{INPUTS}:{name}"


def output_key(name: str) -> str:
    """The key of an output, by the name a check gives it."""
    return f"{OUTPUTS}:{name}"


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.lower())


def _spellings(index: Bundle) -> dict[tuple[str, str], str]:
    """The keys of inputs and outputs by role and by what files may be called; exact names come before positions."""
    pairs: list[tuple[str, str, str]] = []
    for tensor in index.tensors:
        key = output_key(tensor.name)
        pairs += [(OUTPUTS, tensor.name, key), (OUTPUTS, tensor.tensor, key)]
    pairs += [(INPUTS, name, input_key(name)) for name in index.inputs]
    for tensor in index.tensors:
        key = output_key(tensor.name)
        pairs += [(OUTPUTS, PurePosixPath(tensor.file).stem, key), (OUTPUTS, index.heads.shown(tensor.name), key)]
    pairs += [(INPUTS, f"input_{nth}", input_key(name)) for nth, name in enumerate(index.inputs)]
    table: dict[tuple[str, str], str] = {}
    for role, name, key in pairs:
        table.setdefault((role, _plain(name)), key)
        table.setdefault(("", _plain(name)), key)
    return table
