"""The rows of a tensor, from arrays in any of the shapes in which programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnexport.bundles.recorded.folder import Piece
from bnexport.bundles.recorded.formats import Stored
from bnexport.datasets.arrays.fit import shape_text
from bnexport.errors import InputError
from bnexport.types import Array


@dataclass(frozen=True, slots=True)
class Slots:
    """Where the rows of a tensor belong.

    Args:
        wanted: the tensor of each data set, as the bundle holds it.
        counts: how many items each data set has.
    """

    wanted: Sequence[Array]
    counts: Sequence[int]

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.wanted[0].shape[1:]

    @property
    def free(self) -> bool:
        """Whether the number of rows depends on the data, so that they belong to no item."""
        return any(x.ndim == 0 or len(x) != n for x, n in zip(self.wanted, self.counts, strict=True))

    def accepts(self, pieces: Sequence[Piece]) -> bool:
        """Whether arrays can be this tensor, by their shapes."""
        if self.free:
            return all(piece.stored.array.ndim == self.wanted[0].ndim and piece.item is None for piece in pieces)
        return all(_as_rows(piece.stored, self._count(piece), self.row) is not None for piece in pieces)

    def _count(self, piece: Piece) -> int:
        if piece.item is not None:
            return 1
        return sum(self.counts) if piece.part is None else self.counts[piece.part]

    def assign(self, pieces: Sequence[Piece], name: str, notes: list[str]) -> tuple[dict[int, Array], dict[int, Array]]:
        """The rows by item, and the arrays by data set where rows belong to no item.

        Raises:
            InputError: an array has another shape, or two files hold the same rows.
        """
        rows: dict[int, Array] = {}
        whole: dict[int, Array] = {}
        begins = np.concatenate([[0], np.cumsum(self.counts)]).tolist()
        for piece in pieces:
            if self.free:
                part = piece.part if piece.part is not None else 0 if len(self.counts) == 1 else None
                if part is None or piece.item is not None:
                    raise InputError(
                        f"{piece.path} cannot be assigned to a data set of the bundle",
                        expected=f"one file for each data set, because the number of rows of {name} depends on the data",
                    )
                whole[part] = piece.stored.array
                continue
            count = self._count(piece)
            brought = _as_rows(piece.stored, count, self.row)
            if brought is None:
                raise InputError(
                    f"{piece.path} does not have the shape of {name}",
                    found=str(piece.stored.array.shape),
                    expected=shape_text((count, *self.row)),
                )
            values, note = brought
            notes += [f"{name}: {note}"] if note else []
            begin = piece.item if piece.item is not None else 0 if piece.part is None else begins[piece.part]
            for offset, row in enumerate(values):
                if begin + offset in rows:
                    raise InputError(f"{piece.path} holds {name} for an item that another file has, too")
                rows[begin + offset] = row
        return rows, whole


def _as_rows(stored: Stored, count: int, row: tuple[int, ...]) -> tuple[Array, str] | None:
    """An array as `count` rows of a shape, and what was changed for that; None where it does not fit.

    >>> _as_rows(Stored(np.zeros((8, 9, 3))), 1, (3, 8, 9))[1]
    'NHWC, transposed'
    """
    array, size = stored.array, int(np.prod(row, dtype=np.int64))
    if array.size != count * size:
        return None
    if stored.flat or (array.ndim <= 2 and len(row) > 1 and array.shape in ((count, size), (count * size,))):
        return array.reshape(count, *row), "" if stored.flat else "flat, brought to the shape of the bundle"
    shape = array.shape if array.ndim == len(row) + 1 else (1, *array.shape) if count == 1 else array.shape
    own = "" if len(row) != 3 else "NHWC" if row[2] in (1, 3, 4) and row[0] not in (1, 3, 4) else "NCHW"
    other = {"NHWC": "NCHW", "NCHW": "NHWC"}.get(own, "")
    turned = {"NHWC": (0, 2, 3, 1), "NCHW": (0, 3, 1, 2)}.get(own)
    if turned is not None and stored.layout != own and len(shape) == 4:
        there = np.transpose(array.reshape(shape), turned)
        if there.shape == (count, *row) and (stored.layout == other or shape != (count, *row)):
            return there, f"{other}, transposed"
    if shape == (count, *row):
        return array.reshape(shape), ""
    if [side for side in shape if side != 1] == [side for side in (count, *row) if side != 1]:
        return array.reshape(count, *row), "axes of size 1 added or removed"
    return None
