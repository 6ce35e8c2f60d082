"""QT002, QT003 and QT004: saturated values, ranges that do not fit, and the layers that cost most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.results.actions import advise
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.rule import Rule

CLIPPED = 0.01
"""QT002: more than this share of a tensor's values is clipped."""

NARROW = 1.25
"""QT003: a range is too narrow where values exceed it by this factor."""

WIDE = 4.0
"""QT003: a range is too wide where it is this many times what the values need: two bits are lost."""

SEVERE = 5.0
"""QT003: an error where a file is this many times further off than quantisation explains, whatever its answers are."""

SHOWN = 8
"""So many tensors are listed."""


@dataclass(frozen=True, slots=True)
class QuantisedTensor:
    """A quantised tensor, and what its range does.

    Args:
        name: the tensor.
        nodes: the nodes that make and read it.
        low: the smallest value that can be represented.
        high: the largest one.
        least: the smallest value on these items.
        most: the largest one.
        clipped: the share of its values that is clipped.
        cost: the error of the outputs where this tensor alone is quantised, as a share of their rms; NaN where it was not measured.
    """

    name: str
    nodes: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    least: float = 0.0
    most: float = 0.0
    clipped: float = 0.0
    cost: float = float("nan")

    @property
    def beyond(self) -> float:
        """How many times the range the values reach; at most 1 where it holds them."""
        parts = [v / end for v, end in ((self.least, self.low), (self.most, self.high)) if end and v / end > 0]
        outside = self.least < self.low or self.most > self.high
        return max([1.0, *parts]) if outside else 1.0

    @property
    def spare(self) -> float:
        """How many times the extent of the values the range is."""
        extent = max(self.most, 0.0) - min(self.least, 0.0)
        return (self.high - self.low) / extent if extent else 1.0

    @property
    def narrow(self) -> bool:
        """Whether values exceed the range by far."""
        return self.beyond >= NARROW and self.clipped > 0

    @property
    def wide(self) -> bool:
        """Whether most of the range is unused."""
        return self.spare >= WIDE

    @property
    def described(self) -> str:
        """The range and what is in it."""
        return (
            f"{self.name} ({self.low:.3g} to {self.high:.3g}, values {self.least:.3g} to {self.most:.3g}, "
            f"{100 * self.clipped:.3g} % clipped)"
        )

    @property
    def evidence(self) -> dict[str, object]:
        """The same as numbers."""
        return {
            "tensor": self.name,
            "nodes": list(self.nodes),
            "range": [self.low, self.high],
            "values": [self.least, self.most],
            "clipped": self.clipped,
            "cost": self.cost,
        }


QT002 = Rule(
    "QT002",
    "values are clipped",
    meaning=(
        "Activations of the quantised file reach beyond the range that their scale and zero point can represent. "
        "They are cut off there."
    ),
    measured=(
        "The file is run in float32. For each quantised tensor the share of values beyond its range is counted, "
        "and the tensor alone is quantised. A tensor is named where more than {CLIPPED:share} of its values are "
        "clipped and that costs more than rounding. It is raised where the file is further from the model than "
        "quantisation explains. The severity is that of QT001."
    ),
    neighbours=(
        "QT003: the range does not fit these images at all. RT012: the integer kernels of the runtime saturate, "
        "the file itself is right."
    ),
    remedy="Calibrate with images as in deployment, with the method MinMax or a higher percentile.",
    thresholds={"CLIPPED": CLIPPED},
)

QT003 = Rule(
    "QT003",
    "calibration does not fit",
    meaning=(
        "The ranges of quantised tensors are not those that the activations have on these images: too narrow, so "
        "that values are clipped, or so wide that few steps are left. The images of the calibration, or their "
        "preprocessing, were others, or a scale is wrong or was never set."
    ),
    measured=(
        "The file is run in float32, and the range of each tensor is compared with its values. Too narrow: values "
        "reach {NARROW:g} times as far as the range. Too wide: the range is {WIDE:g} times as large as the values need. It is "
        "raised where the file is further from the model than quantisation at fitting ranges explains. It is an error where the "
        "answers are lost (QT001) or where the error is {SEVERE:g} times what quantisation explains, and a warning otherwise."
    ),
    neighbours=(
        "QT002: the share of clipped values. IN002 and IN003: these images are prepared in another way than the "
        "model expects; a wrong preparation of the check looks like a wrong calibration."
    ),
    remedy="Calibrate again with a few hundred images that are prepared as in deployment.",
    thresholds={"NARROW": NARROW, "WIDE": WIDE, "SEVERE": SEVERE},
)

