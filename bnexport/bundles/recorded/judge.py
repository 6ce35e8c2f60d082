"""What a recording shows: the run of another program, and whether its preprocessing or its runtime is the cause where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.bundles.bundle import Bundle
from bnexport.bundles.recorded.recording import Part, Recording
from bnexport.comparison.sides import Runner
from bnexport.comparison.tally import Tally
from bnexport.errors import InputError, MachineError
from bnexport.progress import Progress
from bnexport.results.identified import Identified, Steps
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.runs import RECORDED, RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison, Finding, Side
from bnexport.rules import recorded as rules, runtime
from bnexport.rules.interface import outputs_matched
from bnexport.rules.recorded import Inputs
from bnexport.types import Array

if TYPE_CHECKING:
    from bnexport.datasets.identify.sources import Source

SAME = 1e-5
"""Inputs are the same within this share of their scale: float32 arithmetic in another order moves them by less."""

SEARCHED = 3
"""Outputs are searched on so many pictures."""

SAME_HALF = 2.0**-10
"""The same for inputs that were recorded in float16."""

_RUN = RunSpec(RECORDED, "inference", "")

_Take = Callable[[Part], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is added to the report of a bundle.

    Args:
        side: the run of the program.
        comparisons: its outputs against those of the bundle.
        findings: what follows.
    """

    side: Side
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding | None, ...]


def judge(
    recording: Recording,
    index: Bundle,
    contents: Mapping[str, bytes],
    stored: RunSpec,
    open_onnxruntime: Callable[[], Runner],
    tolerances: Tolerances,
    progress: Progress,
) -> Judgement:
    """What a recording shows.

    Args:
        recording: what was recorded.
        index: of the bundle.
        contents: of its files.
        stored: the run whose outputs the bundle holds.
        open_onnxruntime: opens the packed model in onnxruntime.
        tolerances: how close is close enough.
        progress: notified of the stage.
    """
    tally = Tally([stored, _RUN], index.heads, tolerances)
    for part in recording.parts:
        tally.begin(part.feed, part.wanted)
        tally.add(stored.id, part.feed, part.wanted, {})
        tally.add(_RUN.id, part.feed, part.outputs, {stored.id: part.wanted})
    comparisons, _ = tally.judge((), ())
    failed = [comparison for comparison in comparisons if not comparison]
    not_finite = {side: count for side, count in tally.answers.not_finite.items() if side == _RUN.id}
    findings: list[Finding | None] = [outputs_matched(recording.notes)]
    findings.append(runtime.not_finite(not_finite, len(recording.rows), inputs=tally.answers.broken_before(not_finite)))
    inquiry = _Inquiry(recording, index, contents, open_onnxruntime, tally, progress)
    findings += inquiry.findings(failed)
    return Judgement(tally.answers.side(_RUN, 0.0), tuple(comparisons), tuple(findings))


