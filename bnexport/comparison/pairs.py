"""Which sides of a check are held against which, and their differences, added up batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bnexport.comparison.sides import Outputs, Runner
from bnexport.datasets.feeds import Feed
from bnexport.numerics.compare import IncomparableError, RunningDifference


class Kind(StrEnum):
    """What is expected of two sides."""

    PARITY = "parity"
    """they must be equal"""
    MODES = "modes"
    """they are two modes of one runtime, and may differ"""
    QUANTISED = "quantised"
    """one of them is quantised: what that costs is measured"""
    REDUCED = "reduced"
    """one of them may compute in less than float32: how far it is is said"""
    ALTERNATIVE = "alternative"
    """nothing is expected; if they are equal that may explain why another pair is not"""


@dataclass(slots=True)
class Pair:
    """Two sides that are compared.

    Args:
        actual: the id of the side that is judged.
        reference: the id of the side it is judged by.
        mode: whose tolerance holds.
        kind: what is expected.
        running: the differences by tensor.
        broken: tensors that cannot be compared, with the reason.
        worst: the batch with the largest difference, or the one that could not be compared.
        natural: the size below which a tensor's scale is not taken, by tensor.
        inner: tensors that are compared where both sides give them out.
        selected: tensors whose number of rows depends on the data: it may be another one on both sides.
        uneven: in how many batches it was, by tensor.
        half: whether one of them computes in half precision.
    """

    actual: str
    reference: str
    mode: str
    kind: Kind
    running: dict[str, RunningDifference] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    worst: Feed | None = None
    natural: Mapping[str, float] = field(default_factory=dict)
    selected: frozenset[str] = frozenset()
    uneven: dict[str, int] = field(default_factory=dict)
    inner: frozenset[str] = frozenset()
    half: bool = False

    def add(self, feed: Feed, actual: Outputs, reference: Outputs) -> None:
        """Adds one batch; logits come first, since they decide and a saturated softmax hides everything."""
        names = sorted(dict.fromkeys([*actual, *reference]), key=lambda name: not name.endswith("/logits"))
        worse = False
        for name in names:
            if name in self.broken:
                continue
            if name not in actual or name not in reference:
                if (
                    not name.endswith("/logits") and name not in self.inner
                ):  # logits may be out of reach on one side, outputs may not be missing
                    without = self.actual if name not in actual else self.reference
                    self.broken[name] = f"{without} has no such output"
                    worse = True
                continue
            if name in self.selected and actual[name].shape != reference[name].shape:
                self.uneven[name] = self.uneven.get(name, 0) + 1
                continue
            if name in self.selected and not actual[name].size:
                continue  # nothing was selected, on both sides
            try:
                running = self.running.setdefault(name, RunningDifference(self.natural.get(name, 0.0)))
                worse |= running.add(actual[name], reference[name])
            except IncomparableError as error:
                self.running.pop(name)
                self.broken[name] = str(error)
                worse = True
        if worse:
            self.worst = feed


def pairs(runners: Sequence[Runner]) -> list[Pair]:
    """What is compared with what: every ONNX side with Keras' pass of its mode, or else with the first ONNX side of its mode; and both modes of one runtime."""
    keras = {runner.mode: runner for runner in runners if runner.runtime != "onnxruntime"}
    onnx = [runner for runner in runners if runner.runtime == "onnxruntime" and runner.parity]
    found = []
    for runner in onnx:
        reference = keras.get(runner.mode) or next((other for other in onnx if other.mode == runner.mode), runner)
        if reference is not runner:
            kind = Kind.QUANTISED if runner.quantised or reference.quantised else Kind.PARITY
            found.append(Pair(runner.id, reference.id, runner.mode, kind, half=runner.half))
        if runner.foreign and "training" in keras:
            found.append(Pair(runner.id, keras["training"].id, "training", Kind.ALTERNATIVE))
    found += [
        Pair(runner.id, keras[runner.mode].id, runner.mode, Kind.REDUCED)
        for runner in runners
        if runner.reduced and runner.mode in keras
    ]
    one_runtime = keras or {runner.mode: runner for runner in reversed(onnx)}
    if "training" in one_runtime:
        found.append(Pair(one_runtime["training"].id, one_runtime["inference"].id, "training", Kind.MODES))
    return found
