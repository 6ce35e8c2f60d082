"""Rows whose number depends on the data (NonMaxSuppression, NonZero): matched, never compared by position."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnexport.comparison.sides import Outputs
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics.rows import CLOSE, are_close, match_rows
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.selections import selecting_graph
from bnexport.results.actions import spell_options
from bnexport.results.heads import Selection
from bnexport.results.rows import RowCounts
from bnexport.runtimes import ort_session
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

NEARBY = 0.1
"""How far the numbers of partners may be apart at reduced precision, and in two modes, relative to the size of their column."""

Tables = dict[str, tuple[Array, Array]]
"""The rows of each tensor on both sides, shape (R, values)."""


class Reselection:
    """Chooses rows as a graph does, from tensors that another run computed.

    Where two runs select other rows this says whether the tensors explain it, or the selection itself differs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._sessions: dict[str, tuple[ort_session.Session, list[str]] | None] = {}

    def rows(self, index: str, given: Mapping[str, Array]) -> Array | None:
        """The indices that the graph chooses; None where they depend on more than these tensors."""
        try:
            if index not in self._sessions:
                made = selecting_graph(self._model, index, {name: x.dtype for name, x in given.items()})
                self._sessions[index] = (
                    None if made is None else (ort_session.Session(serialise(made[0]), optimized=False), made[1])
                )
            opened = self._sessions[index]
            if opened is None:
                return None
            session, names = opened
            return session.run({name: given[name] for name in names}, [index])[index]
        except InputError:
            return None  # onnxruntime does not run these nodes alone: nothing is explained


class SelectedRows:
    """Which of the rows of two runs are which, batch by batch.

    Args:
        selections: the tensors whose rows are matched.
        inner: those that are no outputs.
        reselection: chooses rows as the reference does; None where there is no such graph.
    """

    def __init__(
        self,
        selections: Mapping[str, Selection] | None = None,
        inner: Collection[str] = (),
        reselection: Reselection | None = None,
    ) -> None:
        self._selections, self._inner, self._reselection = selections or {}, inner, reselection
        self.counts: dict[str, RowCounts] = {}
        """How many rows there are, by tensor; tensors that belong together have the same ones."""
        self.worse = False
        """Whether the last batch had more rows without a partner than any before."""
        self._most = 0

    def match(self, feed: Feed, actual: Outputs, reference: Outputs, *, strict: bool = True) -> Tables:
        """The rows of one batch that are partners, by tensor, in the order of the reference."""
        matched: Tables = {}
        unmatched = 0
        for names, tables in self._groups(len(feed.names), actual, reference):
            pairs, kept = self._match(names, tables, CLOSE if strict else NEARBY)
            rows, columns = pairs
            matched |= {name: (a[rows], r[columns]) for name, (a, r) in zip(names, tables, strict=True)}
            lost = sum(len(x) for x in tables[0]) - 2 * len(rows)
            unmatched += lost
            unexplained = self._count_unexplained(names, feed, actual) if lost and kept and strict else None
            for name in names:
                counts = self.counts.setdefault(name, RowCounts())
                counts.add(len(tables[0][0]), len(tables[0][1]), len(rows), unexplained)
            for name in set(names) - set(kept):
                matched[name] = (matched[name][0][:0], matched[name][1][:0])
        self.worse = unmatched > self._most
        self._most = max(self._most, unmatched)
        return matched

    def without_partner(self, compared: Collection[str]) -> Iterator[tuple[tuple[str, ...], RowCounts]]:
        """The tensors that have rows without a partner, those that belong together in one entry, those of `compared` first."""
        groups: dict[str, list[str]] = {}
        for name, counts in self.counts.items():
            if counts.unmatched:
                groups.setdefault(self._selections[name].group or name, []).append(name)
        for names in groups.values():
            outputs = [name for name in names if name not in self._inner] or names
            yield tuple(sorted(outputs, key=lambda name: name not in compared)), self.counts[outputs[0]]

    def _groups(
        self, items: int, actual: Outputs, reference: Outputs
    ) -> Iterator[tuple[list[str], list[tuple[Array, Array]]]]:
        """Tensors that belong together, with their rows on both sides."""
        groups: dict[tuple[str, int, int], list[tuple[str, tuple[Array, Array]]]] = {}
        for name, selection in self._selections.items():
            if name not in actual or name not in reference:
                continue
            if (tables := _tables(actual[name], reference[name], selection, items)) is not None:
                key = (selection.group, len(tables[0]), len(tables[1]))
                groups.setdefault(key, []).append((name, tables))
        for group in groups.values():
            yield [name for name, _ in group], [tables for _, tables in group]

    def _match(
        self, names: Sequence[str], tables: Sequence[tuple[Array, Array]], close: float
    ) -> tuple[tuple[Array, Array], Sequence[str]]:
        """The positions of partners, and the tensors that they are partners by."""
        naming = next((nth for nth, name in enumerate(names) if self._selections[name].names_rows), None)
        pairs = match_rows([a for a, _ in tables], [r for _, r in tables], naming, close)
        if naming is None or names[naming] not in self._inner or len(names) == 1:
            return pairs, names
        rest = [nth for nth in range(len(names)) if nth != naming]
        actual, reference = [tables[nth][0] for nth in rest], [tables[nth][1] for nth in rest]
        alike = are_close([x[pairs[0]] for x in actual], [x[pairs[1]] for x in reference], close)
        if alike.all() and len(alike) == min(len(x) for x in tables[0]):
            return pairs, names
        others = match_rows(actual, reference, None, close)
        if len(others[0]) > np.count_nonzero(
            alike
        ):  # the file sorts its rows behind the selection, or numbers what it chooses from otherwise
            return others, [names[nth] for nth in rest]
        return pairs, names

    def _count_unexplained(self, names: Sequence[str], feed: Feed, actual: Outputs) -> int | None:
        """How many of the rows of a run the reference's selection would not choose from what this run computed, and the other way round."""
        if self._reselection is None:
            return None
        for name in names:
            selection = self._selections[name]
            if not selection.names_rows or not selection.group:
                continue
            chosen = self._reselection.rows(selection.group, {**feed.inputs, **actual})
            if chosen is None:
                return None
            sides = _tables(actual[name], chosen, selection, -1)
            if sides is None:
                return None
            rows, _ = match_rows([sides[0]], [sides[1]], 0)
            return len(sides[0]) + len(sides[1]) - 2 * len(rows)
        return None


