"""Why a file differs from outputs that were recorded: they are its own in another form, or of images prepared otherwise, or it computes something else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bnexport.checking.artifact_causes import prepared_otherwise
from bnexport.comparison.pairs import Lost
from bnexport.comparison.recorded import Recorded
from bnexport.comparison.sides import Runner
from bnexport.comparison.tally import Tally
from bnexport.errors import InputError
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.verdict import Finding
from bnexport.rules import export, interface

MOST = 1 << 26
"""So many differences of values at most are computed to find rows."""


def explain_recorded(
    recorded: Recorded, lost: Lost, runner: Runner, spec: Preprocessing | None, tally: Tally
) -> Finding:
    """The finding that names the cause.

    Args:
        recorded: the outputs.
        lost: the run of the file, and the batch that shows it.
        runner: the run of the file.
        spec: how images are prepared; None for arrays.
        tally: what was seen.
    """
    for how, what_to_do in recorded_forms(recorded, lost, tally):
        return interface.recorded_in_another_form(lost.failed, how, what_to_do)
    for how, other in prepared_otherwise(spec, lost.feed.inputs, lost.wanted):
        try:
            if tally.agree(runner.mode, runner.compute(other), lost.wanted):
                return interface.recorded_otherwise(lost.failed, how)
        except InputError:  # the file does not run so
            continue
    reference = lost.pair.expectation.reference
    return export.parity_lost(lost.failed, runner.spec, reference, None, (), "the recorded outputs")


def recorded_forms(recorded: Recorded, lost: Lost, tally: Tally) -> Iterator[tuple[str, str]]:
    """The forms in which recorded outputs are those of a file, and what to do about each, in words.

    Args:
        recorded: the outputs.
        lost: the run of the file that differs from them, and a batch that shows it.
        tally: what was seen.
    """
    for name, rows in lost.wanted.items():
        logits = lost.actual.get(f"{name}/logits")
        if logits is None or logits.shape != rows.shape:
            continue
        if tally.agree("inference", {"logits": logits}, {"logits": rows}):
            yield f"the array for {name} holds the logits, before the last activation", f"record {name} itself"
    partners = _rows_elsewhere(recorded, lost)
    if partners is not None and lost.feed.positions is not None:
        nth = next(n for n, (row, at) in enumerate(zip(partners, lost.feed.positions, strict=True)) if row != at)
        yield (
            f"the rows are in another order: the outputs for item {lost.feed.positions[nth] + 1} of the data "
            f"({lost.feed.names[nth]}) are in row {partners[nth] + 1}",
            "record one row for each item in the order of the data: sorted paths, or the rows of the arrays",
        )


def _rows_elsewhere(recorded: Recorded, lost: Lost) -> list[int] | None:
    """The recorded row that each item of a batch has, each another one; None where not all have one, or all have their own."""
    count, positions = len(lost.feed.names), lost.feed.positions
    close: NDArray[np.bool_] | None = None
    for comparison in lost.failed:
        name = next((n for n in recorded.outputs if lost.pair.heads.shown(n) == comparison.tensor), None)
        if name is None or name not in lost.actual or not comparison.difference.scale:
            return None
        rows = np.asarray(recorded.outputs[name], np.float64).reshape(len(recorded.outputs[name]), -1)
        actual = np.asarray(lost.actual[name], np.float64).reshape(count, -1)
        if rows.shape[1] != actual.shape[1] or rows.size * count > MOST:
            return None
        limit = comparison.tolerance * comparison.difference.scale
        near = np.array([(np.abs(rows - one) <= limit).all(axis=1) for one in actual])
        close = near if close is None else close & near
    if close is None or positions is None:
        return None
    partners: list[int] = []
    for nth in np.argsort(close.sum(axis=1), kind="stable"):  # those with the fewest first: equal rows have several
        free = [int(row) for row in np.flatnonzero(close[nth]) if int(row) not in partners]
        if not free:
            return None
        partners.append(positions[nth] if positions[nth] in free else free[0])
    order = np.argsort(np.argsort(close.sum(axis=1), kind="stable"), kind="stable")
    return [partners[at] for at in order]
