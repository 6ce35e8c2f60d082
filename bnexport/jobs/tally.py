"""Adding up a check batch by batch: differences between the sides, and each side's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.graph import tensors
from bnexport.jobs.feeds import Feed
from bnexport.jobs.sides import Outputs, Runner
from bnexport.jobs.subject import Subject
from bnexport.numerics import compare, findings
from bnexport.numerics.compare import IncomparableError, RunningDifference
from bnexport.numerics.verdict import Comparison, Difference, Finding, Severity, Side

_NOTHING = Difference(0, 0.0, float("nan"), float("nan"), float("nan"), 0.0, float("-inf"), 0, 0)


@dataclass(slots=True)
class _Pair:
    """Two sides that are compared on some tensors. `parity` pairs must be equal; the others are two modes of one runtime."""

    actual: str
    reference: str
    mode: str
    parity: bool
    running: dict[str, RunningDifference] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


class Tally:
    """What is known so far about a check.

    Args:
        runners: the sides.
        subject: what is checked.
        classes: class names from the sidecar or the folder.
        rtol: see `bnexport.jobs.check.check`.
    """

    def __init__(
        self, runners: Sequence[Runner], subject: Subject, classes: tuple[str, ...], rtol: float | None
    ) -> None:
        self.names: list[str] = []
        self.labels: list[int] = []
        self.classes = classes
        self._named_by_model = bool(subject.known and subject.known.classes)
        self._squash = {output: kind for output, (_, kind) in tensors.squashed(subject.graph).items()}
        self._outputs = [output.name for output in subject.graph.graph.output]
        self._half, self._rtol = subject.half, rtol
        self._pairs = _pairs(runners)
        self._deciding = ""
        self._answers: dict[str, list[NDArray[np.int64]]] = {runner.id: [] for runner in runners}
        self._confidence: dict[str, list[NDArray[Any]]] = {runner.id: [] for runner in runners}
        self.not_finite: dict[str, int] = {}

    def add(self, feed: Feed, outputs: Mapping[str, Outputs]) -> None:
        """One more batch: what was fed, and what each side made of it.

        Raises:
            InputError: a label is not a class of the model.
        """
        if not self.names:
            self._decide(next(iter(outputs.values())))
        self.names += feed.names
        self.labels += self._usable(feed.labels, outputs).tolist()
        for side, values in outputs.items():
            if count := int(
                np.count_nonzero(
                    np.logical_or.reduce([_broken_rows(values[o], len(feed.names)) for o in self._outputs])
                )
            ):
                self.not_finite[side] = self.not_finite.get(side, 0) + count
        for pair in self._pairs:
            _compare(pair, outputs[pair.actual], outputs[pair.reference])
        if self._deciding:
            for side, values in outputs.items():
                found = compare.answers(self._scores(values))
                self._answers[side].append(found)
                if self._deciding in self._squash:
                    self._confidence[side].append(_confidence(values[self._deciding], found))

    def _decide(self, outputs: Outputs) -> None:
        """Chooses the output that gives images their class: the first of shape (N, K) behind a softmax or sigmoid, or with one score for each class name."""
        for name in self._outputs:
            shape = outputs[name].shape
            if len(shape) == 2 and (name in self._squash or (len(self.classes) > 1 and shape[1] == len(self.classes))):
                self._deciding = name
                return

    def _scores(self, outputs: Outputs) -> NDArray[Any]:
        """The logits of the deciding output; where they are out of reach, the probabilities (less a half for a single one)."""
        logits = outputs.get(f"{self._deciding}/logits")
        if logits is not None:
            return logits
        values = outputs[self._deciding]
        return values - 0.5 if values.shape[1] == 1 and self._deciding in self._squash else values

    def _usable(self, labels: NDArray[np.int64], outputs: Mapping[str, Outputs]) -> NDArray[np.int64]:
        if not self._deciding or (labels < 0).all():
            return np.full_like(labels, -1)
        scores = next(iter(outputs.values()))[self._deciding].shape[1]
        count = 2 if scores == 1 else scores
        if labels.max() >= count or (self.classes and not self._named_by_model and len(self.classes) != count):
            raise InputError(
                f"the labels do not fit the model, which has {count} classes",
                found=f"{max(len(self.classes), int(labels.max()) + 1)} classes",
                fix="use one subfolder for each class of the model, or a flat folder",
            )
        return labels

    def side(self, runner: Runner) -> Side:
        """What one side did."""
        found, labels = self._joined(runner.id), np.array(self.labels)
        known = labels >= 0
        right = int(np.count_nonzero(found[known] == labels[known])) if self._deciding and known.any() else None
        confidence = np.concatenate(self._confidence[runner.id]) if self._confidence[runner.id] else np.array([])
        return Side(
            id=runner.id,
            runtime=runner.runtime,
            mode=runner.mode,
            provider=runner.provider,
            correct=right,
            of=int(np.count_nonzero(known)) if right is not None else 0,
            answers=tuple(found.tolist()),
            confidence=tuple(float(c) for c in confidence),
            seconds=runner.seconds,
        )

    def _joined(self, side: str) -> NDArray[np.int64]:
        return np.concatenate(self._answers[side]) if self._answers[side] else np.array([], np.int64)

    @property
    def modes_differ(self) -> bool:
        """Whether training and inference mode answer differently."""
        return any(f.code == "BN005" for f in self.judged((), ())[1])

    def judged(self, causes: Sequence[str], remedy: Sequence[str]) -> tuple[list[Comparison], list[Finding]]:
        """Every comparison with its verdict, and the findings that follow.

        Args:
            causes: the codes of findings that say that the moving statistics are wrong.
            remedy: what to do where the modes differ.
        """
        comparisons: list[Comparison] = []
        found: list[Finding] = []
        for pair in self._pairs:
            if pair.parity:
                judged = [self._parity(pair, name) for name in [*pair.running, *pair.broken]]
                comparisons += judged
                found += [findings.parity_lost(c) for c in judged if not c]
            else:
                told = [self._between_modes(pair, name, causes, remedy) for name in pair.running]
                comparisons += [comparison for comparison, _ in told]
                found += [finding for _, finding in told[:1] if finding]
        return comparisons, found

    def _parity(self, pair: _Pair, name: str) -> Comparison:
        if name in pair.broken:
            return Comparison(
                pair.actual, pair.reference, self._shown(name), _NOTHING, 0.0, None, False, pair.broken[name]
            )
        return compare.judge(
            pair.actual,
            pair.reference,
            self._shown(name),
            pair.running[name].result(),
            self._tolerance(pair, name),
            self._agreement(pair, name),
        )

    def _tolerance(self, pair: _Pair, name: str) -> float:
        """The largest relative error that passes.

        Softmax and sigmoid turn a difference of d between logits into one of d / 2 at most between probabilities: where logits are
        large, probabilities may differ by that much more than the logits do relative to their size.
        """
        if self._rtol is not None:
            return self._rtol
        tolerance = compare.HALF_TOLERANCE if self._half else compare.TOLERANCE[pair.mode]
        logits = pair.running.get(f"{name}/logits")
        return tolerance if logits is None else tolerance * max(1.0, logits.result().scale / 2)

    def _between_modes(
        self, pair: _Pair, name: str, causes: Sequence[str], remedy: Sequence[str]
    ) -> tuple[Comparison, Finding | None]:
        difference, agreement = pair.running[name].result(), self._agreement(pair, name)
        plain = Comparison(
            pair.actual, pair.reference, self._shown(name), difference, float("inf"), agreement, passed=True
        )
        finding = findings.modes_disagree(plain, right=self._right(pair), causes=causes, remedy=remedy)
        if finding is None or finding.severity != Severity.ERROR:
            return plain, finding
        return replace(plain, passed=False, reason=finding.message), finding

    def _right(self, pair: _Pair) -> findings.Right | None:
        labels = np.array(self.labels)
        known = labels >= 0
        if not self._deciding or not known.any():
            return None
        inference, training = (self._joined(side)[known] == labels[known] for side in (pair.reference, pair.actual))
        counts = (inference, training, inference & ~training, training & ~inference)
        return findings.Right(int(known.sum()), *(int(np.count_nonzero(c)) for c in counts))

    def _agreement(self, pair: _Pair, name: str) -> float | None:
        if not self._deciding or name.removesuffix("/logits") != self._deciding:
            return None
        return compare.agreement(self._joined(pair.actual), self._joined(pair.reference))

    def _shown(self, name: str) -> str:
        """What a report calls a tensor: a model with one output has logits and probabilities, others have names."""
        if len(self._outputs) > 1 or name.removesuffix("/logits") not in self._squash:
            return name
        return "logits" if name.endswith("/logits") else "probabilities"


def _pairs(runners: Sequence[Runner]) -> list[_Pair]:
    keras = {runner.mode: runner for runner in runners if runner.runtime == "keras"}
    onnx = [runner for runner in runners if runner.runtime == "onnxruntime" and runner.parity]
    pairs = []
    for runner in onnx:
        reference = keras.get(runner.mode) or next(
            (o for o in onnx if o.mode == runner.mode and o.provider == "cpu"), None
        )
        if reference is not None and reference is not runner:
            pairs.append(_Pair(runner.id, reference.id, runner.mode, parity=True))
    one_runtime = keras or {runner.mode: runner for runner in reversed(onnx)}
    if "training" in one_runtime:
        pairs.append(_Pair(one_runtime["training"].id, one_runtime["inference"].id, "training", parity=False))
    return pairs


def _compare(pair: _Pair, actual: Outputs, reference: Outputs) -> None:
    """Adds one batch; logits come first, since they decide and a saturated softmax hides everything."""
    names = sorted({*actual, *reference}, key=lambda name: not name.endswith("/logits"))
    for name in names:
        if name in pair.broken:
            continue
        if name not in actual or name not in reference:
            if not name.endswith("/logits"):  # logits may be out of reach on one side, outputs may not be missing
                pair.broken[name] = f"{pair.actual if name not in actual else pair.reference} has no such output"
            continue
        try:
            pair.running.setdefault(name, RunningDifference()).add(actual[name], reference[name])
        except IncomparableError as error:
            pair.running.pop(name)
            pair.broken[name] = str(error)


def _broken_rows(x: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which of `count` images have a value that is not finite; all of them where the tensor has no axis for images."""
    if x.dtype.kind not in "fc" or np.isfinite(x).all():
        return np.zeros(count, np.bool_)
    if x.ndim == 0 or len(x) != count:
        return np.ones(count, np.bool_)
    return np.asarray(~np.isfinite(x).reshape(count, -1).all(axis=1))


def _confidence(probabilities: NDArray[Any], found: NDArray[np.int64]) -> NDArray[Any]:
    if probabilities.shape[1] > 1:
        return np.take_along_axis(probabilities, np.maximum(found, 0)[:, None], axis=1)[:, 0]
    return np.where(found == 1, probabilities[:, 0], 1 - probabilities[:, 0])
