"""The error that a file's precision explains, measured on a batch: the file in float32 with noise of one step wherever it rounds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.comparison.pairs import Lost
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.tally import Tally
from bnexport.errors import InputError
from bnexport.onnx_graph.float_form import float_form
from bnexport.onnx_graph.half_form import as_if_half, half_form
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.quantised_sites import FloatForm
from bnexport.progress import Progress
from bnexport.results.rounding import Cost, Rounding
from bnexport.runtimes import ort_session
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

IMAGES = 16
"""The error is measured on so many items of a batch: the worst one, and the first ones."""

PASSES, MORE_PASSES, FEW_VALUES = 4, 12, 64
"""So many passes with other noise; more where an output has so few values that they may all be lucky."""


@dataclass(slots=True)
class OpenForm:
    """A run whose precision is reduced, in float32.

    Args:
        runner: the run.
        form: its graph in float32.
        session: the graph, opened.
        feeds: some items of the batch on which the run is furthest from its reference.
        rows: their positions in the batch.
        actual: what the run computes for them.
        reference: what the reference computes for them.
        base: what the form computes without noise.
    """

    runner: Runner
    form: FloatForm
    session: ort_session.Session
    feeds: Feeds
    rows: Sequence[int]
    actual: Outputs
    reference: Outputs
    base: Outputs

    def run(self, quantise: Array | float = 0.0, noise: Array | float = 0.0) -> Outputs:
        """The outputs for the items where some sites are quantised and some have noise (`FloatForm.gates`)."""
        return _compute(self.runner, self.session, self.form.gates(quantise, noise), self.feeds)


def measure(
    tally: Tally, runners: Sequence[Runner], reference: onnx.ModelProto | None, progress: Progress
) -> dict[str, OpenForm]:
    """Measures what reduced precision explains for every run that has it; the tally's verdicts follow it from then on.

    Args:
        tally: what was seen.
        runners: everything that was run.
        reference: the float graph, where there is one.
        progress: notified where anything is measured.

    Returns:
        The runs in float32, by id. Those that cannot be brought to float32 are left out, and judged by stated limits.
    """
    by_id = {runner.id: runner for runner in runners}
    forms: dict[str, OpenForm] = {}
    for lost in tally.of_reduced_precision():
        runner = by_id[lost.pair.actual]
        progress.stage("measuring what the precision explains")
        try:
            opened = _open(runner, lost, reference, tally.heads.rows)
            cost = None if opened is None else _cost(opened, tally.heads.natural)
        except InputError as error:
            progress.note(f"the error that the precision of {runner.id} explains cannot be measured: {error}")
            continue
        if opened is not None and cost is not None:
            tally.add_cost(lost.pair, cost)
            forms[runner.id] = opened
    return forms


def _open(runner: Runner, lost: Lost, reference: onnx.ModelProto | None, selected: Collection[str]) -> OpenForm | None:
    if runner.graph is None:
        return None
    graph = runner.graph()
    form = float_form(graph, reference) if runner.quantised is not None else half_form(graph)
    return _open_form(runner, form, lost, selected)


def cost_as_if(runner: Runner, precision: str, lost: Lost, tally: Tally) -> Cost | None:
    """What computing in 16 bits would explain of a run whose file is in float32; None where that cannot be measured.

    Args:
        runner: the run.
        precision: "float16" or "bfloat16".
        lost: the run and its reference.
        tally: what was seen.
    """
    if runner.graph is None or runner.quantised is not None:
        return None
    try:
        opened = _open_form(runner, as_if_half(runner.graph(), precision), lost, tally.heads.rows)
        return None if opened is None else _cost(opened, tally.heads.natural)
    except InputError:
        return None  # the graph does not run so


def _open_form(runner: Runner, form: FloatForm | None, lost: Lost, selected: Collection[str]) -> OpenForm | None:
    if form is None or runner.over is None or lost.pair.broken:
        return None
    session = ort_session.Session(serialise(form.graph), optimized=False)
    count = len(lost.feed.names)
    outputs, wanted_outputs = (
        {name: x for name, x in of_batch.items() if name not in selected}
        for of_batch in (runner.compute(lost.feed.inputs), lost.wanted)
    )
    rows = _rows(outputs, wanted_outputs, count)
    feeds = {name: x[rows] for name, x in lost.feed.inputs.items()}
    actual, wanted = (
        {name: x[rows] for name, x in of_batch.items() if _by_item(x, count)} for of_batch in (outputs, wanted_outputs)
    )
    return OpenForm(runner, form, session, feeds, rows, actual, wanted, _compute(runner, session, form.gates(), feeds))


def _compute(runner: Runner, session: ort_session.Session, gates: Feeds, feeds: Feeds) -> Outputs:
    if runner.over is None:
        raise InputError(f"{runner.id} cannot be run in float32")
    return runner.over(lambda given, names: session.run({**given, **gates}, names))(feeds)


def _rows(actual: Outputs, wanted: Outputs, count: int) -> list[int]:
    """The first items of a batch, the worst one among them."""
    worst = np.zeros(count)
    for name, x in wanted.items():
        if name in actual and _by_item(x, count) and actual[name].shape == x.shape:
            apart = np.abs(apart_by(actual[name], x)).reshape(count, -1).max(axis=1)
            worst = np.maximum(worst, np.nan_to_num(apart, nan=np.inf) / (np.abs(x).max() or 1.0))
    return sorted({*range(min(count, IMAGES)), int(np.argmax(worst))})


def _by_item(x: Array, count: int) -> bool:
    return bool(x.ndim) and x.dtype.kind == "f" and len(x) == count and x.size > 0


def _cost(opened: OpenForm, natural: Mapping[str, float]) -> Cost | None:
    """What the precision explains, and what the run is off; None where nothing can be measured."""
    actual = opened.actual
    names = [
        name
        for name in sorted(opened.reference, key=lambda name: not name.endswith("/logits"))
        if name in actual and name in opened.base and np.isfinite(opened.base[name]).all()
    ]
    if not names:
        return None
    passes = MORE_PASSES if min(opened.reference[name].size for name in names) < FEW_VALUES else PASSES
    noisy = [opened.run(noise=1.0) for _ in range(passes)]
    tensors: dict[str, Rounding] = {}
    for name in names:
        reference, base = opened.reference[name], opened.base[name]
        expected_rms = max(rms(values[name], base) for values in noisy)
        expected_max = max(float(np.abs(apart_by(values[name], base)).max()) for values in noisy)
        logits = tensors.get(f"{name}/logits")
        if logits is not None and name in natural:  # softmax and sigmoid halve a difference at least
            expected_rms = max(expected_rms, min(logits.expected_rms / 2, natural[name]))
            expected_max = max(expected_max, min(logits.expected_max / 2, natural[name]))
        tensors[name] = Rounding(
            expected_rms,
            expected_max,
            rms(actual[name], reference),
            float(np.abs(apart_by(actual[name], reference)).max()),
            rms(reference, np.zeros(1)),
            rms(base, reference),
        )
    return Cost(tensors, len(opened.rows), passes)


def rms(actual: Array, reference: Array) -> float:
    """The root of the mean square of a difference, in float64."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.sqrt(np.mean(np.square(apart_by(actual, reference)))))


def apart_by(actual: Array, reference: Array) -> NDArray[np.float64]:
    """Actual less reference, in float64."""
    with np.errstate(invalid="ignore"):
        return np.asarray(actual, np.float64) - np.asarray(reference, np.float64)
