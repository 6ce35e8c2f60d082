"""What a check runs on: pictures from a folder, or arrays from an .npz file, as batches of model inputs with labels."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bnexport import datasets
from bnexport.datasets import npz
from bnexport.datasets.arrays.fit import Dtypes, class_numbers, describe, fit_arrays, plain
from bnexport.datasets.npz import Shape
from bnexport.datasets.order import shuffled_order, spread
from bnexport.datasets.preparation import class_indices
from bnexport.datasets.sidecar import Sidecar
from bnexport.errors import InputError
from bnexport.results.preprocessing import Preprocessing
from bnexport.system import cache
from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Feed:
    """One batch: every input of the model by name, the items' names, and their classes (-1 where unknown).

    `positions` says where the items stand in the list that reports follow; None where batches come in its order.
    """

    inputs: Mapping[str, Array]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    positions: tuple[int, ...] | None = None


class Source(Protocol):
    """Batches that can be gone through again, with what is known about them."""

    count: int
    classes: tuple[str, ...]
    unreadable: list[datasets.Unreadable]
    spec: Preprocessing | None
    """How pictures are prepared; None for arrays, which come as they are."""
    notes: tuple[str, ...]
    """How items are changed to fit the model, one sentence each."""

    def __iter__(self) -> Iterator[Feed]: ...

    def with_preprocessing(self, spec: Preprocessing) -> Source:
        """The same pictures prepared otherwise; arrays stay what they are."""
        ...

    def fingerprint(self) -> str:
        """A hash of everything the items depend on: content and preparation."""
        ...

    def sample(self, count: int, *, batch_size: int, whole: bool) -> Source:
        """At most `count` of the items that can be read, evenly spread, in batches of `batch_size`; with `whole` in such batches only, where need be with items that come again."""
        ...

    def shard(self, nth: int, count: int) -> Source:
        """Every `count`th item from the `nth` on."""
        ...

    def spread(self, most: int) -> Source:
        """At most so many of the items, evenly spread: data are often sorted by class, and their head is no sample."""
        ...

    def shuffle(self) -> Source:
        """The same items in `shuffled_order`; what `shard`, `spread` and `sample` give has their own order."""
        ...

    def pictures(self, names: Collection[str]) -> dict[str, datasets.Picture]:
        """The pictures of these names; empty for arrays."""
        ...


class Pictures:
    """Pictures as the one input of a model.

    Args:
        pictures: which ones, and their classes.
        reader: how they are read.
        sidecar: the labels and classes that the model came with.
        name: of the input.
        notes: how pictures are changed to fit the input.
    """

    def __init__(
        self,
        pictures: datasets.Listing,
        reader: datasets.Reader,
        sidecar: Sidecar | None,
        name: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self._sidecar = sidecar = sidecar or Sidecar()
        self.classes = sidecar.classes or pictures.classes
        self.count = len(pictures)
        self.spec: Preprocessing | None = reader.spec
        self._labels, self._name, self._pictures, self._reader = sidecar.labels, name, pictures, reader
        self.unreadable = reader.unreadable

    def fingerprint(self) -> str:
        """A hash of the files and of how they are prepared."""
        digest = hashlib.sha256(json.dumps(self.spec.as_dict() if self.spec else None).encode())
        digest.update(b"rounded" * self._reader.whole_pixels)
        for picture in self._pictures:
            with contextlib.suppress(InputError):  # unreadable files are left out when they are read, too
                digest.update(hashlib.sha256(picture.read()).digest())
            digest.update(picture.name.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def with_preprocessing(self, spec: Preprocessing) -> Source:
        """The same pictures prepared otherwise."""
        return self._of(self._pictures, spec, self._reader.batch_size, self._reader.order)

    def shard(self, nth: int, count: int) -> Source:
        """Every `count`th picture from the `nth` on; the classes are those of all."""
        return self._of(self._pictures.shard(nth, count), self._reader.spec, self._reader.batch_size)

    def spread(self, most: int) -> Source:
        """At most so many of the pictures, evenly spread."""
        rows = spread(self.count, most, None)
        return self._of(self._pictures.select(rows), self._reader.spec, self._reader.batch_size)

    def shuffle(self) -> Source:
        """The same pictures in `shuffled_order`."""
        return self._of(self._pictures, self._reader.spec, self._reader.batch_size, shuffled_order(self.count))

    def _of(
        self, pictures: datasets.Listing, spec: Preprocessing, batch_size: int, order: NDArray[np.intp] | None = None
    ) -> Pictures:
        reader = replace(self._reader, pictures=pictures, spec=spec, batch_size=batch_size, order=order, unreadable=[])
        return Pictures(pictures, reader, self._sidecar, self._name, self.notes)

    def with_whole_pixels(self) -> Pictures:
        """The same pictures for a file that takes whole numbers: with rounded pixels, where the kernel does not round."""
        kernel = self._reader.spec.resize
        if kernel.rounds:
            return self
        note = f"the pixels are rounded for every run: {kernel} does not round them, and the file takes whole numbers"
        reader = replace(self._reader, whole_pixels=True, unreadable=[])
        return Pictures(self._pictures, reader, self._sidecar, self._name, (*self.notes, note))

    def sample(self, count: int, *, batch_size: int, whole: bool) -> Source:
        """Some of the pictures; `unreadable` must be known, so that all of them were read once."""
        lost = {u.name for u in self.unreadable}
        readable = np.array([row for row, picture in enumerate(self._pictures) if picture.name not in lost], np.intp)
        chosen = self._pictures.select(readable[spread(len(readable), count, batch_size if whole else None)])
        return self._of(chosen, self._reader.spec, batch_size)

    def pictures(self, names: Collection[str]) -> dict[str, datasets.Picture]:
        """The pictures of these names."""
        names, wanted = set(names), dict[str, datasets.Picture]()
        for picture in self._pictures:
            if len(wanted) == len(names):
                break
            if picture.name in names:
                wanted[picture.name] = picture
        return wanted

    def __iter__(self) -> Iterator[Feed]:
        """The batches.

        Raises:
            InputError: no picture can be read, or a label is not a class of the model.
        """
        for batch in self._reader:
            labels = class_indices(batch.names, batch.labels, self._labels, self.classes)
            yield Feed({self._name: batch.x}, batch.names, np.array(labels, np.int64), batch.positions)


class Arrays:
    """Arrays from an .npz file: one for each input of the model, and optionally `labels` (N,) of class numbers."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        batch_size: int,
        order: NDArray[np.intp] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.count = len(labels)
        self.classes = classes
        self.notes = notes
        self.unreadable: list[datasets.Unreadable] = []
        self.spec: Preprocessing | None = None
        self._arrays, self._labels, self._batch_size, self._order = arrays, labels, batch_size, order

    @classmethod
    def read(
        cls,
        path: Path,
        shapes: Mapping[str, Shape],
        classes: tuple[str, ...],
        batch_size: int,
        dtypes: Dtypes | None = None,
    ) -> Arrays:
        """The arrays in a file.

        Raises:
            InputError: it cannot be read, or does not hold the model's inputs.
        """
        return cls.of(npz.load(Path(path)), str(path), shapes, classes, batch_size, dtypes)

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, Array],
        what: str,
        shapes: Mapping[str, Shape],
        classes: tuple[str, ...],
        batch_size: int,
        dtypes: Dtypes | None = None,
    ) -> Arrays:
        """Arrays by the name of the input, and `labels` among them where they are known; `what` is what messages call them.

        Raises:
            InputError: they do not hold the model's inputs.
        """
        arrays = {name: plain(array) for name, array in arrays.items()}
        labels = arrays.pop("labels", None)
        fit = fit_arrays(describe(arrays), what, shapes, dtypes or {})
        counts = {len(a) for a in arrays.values()} | ({len(labels)} if labels is not None else set())
        if len(counts) != 1 or counts == {0}:
            raise InputError(f"{what}: the arrays are empty or differ in length", found=f"lengths {sorted(counts)}")
        if labels is None:
            labels = np.full(counts.pop(), -1, np.int64)
        numbers, classes = class_numbers(labels, what, classes)
        return cls(fit.apply(arrays), numbers, classes, batch_size, notes=fit.notes)

    def fingerprint(self) -> str:
        """A hash of the arrays."""
        return cache.fingerprint(self._arrays)

    def sample(self, count: int, *, batch_size: int, whole: bool) -> Source:
        """Some of the rows."""
        return self._select(spread(self.count, count, batch_size if whole else None), batch_size)

    def shard(self, nth: int, count: int) -> Source:
        """Every `count`th row from the `nth` on."""
        return self._select(slice(nth, None, count), self._batch_size)

    def spread(self, most: int) -> Source:
        """At most so many of the rows, evenly spread."""
        return self._select(spread(self.count, most, None), self._batch_size)

    def shuffle(self) -> Source:
        """The same rows in `shuffled_order`."""
        order = shuffled_order(self.count)
        return Arrays(self._arrays, self._labels, self.classes, self._batch_size, order, self.notes)

    def _select(self, rows: slice | NDArray[np.intp], batch_size: int) -> Source:
        arrays = {name: array[rows] for name, array in self._arrays.items()}
        return Arrays(arrays, self._labels[rows], self.classes, batch_size, notes=self.notes)

    def pictures(self, names: Collection[str]) -> dict[str, datasets.Picture]:  # noqa: ARG002 - there are none
        """None."""
        return {}

    def with_preprocessing(self, spec: Preprocessing) -> Source:  # noqa: ARG002 - arrays come as they are
        """Itself."""
        return self

    def __iter__(self) -> Iterator[Feed]:
        """The batches, of nearly equal size."""
        parts = -(-self.count // self._batch_size)
        order = np.arange(self.count) if self._order is None else self._order
        for rows in np.array_split(order, parts):
            inputs = {name: array[rows] for name, array in self._arrays.items()}
            yield Feed(inputs, tuple(str(r) for r in rows), self._labels[rows], tuple(rows.tolist()))