@dataclass(frozen=True, slots=True)
class _Inquiry:
    """What is needed to find out."""

    recording: Recording
    index: Bundle
    contents: Mapping[str, bytes]
    open_onnxruntime: Callable[[], Runner]
    tally: Tally
    progress: Progress

    def findings(self, failed: Sequence[Comparison]) -> list[Finding]:
        if not self.recording.has_inputs:
            return self._without_inputs(failed) if failed else []
        inputs = compare_inputs(self.recording)
        if inputs is None:
            return [self._runtime_is_wrong(failed)] if failed else []
        right = self._runtime_right()
        way = self._search()
        findings = [rules.prepared_differently(_RUN.id, inputs, way, self._own_steps, failed, runtime_right=right)]
        if failed and right is False:
            cause = "its inputs differ, and onnxruntime computes other outputs from them than were recorded, so both are wrong"
            findings.append(rules.recorded_runtime_differs(failed, cause, onnxruntime_agrees=None, inputs="different"))
        return findings

    @property
    def _spec(self) -> Preprocessing | None:
        return Preprocessing.from_dict(dict(self.index.preprocessing)) if self.index.preprocessing else None

    def _runtime_is_wrong(self, failed: Sequence[Comparison]) -> Finding:
        agrees = self._agrees(lambda part: part.feed.inputs, lambda part: part.wanted)
        cause = {
            True: "its inputs are those of the bundle, from which onnxruntime computes the stored outputs, so its runtime is the cause",
            False: "its inputs are those of the bundle, but onnxruntime on this machine does not compute the stored outputs from them either",
            None: "its inputs are those of the bundle, so its runtime is the cause",
        }[agrees]
        return rules.recorded_runtime_differs(failed, cause, onnxruntime_agrees=agrees, inputs="same")

    def _without_inputs(self, failed: Sequence[Comparison]) -> list[Finding]:
        way = self._search_by_outputs()
        if way is not None and way.named and not self.tally.tolerances.given:  # a wide tolerance proves nothing
            own = self._own_steps
            return [rules.prepared_differently(_RUN.id, None, way, own, failed, runtime_right=None)]
        agrees = self._agrees(lambda part: part.feed.inputs, lambda part: part.wanted)
        cause = "its inputs were not recorded, so the preprocessing of that program or its runtime may be the cause"
        if way is not None:
            cause += f"; {rules.describe_way(way)}"
        return [rules.recorded_runtime_differs(failed, cause, onnxruntime_agrees=agrees, inputs="not recorded")]

    @property
    def _own_steps(self) -> Steps | None:
        if self._spec is None:
            return None
        from bnexport.datasets.identify.identify import own_steps

        return own_steps(self._spec)

    def _runtime_right(self) -> bool | None:
        """Whether the recorded outputs are what onnxruntime computes from the recorded inputs; None where it cannot run them."""
        return self._agrees(
            lambda part: {name: x.astype(part.feed.inputs[name].dtype) for name, x in part.inputs.items()},
            lambda part: part.outputs,
        )

    def _agrees(self, feeds: _Take, outputs: _Take) -> bool | None:
        try:
            runner = self.open_onnxruntime()
            computed_parts = [runner.compute(feeds(part)) for part in self.recording.parts]
        except (InputError, MachineError) as error:
            self.progress.note(f"onnxruntime does not run the packed model on these inputs: {error}")
            return None
        for part, computed in zip(self.recording.parts, computed_parts, strict=True):
            wanted = outputs(part)
            same = {name: x for name, x in computed.items() if name in wanted}
            if not self.tally.agree("inference", dict(wanted), same):
                return False
        return True

    def _search(self) -> Identified | None:
        """How the recorded inputs were made of the pictures; None where the bundle has none."""
        spec = self._spec
        if spec is None or spec.channels not in (1, 3):
            return None
        from bnexport.datasets.identify.identify import identify

        self.progress.stage("looking for the preprocessing of the recorded inputs")
        [name] = self.index.inputs
        rows = [row for part in self.recording.parts for row in part.inputs[name]]
        some = [(source, row) for source, row in zip(self._sources(), rows, strict=True) if source is not None]
        if not some or some[0][1].ndim != 3:
            return None
        return identify([source for source, _ in some], [row for _, row in some], spec.layout, spec)

    def _search_by_outputs(self) -> Identified | None:
        """How the inputs were made of the pictures that give the recorded outputs; None where that cannot be tried."""
        spec, part = self._spec, self.recording.parts[0]
        if spec is None or spec.channels not in (1, 3) or part.feed.inputs[self.index.inputs[0]].ndim != 4:
            return None
        from bnexport.datasets.identify.by_outputs import OutputSearch

        rows = list(range(len(part.feed.names)))[:SEARCHED]
        sources = self._sources()[: len(rows)]
        wanted = {key: x[rows] for key, x in part.outputs.items() if len(x) == len(part.feed.names)}
        if any(source is None for source in sources) or not wanted:
            return None
        try:
            runner = self.open_onnxruntime()
        except (InputError, MachineError) as error:
            self.progress.note(f"onnxruntime does not run the packed model: {error}")
            return None
        self.progress.stage("looking for the preprocessing that gives the recorded outputs")
        name = self.index.inputs[0]
        given = self._smallest_batch(runner, name, part.feed.inputs[name], len(rows))

        def distance(x: NDArray[np.float32]) -> float:
            given[: len(rows)] = x.astype(given.dtype)
            try:
                computed = runner.compute({name: given})
            except InputError:
                return float("inf")
            same = {key: computed[key][: len(rows)] for key in wanted}
            if self.tally.agree("inference", wanted, same):
                return 0.0
            squash = self.index.heads.squash
            return max(_far(wanted[key], value, logarithm=key in squash) for key, value in same.items())

        return OutputSearch([source for source in sources if source is not None], spec, distance).identify()

    def _smallest_batch(self, runner: Runner, name: str, batch: Array, count: int) -> Array:
        """A copy of the first items of a batch; of all where the model takes no smaller one."""
        try:
            runner.compute({name: batch[:count]})
        except InputError:
            return batch.copy()
        return batch[:count].copy()

    def _sources(self) -> list[Source | None]:
        """The pictures of the recorded items; None for those that are too large to be searched."""
        from bnexport.datasets.identify.sources import read_source

        items = [item for part in self.index.sets for item in part.items]
        chosen = [items[row] for row in self.recording.rows]
        return [read_source(item.name, self.contents[item.file]) for item in chosen]


def _far(actual: Array, reference: Array, *, logarithm: bool) -> float:
    """The root mean square of a difference, relative to the scale; infinite where it is not defined.

    Args:
        actual: the outputs that were recorded.
        reference: those that are computed.
        logarithm: whether they are probabilities, whose logarithms move as the logits do.
    """
    if actual.shape != reference.shape or actual.dtype.kind not in "biuf":
        return float("inf")
    a, r = np.asarray(actual, np.float64), np.asarray(reference, np.float64)
    if logarithm:
        a, r = (np.log(np.clip(x, 1e-12, None)) for x in (a, r))
    far = float(np.sqrt(np.mean((a - r) ** 2))) / (float(np.abs(r).max(initial=0.0)) or 1.0)
    return far if np.isfinite(far) else float("inf")


def compare_inputs(recording: Recording) -> Inputs | None:
    """How the recorded inputs differ from those of the bundle; None where they are the same."""
    far: dict[str, float] = {}
    dtypes: dict[str, str] = {}
    for part in recording.parts:
        for name, wanted in part.feed.inputs.items():
            if wanted.dtype.kind not in "biuf":
                far |= {} if np.array_equal(wanted, part.inputs[name]) else {name: 1.0}
                continue
            a, b = (np.asarray(x, np.float64) for x in (part.inputs[name], wanted))
            scale = float(np.abs(b).max(initial=0.0)) or 1.0
            distance = float(np.abs(a - b).max(initial=0.0)) / scale
            if not distance <= (SAME_HALF if part.inputs[name].dtype == np.float16 else SAME):
                far[name] = max(far.get(name, 0.0), distance)
                if part.inputs[name].dtype != wanted.dtype and part.inputs[name].dtype.kind != wanted.dtype.kind:
                    dtypes[name] = str(part.inputs[name].dtype)
    return Inputs(far, dtypes) if far else None
