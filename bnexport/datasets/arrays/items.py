"""Items that are read one by one: files of arrays, recordings, several pictures for one item, and lists of arrays in memory.

Items of one shape are run together. Others wait for a batch of their own: nothing is padded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bnexport import datasets
from bnexport.datasets.arrays.fit import Dtypes, Fit, fit_arrays
from bnexport.datasets.feeds import Feed, Source
from bnexport.datasets.npz import Shape
from bnexport.datasets.order import shuffled_order, spread
from bnexport.datasets.preparation import class_indices
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError, reason
from bnexport.results.preprocessing import Preprocessing
from bnexport.system import cache, machine
from bnexport.types import Array

Described = Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]]
"""The shape, without a batch axis, and the dtype of each array of an item."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item, which is read when its turn comes.

    Args:
        name: by which reports tell it.
        label: the name or number of its class; "" where unknown.
        described: what it holds.
        read: its arrays.
    """

    name: str
    label: str
    described: Described
    read: Callable[[], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """An item that fits the model, and the shapes by which it is batched."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    read: Callable[[], Mapping[str, Array]]


@dataclass(slots=True)
class Items:
    """Items as what a model is run on (`bnexport.datasets.feeds.Source`).

    Args:
        items: all of them.
        labels: their classes, -1 where unknown.
        classes: the names of the classes.
        batch_size: the largest batch.
        order: in which order, as positions in `items`; None for their own.
        whole: whether every batch has `batch_size` items, where need be some of them again.
        notes: how items are changed to fit the model.
    """

    items: Sequence[_Fitted]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    batch_size: int
    order: NDArray[np.intp] | None = None
    whole: bool = False
    notes: tuple[str, ...] = ()
    unreadable: list[datasets.Unreadable] = field(default_factory=list)
    spec: Preprocessing | None = field(default=None, init=False)
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.count = len(self.items)

    def with_preprocessing(self, spec: Preprocessing) -> Source:  # noqa: ARG002 - they come as they are
        """Itself."""
        return self

    def pictures(self, names: Collection[str]) -> dict[str, datasets.Picture]:  # noqa: ARG002 - none can be shown alone
        """None."""
        return {}

    def fingerprint(self) -> str:
        """A hash of what the items hold."""
        digest = hashlib.sha256()
        for item in self.items:
            try:
                content = cache.fingerprint(item.read())
            except InputError as error:
                content = str(error)
            digest.update(f"{item.name}\0{content}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def sample(self, count: int, *, batch_size: int, whole: bool) -> Source:
        """Some of the items that can be read."""
        lost = {entry.name for entry in self.unreadable}
        rows = np.array([row for row, item in enumerate(self.items) if item.name not in lost], np.intp)
        return replace(self._select(rows[spread(len(rows), count, None)]), batch_size=batch_size, whole=whole)

    def shard(self, nth: int, count: int) -> Source:
        """Every `count`th item from the `nth` on."""
        return self._select(np.arange(nth, self.count, count))

    def spread(self, most: int) -> Source:
        """At most so many of the items, evenly spread."""
        return self._select(spread(self.count, most, None))

    def shuffle(self) -> Source:
        """The same items in `shuffled_order`."""
        return replace(self, order=shuffled_order(self.count), unreadable=[])

    def _select(self, rows: NDArray[np.intp]) -> Items:
        items = [self.items[int(row)] for row in rows]
        return replace(self, items=items, labels=self.labels[rows], order=None, unreadable=[])

    def __iter__(self) -> Iterator[Feed]:
        """The batches: those of the shape that most items have come first.

        Raises:
            InputError: no item can be read.
        """
        lost: dict[int, datasets.Unreadable] = {}
        count = 0
        with ThreadPoolExecutor(machine.threads()) as pool:
            for rows in self._batches():
                read: dict[int, Mapping[str, Array]] = {}
                for row, result in zip(rows, pool.map(_read, [self.items[row] for row in rows]), strict=True):
                    if isinstance(result, datasets.Unreadable):
                        lost[row] = result
                    else:
                        read[row] = result
                self.unreadable[:] = [lost[row] for row in sorted(lost)]
                good = [row for row in rows if row in read]
                if not good:
                    continue
                count += len(good)
                inputs = {name: np.stack([read[row][name] for row in good]) for name in read[good[0]]}
                yield Feed(inputs, tuple(self.items[row].name for row in good), self.labels[good], tuple(good))
        if not count:
            raise InputError(
                f"none of the {self.count} items can be read",
                found=f"{self.unreadable[0].name}: {self.unreadable[0].reason}",
            )

    def _batches(self) -> Iterator[list[int]]:
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for row in range(self.count) if self.order is None else self.order.tolist():
            alike.setdefault(self.items[row].shapes, []).append(row)
        for rows in sorted(alike.values(), key=len, reverse=True):
            size = -(-len(rows) // self.batch_size) * self.batch_size if self.whole else len(rows)
            for part in np.array_split(np.resize(rows, size), -(-size // self.batch_size)):
                yield part.tolist()


def _read(item: _Fitted) -> Mapping[str, Array] | datasets.Unreadable:
    try:
        return item.read()
    except InputError as error:
        return datasets.Unreadable(item.name, reason(error))


def of_items(
    items: Sequence[Item],
    what: str,
    shapes: Mapping[str, Shape],
    dtypes: Dtypes,
    model_sidecar: Sidecar | None,
    batch_size: int,
    notes: tuple[str, ...] = (),
) -> Items:
    """Items as what a model is run on.

    Args:
        items: at least one.
        what: what messages call them.
        shapes: the shape of each input of the model.
        dtypes: what each input takes.
        model_sidecar: the labels and classes that the model came with.
        batch_size: the largest batch.
        notes: how they were changed before.

    Raises:
        InputError: an item does not fit the model, or a label is not a class of it.
    """
    beside = model_sidecar or Sidecar()
    fitted: list[_Fitted] = []
    changes = dict.fromkeys(notes)
    for item in items:
        described = {name: ((1, *shape), dtype) for name, (shape, dtype) in item.described.items()}
        fit = fit_arrays(described, f"{what}: {item.name}", shapes, dtypes)
        own = fit.shapes({name: shape for name, (shape, _) in described.items()})
        fitted.append(_Fitted(item.name, tuple(shape[1:] for shape in own), partial(_read_fitted, item.read, fit)))
        if fit.notes and len(changes) == len(notes):  # once: other items have other lengths
            changes |= dict.fromkeys(fit.notes)
    labels = [item.label for item in items]
    named = () if all(not label or label.isdecimal() for label in labels) else tuple(sorted({*labels} - {""}))
    classes = beside.classes or named
    numbers = class_indices([item.name for item in items], labels, beside.labels, classes)
    return Items(fitted, np.array(numbers, np.int64), classes, batch_size, notes=tuple(changes))


def _read_fitted(read: Callable[[], Mapping[str, Array]], fit: Fit) -> Mapping[str, Array]:
    return {name: x[0] for name, x in fit.apply({name: x[None] for name, x in read().items()}).items()}
