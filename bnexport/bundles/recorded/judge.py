"""What a recording shows: the run of another program, and whether its preprocessing or its runtime is the cause where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnexport.bundles.bundle import Bundle
from bnexport.bundles.recorded.recording import Part, Recording
from bnexport.comparison.sides import Runner
from bnexport.comparison.tally import Tally
from bnexport.errors import InputError, MachineError
from bnexport.progress import Progress
from bnexport.results.identified import Identified
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.runs import RECORDED, RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison, Finding, Side
from bnexport.rules import recorded as rules, runtime
from bnexport.rules.interface import outputs_matched
from bnexport.rules.recorded import Inputs
from bnexport.types import Array

SAME = 1e-5
"""Inputs are the same within this share of their scale: float32 arithmetic in another order moves them by less."""

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
    findings.append(runtime.not_finite(not_finite, len(recording.rows)))
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
        spec = self._spec
        own = None
        if spec is not None:
            from bnexport.datasets.identify.identify import own_steps

            own = own_steps(spec)
        findings = [rules.prepared_differently(_RUN.id, inputs, way, own, failed, runtime_right=right)]
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
        agrees = self._agrees(lambda part: part.feed.inputs, lambda part: part.wanted)
        cause = "its inputs were not recorded, so the preprocessing of that program or its runtime may be the cause"
        return [rules.recorded_runtime_differs(failed, cause, onnxruntime_agrees=agrees, inputs="not recorded")]

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
        if spec is None:
            return None
        from bnexport.datasets.identify.identify import identify
        from bnexport.datasets.identify.sources import read_source

        self.progress.stage("looking for the preprocessing of the recorded inputs")
        [name] = self.index.inputs
        items = [item for part in self.index.sets for item in part.items]
        rows = [row for part in self.recording.parts for row in part.inputs[name]]
        sources, kept = [], []
        for position, row in zip(self.recording.rows, rows, strict=True):
            source = read_source(items[position].name, self.contents[items[position].file])
            if source is not None:
                sources.append(source)
                kept.append(row)
        if not sources or kept[0].ndim != 3 or spec.channels not in (1, 3):
            return None
        return identify(sources, kept, spec.layout, spec)


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
            if not distance <= SAME:
                far[name] = max(far.get(name, 0.0), distance)
                if part.inputs[name].dtype != wanted.dtype and part.inputs[name].dtype.kind != wanted.dtype.kind:
                    dtypes[name] = str(part.inputs[name].dtype)
    return Inputs(far, dtypes) if far else None