def _tables(actual: Array, reference: Array, selection: Selection, items: int) -> tuple[Array, Array] | None:
    """The rows of both sides; None where they are no such rows, or are items."""
    axis = selection.axis
    if actual.ndim != reference.ndim or not 0 <= axis < actual.ndim:
        return None
    a, r = np.moveaxis(actual, axis, 0), np.moveaxis(reference, axis, 0)
    if a.shape[1:] != r.shape[1:] or a.dtype.kind != r.dtype.kind:
        return None
    if not selection.certain and axis == 0 and len(a) == len(r) == items:
        return None
    width = int(np.prod(a.shape[1:]))
    return a.reshape(len(a), width), r.reshape(len(r), width)


def join_rows(parts: Sequence[Array], selection: Selection, size: int) -> Array:
    """The selected rows of parts of a batch as those of the whole batch.

    Args:
        parts: what a run selects from each part.
        selection: what it is.
        size: how many items a part has: the positions of items are raised by it.
    """
    raised = []
    for nth, part in enumerate(parts):
        if selection.batch is not None and nth and part.size:
            part = np.moveaxis(part, selection.axis, -1).copy()
            part[selection.batch] += np.asarray(nth * size).astype(part.dtype)
            part = np.moveaxis(part, -1, selection.axis)
        raised.append(part)
    return np.concatenate(raised, axis=selection.axis)


def join_parts(
    parts: Sequence[Outputs], rows: Mapping[str, Selection], size: int, count: int, path: str
) -> dict[str, Array]:
    """The selected rows of a file that runs batches of one size, without those of items that fill up the last batch.

    Args:
        parts: what it computes for each batch.
        rows: the tensors whose rows are selected.
        size: how many items a batch has.
        count: how many there are in all.
        path: the file, for errors.

    Raises:
        InputError: the last batch was filled up, and nothing says which rows are whose.
    """
    names = [name for name in rows if all(name in part for part in parts)]
    last = {name: parts[-1][name] for name in names}
    valid = count - size * (len(parts) - 1)
    for name in names if valid < size else []:
        group = rows[name].group
        index = next((n for n in names if rows[n].batch is not None and rows[n].group == group), None)
        if index is None:
            raise InputError(
                f"which selected rows of {path} belong to which item is not known, and its batch size is fixed",
                found=f"{count} items in batches of {size}",
                fix=f"pass a multiple of {size} items with {spell_options(batch_size=size)}",
            )
        items = np.moveaxis(parts[-1][index], rows[index].axis, 0)[:, rows[index].batch]
        last[name] = np.compress(np.less(items, valid), last[name], axis=rows[name].axis)
    return {name: join_rows([*(part[name] for part in parts[:-1]), last[name]], rows[name], size) for name in names}


def number_items(parts: Sequence[Array], whole: Array, selection: Selection) -> Array:
    """`join_rows` for items that were run alone, also where only the values show that a column counts the items of a batch."""
    if selection.batch is not None or selection.axis or whole.ndim != 2 or not whole.size:
        return join_rows(parts, selection, 1)
    joined = np.concatenate(parts)
    for column in range(whole.shape[1]):
        values = whole[:, column]
        counts = np.isin(values, range(len(parts))).all() and values.max() > 0
        if counts and joined.shape[1:] == whole.shape[1:] and not joined[:, column].any():
            joined[:, column] = np.repeat(np.arange(len(parts)), [len(part) for part in parts]).astype(joined.dtype)
    return joined
