"""What another program recorded, item by item beside what a bundle holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnexport.bundles.bundle import Bundle
from bnexport.bundles.recorded.folder import INPUTS, OUTPUTS, Piece, input_key, output_key, read_folder
from bnexport.bundles.recorded.formats import Stored
from bnexport.bundles.recorded.rows import Slots
from bnexport.comparison.engine import Baseline
from bnexport.comparison.recorded import match_names
from bnexport.comparison.sides import Outputs
from bnexport.datasets.arrays.fit import shape_text
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Part:
    """What was recorded of one data set of a bundle.

    Args:
        position: of the data set.
        feed: the inputs in the bundle, of the items that were recorded.
        wanted: what the bundle holds for them.
        outputs: what was recorded.
        inputs: the recorded inputs in the layout of the bundle's; empty where there are none.
    """

    position: int
    feed: Feed
    wanted: Outputs
    outputs: Outputs
    inputs: Outputs


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that was recorded.

    Args:
        folder: where it was read from.
        parts: by data set.
        rows: the position of each item in the bundle.
        notes: how files were matched with tensors, and what was changed, in words.
        dtypes: of the recorded inputs.
    """

    folder: Path
    parts: tuple[Part, ...]
    rows: tuple[int, ...]
    notes: tuple[str, ...]
    dtypes: Mapping[str, np.dtype[np.generic]]

    @property
    def has_inputs(self) -> bool:
        """Whether every input was recorded."""
        return all(part.inputs.keys() == part.feed.inputs.keys() for part in self.parts)


def open_recording(folder: Path, index: Bundle, baseline: Baseline, stored: str) -> Recording:
    """The files in a folder, matched with the tensors and items of a bundle.

    Args:
        folder: with the files.
        index: of the bundle.
        baseline: its inputs and outputs.
        stored: the id of the run that they are recorded under.

    Raises:
        InputError: a file cannot be read, or does not fit the bundle.
        UsageError: an array can be one of several tensors.
    """
    counts = [len(part.items) for part in index.sets]
    slots = {
        output_key(t.name): Slots([part[stored][t.name] for part in baseline.outputs], counts) for t in index.tensors
    }
    slots |= {input_key(name): Slots([feed.inputs[name] for feed in baseline.batches], counts) for name in index.inputs}
    pieces = _by_item_names(read_folder(folder, index), index)
    taken, notes = _match(pieces, slots, folder)
    rows: dict[str, dict[int, Array]] = {}
    whole: dict[str, dict[int, Array]] = {}
    for key, theirs in taken.items():
        rows[key], whole[key] = slots[key].assign(pieces[theirs], key.partition(":")[2], notes)
    outputs = [key for key in taken if key.startswith(OUTPUTS)]
    if not outputs:
        raise InputError(
            f"{folder} has no outputs of the model",
            found=", ".join(sorted(piece.path.name for group in pieces.values() for piece in group)[:5]),
            expected=", ".join(f"{t.name} {shape_text((None, *slots[output_key(t.name)].row))}" for t in index.tensors),
        )
    chosen = _items(outputs, rows, whole, counts, folder)
    missing = [t.name for t in index.tensors if output_key(t.name) not in taken and not t.name.endswith("/logits")]
    notes += [f"the output {name} was not recorded" for name in missing if name not in index.heads.inner]
    if len(chosen) < sum(counts):
        notes.append(f"{len(chosen)} of {sum(counts)} items were recorded")
    parts, begin = [], 0
    for position, (feed, stored_outputs) in enumerate(zip(baseline.batches, baseline.outputs, strict=True)):
        own = [row - begin for row in chosen if begin <= row < begin + counts[position]]
        if own:
            parts.append(_part(position, own, begin, feed, stored_outputs[stored], taken, rows, whole))
        begin += counts[position]
    dtypes = {
        name: pieces[taken[input_key(name)]][0].stored.array.dtype for name in index.inputs if input_key(name) in taken
    }
    return Recording(folder, tuple(parts), tuple(chosen), tuple(dict.fromkeys(notes)), dtypes)