QT004 = Rule(
    "QT004",
    "what each quantised layer costs",
    meaning="The quantised tensors, ranked by what each costs, and the layers to keep in float.",
    measured=(
        "One group of tensors that share a scale is quantised at a time, everything else is computed in float32, "
        "and the error of the outputs is measured. Groups are then left in float, the most expensive ones first, "
        "until the rest of the file is within what quantisation explains. A tensor stays in float if the nodes "
        "that make and read it do."
    ),
    neighbours="QT003: a range is wrong. Calibrating again is better than keeping layers in float.",
    remedy="Pass the list to the quantiser as nodes_to_exclude.",
)


def values_clipped(tensors: Sequence[QuantisedTensor], severity: Severity, noun: Noun = IMAGES) -> Finding | None:
    """QT002: tensors whose values are clipped, the most expensive first; None where there is none."""
    if not tensors:
        return None
    shown = ", ".join(f"{t.name} {100 * t.clipped:.3g} %" for t in tensors[:SHOWN])
    more = f" and {len(tensors) - SHOWN} more" if len(tensors) > SHOWN else ""
    return QT002.finding(
        severity,
        f"values are clipped in {len(tensors)} quantised tensors, by share: {shown}{more}",
        {"tensors": [t.evidence for t in tensors]},
        (advise(f"calibrate with {noun.many} as in deployment, with the method MinMax or a higher percentile"),),
        tuple(t.name for t in tensors[:SHOWN]),
    )


def calibration_wrong(
    tensors: Sequence[QuantisedTensor], of: int, severity: Severity, *, absent: bool, noun: Noun = IMAGES
) -> Finding | None:
    """QT003: tensors whose range does not fit these items, the most expensive first; None where there is none.

    Args:
        tensors: those that do not fit.
        of: how many there are in all.
        severity: what that costs.
        absent: whether all ranges are the same, as without a calibration.
        noun: what the model was run on.
    """
    if not tensors:
        return None
    narrow = [t for t in tensors if t.narrow]
    wide = [t for t in tensors if not t.narrow]
    parts = []
    if narrow:
        parts.append(f"too narrow for {len(narrow)} of {of} tensors, first {narrow[0].described}")
    if wide:
        parts.append(f"too wide for {len(wide)} of {of}, first {wide[0].described}")
    message = f"the ranges of the quantised file do not fit these {noun.many}: {'; '.join(parts)}"
    if absent:
        message += "; all scales are equal, as in a file that was never calibrated"
    elif len(narrow) == 1 and not wide:
        message += "; all others fit, so that this scale is wrong rather than the calibration"
    else:
        message += (
            f"; either the calibration used other {noun.many}, or these {noun.many} are not prepared as in deployment"
        )
        if narrow:
            message += ", or the file was quantised from a graph that limits these values, as ReLU6 does"
    first = (narrow or wide)[0]
    return QT003.finding(
        severity,
        message,
        {"tensors": [t.evidence for t in tensors], "tensors_compared": of, "all_scales_equal": absent},
        (
            advise(f"calibrate again with a few hundred {noun.many} prepared as in deployment"),
            advise(f"check that these {noun.many} are prepared as in deployment"),
        ),
        tuple(dict.fromkeys([first.name, *(t.name for t in tensors[:SHOWN])])),
    )


def cost_by_tensor(
    tensors: Sequence[QuantisedTensor],
    of: int,
    expected: float,
    keep: Sequence[str],
    left: float,
    noun: Noun = IMAGES,
) -> Finding | None:
    """QT004: what each tensor costs, the most expensive first; None where nothing was measured.

    Args:
        tensors: those that were measured.
        of: how many groups there are.
        expected: the error that quantisation explains, as a share of the rms of the outputs.
        keep: the nodes to keep in float; empty where that does not help.
        left: the error that is left with them in float.
        noun: what the model was run on.
    """
    if not tensors:
        return None
    shown = ", ".join(f"{t.name} {100 * t.cost:.3g} %" for t in tensors[:SHOWN])
    message = (
        f"what each quantised tensor costs alone, as a share of the outputs: {shown} ({len(tensors)} of {of} measured; "
        f"{100 * expected:.2g} % are expected of all together)"
    )
    actions = [advise(f"calibrate again with {noun.many} as in deployment before keeping layers in float")]
    if keep:
        message += f"; with {len(keep)} nodes in float {100 * left:.2g} % are left"
        actions.insert(0, advise(f"or quantise again with nodes_to_exclude={list(keep)!r} (onnxruntime.quantization)"))
    evidence = {
        "ranking": [t.evidence for t in tensors],
        "groups": of,
        "expected": expected,
        "nodes_to_exclude": list(keep),
        "error_left": left,
    }
    return QT004.finding(Severity.INFO, message, evidence, actions, tuple(t.name for t in tensors[:SHOWN]))
