"""A list of pictures that may have millions of entries: their names in one block of bytes, and a few numbers for each."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import overload

import numpy as np
from numpy.typing import NDArray

from bnexport.datasets import places


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Args:
        location: its file or URL; of the tar file where it is in one.
        name: by which reports tell it.
        label: the name of its class; "" where unknown.
        span: the offset and size in bytes within `location`; None for all of it.
    """

    location: str
    name: str
    label: str = ""
    span: tuple[int, int] | None = None

    def read(self) -> bytes:
        """Its content, as it is encoded.

        Raises:
            InputError: it cannot be read.
        """
        return places.read(self.location, self.span)

    @property
    def suffix(self) -> str:
        """What its name ends in, such as ".png"."""
        return PurePath(self.name).suffix.lower()


class Lister:
    """Takes pictures in one by one; `listing` is what they make.

    Args:
        folder: from where names are seen; "" for the current one.
    """

    def __init__(self, folder: str = "") -> None:
        self.folder = places.absolute(folder)
        self.names, self.ends = bytearray(), array("q", [0])
        self.labels, self.codes = array("i"), {"": 0}
        self.shards: list[str] = []
        self.spans = array("q")

    def add(self, name: str, label: str = "", span: tuple[int, int] | None = None, shard: int = -1) -> None:
        """One more; with `span` it is in a tar file, the last one unless `shard` says which."""
        self.names += name.encode("utf-8", "surrogateescape")
        self.ends.append(len(self.names))
        self.labels.append(self.codes.setdefault(label, len(self.codes)))
        if span is not None:
            self.spans.extend((shard % len(self.shards), *span))

    def shard(self, location: str) -> None:
        """What is added from now on is in this tar file."""
        self.shards.append(places.absolute(location))

    def listing(self, *, numbers: bool = False) -> Listing:
        """All of them.

        Args:
            numbers: labels that are all numbers are class numbers, not names.
        """
        named = sorted(label for label in self.codes if label)
        counted = numbers and all(label.isdecimal() for label in named)
        return Listing(self, range(len(self.labels)), () if counted else tuple(named))


class Listing(Sequence[Picture]):
    """Pictures in their order.

    Args:
        kept: what is known of each.
        rows: which of them, and in what order.
        classes: the names of the classes, sorted; empty where labels are class numbers or there are none.
    """

    def __init__(self, kept: Lister, rows: range | NDArray[np.intp], classes: tuple[str, ...]) -> None:
        self._kept, self._rows, self.classes = kept, rows, classes
        self._labels = list(kept.codes)

    @property
    def has_labels(self) -> bool:
        """Whether any picture of the whole list has a label, a name or a class number."""
        return len(self._labels) > 1

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rows)

    @overload
    def __getitem__(self, position: int) -> Picture: ...
    @overload
    def __getitem__(self, position: slice) -> Listing: ...
    def __getitem__(self, position: int | slice) -> Picture | Listing:
        """One of them, or a part of the list, which costs nothing."""
        if isinstance(position, slice):
            return Listing(self._kept, self._rows[position], self.classes)
        return self._picture(int(self._rows[position]))

    def __iter__(self) -> Iterator[Picture]:
        """Each in turn."""
        return (self._picture(int(row)) for row in self._rows)

    def __reduce__(self) -> tuple[Callable[..., Listing], tuple[object, ...]]:
        """Travels to another process with what it lists, and not with the list that it is a part of."""
        kept = self._kept
        entries = [
            (self._name(row), self._labels[kept.labels[row]], tuple(kept.spans[3 * row : 3 * row + 3]))
            for row in map(int, self._rows)
        ]
        return _restore, (kept.folder, kept.shards, entries, self.classes)

    def select(self, positions: NDArray[np.intp]) -> Listing:
        """Those at `positions`, in that order."""
        return Listing(self._kept, np.asarray(self._rows)[positions], self.classes)

    def shard(self, nth: int, count: int) -> Listing:
        """Every `count`th, from the `nth` on: all shards together are the whole list, each time the same, and each has some of every class even where the list is sorted by class."""
        return self[nth::count]

    def with_labels(self, label: dict[str, str]) -> Listing:
        """The same pictures with other labels, by name."""
        lister = Lister(self._kept.folder)
        lister.names, lister.ends = self._kept.names, self._kept.ends
        lister.shards, lister.spans = self._kept.shards, self._kept.spans
        lister.labels = array("i", [0]) * len(self._kept.labels)
        for row, picture in zip(self._rows, self, strict=True):
            text = label.get(picture.name, "")
            lister.labels[int(row)] = lister.codes.setdefault(text, len(lister.codes))
        return Listing(lister, self._rows, lister.listing(numbers=True).classes)

    def _picture(self, row: int) -> Picture:
        kept = self._kept
        name = self._name(row)
        label = self._labels[kept.labels[row]]
        if not kept.spans:
            return Picture(places.join(kept.folder, name), name, label)
        shard, offset, size = kept.spans[3 * row : 3 * row + 3]
        if len(kept.shards) > 1:  # each may have a 000001.jpg
            name = f"{PurePath(kept.shards[shard]).name}/{name}"
        return Picture(kept.shards[shard], name, label, (offset, size))

    def _name(self, row: int) -> str:
        kept = self._kept
        return kept.names[kept.ends[row] : kept.ends[row + 1]].decode("utf-8", "surrogateescape")


def _restore(
    folder: str, shards: list[str], entries: list[tuple[str, str, tuple[int, ...]]], classes: tuple[str, ...]
) -> Listing:
    lister = Lister(folder)
    lister.shards = shards
    for name, label, location in entries:
        if location:
            lister.add(name, label, (location[1], location[2]), location[0])
        else:
            lister.add(name, label)
    return Listing(lister, range(len(entries)), classes)