def _part(
    position: int,
    own: list[int],
    begin: int,
    feed: Feed,
    stored: Outputs,
    taken: Mapping[str, str],
    rows: Mapping[str, dict[int, Array]],
    whole: Mapping[str, dict[int, Array]],
) -> Part:
    """What was recorded of some items of a data set."""

    def gather(key: str) -> Array | None:
        if key not in taken:
            return None
        if whole[key]:
            return whole[key].get(position)
        some = [rows[key].get(begin + row) for row in own]
        return None if any(row is None for row in some) else np.stack([row for row in some if row is not None])

    outputs = {
        name: array.astype(stored[name].dtype) if array.dtype.kind == stored[name].dtype.kind == "f" else array
        for name in stored
        if (array := gather(output_key(name))) is not None
    }
    inputs = {name: array for name in feed.inputs if (array := gather(input_key(name))) is not None}
    every = len(own) == len(feed.names)
    cut = Feed(
        feed.inputs if every else {name: x[own] for name, x in feed.inputs.items()},
        tuple(feed.names[row] for row in own),
        feed.labels[own],
    )
    wanted = {name: stored[name] if every else stored[name][own] for name in outputs}
    return Part(position, cut, wanted, outputs, inputs)


def _items(
    outputs: Sequence[str],
    rows: Mapping[str, dict[int, Array]],
    whole: Mapping[str, dict[int, Array]],
    counts: Sequence[int],
    folder: Path,
) -> list[int]:
    """The items of which every output that was recorded at all is there."""
    begins = np.concatenate([[0], np.cumsum(counts)]).tolist()
    common = set(range(begins[-1]))
    for key in outputs:
        of_parts = {row for part in whole[key] for row in range(begins[part], begins[part + 1])}
        common &= of_parts if whole[key] else rows[key].keys()
    if not common:
        raise InputError(f"{folder} has not all outputs of any item", found=", ".join(outputs))
    return sorted(common)


def _match(
    pieces: Mapping[str, list[Piece]], slots: Mapping[str, Slots], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """The key of the arrays of each tensor: named, or else the only ones whose shape fits; outputs first."""
    named = {key: key for key in pieces if key in slots}
    notes: list[str] = []
    for role in (OUTPUTS, INPUTS):
        titles = {key.partition(":")[2]: key for key in slots if key.startswith(role) and key not in named}
        open_keys = {
            key.partition(":")[2] or "files without a name": key
            for key in pieces
            if key not in named.values() and key.startswith((role, ":"))
        }
        taken, matches = match_names(
            str(folder),
            list(titles),
            open_keys,
            lambda title, key, titles=titles, keys=open_keys: slots[titles[title]].accepts(pieces[keys[key]]),  # type: ignore[misc] # bound here, since the loop goes on
        )
        named |= {titles[title]: open_keys[key] for title, key in taken.items()}
        notes += [note.replace("the output ", f"the {role[:-1]} ") for note in matches]
    for key in pieces:
        if key not in named.values():
            shape = pieces[key][0].stored.array.shape
            notes.append(f"{key.partition(':')[2] or pieces[key][0].path.name} {shape} fits no tensor and is not used")
    return named, notes


def _by_item_names(pieces: Mapping[str, list[Piece]], index: Bundle) -> dict[str, list[Piece]]:
    """The same, with a table whose rows are named after items split into its rows."""
    from bnexport.bundles.recorded.folder import owners

    items = owners(index).items
    split: dict[str, list[Piece]] = {}
    for key, group in pieces.items():
        for piece in group:
            names = piece.stored.rows
            if not names:
                split.setdefault(key, []).append(piece)
                continue
            for name, row in zip(names, piece.stored.array, strict=True):
                position = items.get(name, items.get(Path(name).stem))
                if position is None:
                    raise InputError(f"{piece.path} has a row for {name}, which is no item of the bundle")
                split.setdefault(key, []).append(Piece(piece.path, Stored(row[None], flat=True), item=position))
    return split
