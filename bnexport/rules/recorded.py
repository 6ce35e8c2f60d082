"""IN008 and what verify --recorded says of a runtime: whether the pictures or the runtime of another program are the cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexport.results.actions import advise
from bnexport.results.identified import NAMES, Identified, Steps
from bnexport.results.verdict import Comparison, Finding, Severity
from bnexport.rules.measured import describe, evidence_of
from bnexport.rules.rule import Rule
from bnexport.rules.targets import RT009

LISTED = 6
"""A message lists so many ways that cannot be distinguished."""

IN008 = Rule(
    "IN008",
    "another program preprocesses the images differently",
    meaning=(
        "The inputs that another program recorded are not those of the bundle, or its outputs are those of images that "
        "were preprocessed differently. The finding says how that program really preprocessed them."
    ),
    measured=(
        "verify --recorded prepares the images of the bundle in many ways: decoders, EXIF orientation, stretched, cropped "
        "or padded, the resize kernels of Pillow, OpenCV, TensorFlow, torch and a canvas, rounding, and values in another "
        "layout. The channel order and the scaling are fitted by least squares. The residual is in gray levels. A way is "
        "named if almost all recorded values are equal to it or differ by rounding; all ways with such a residual are "
        "listed. Otherwise the message says best fit. Without recorded inputs, the model is run on inputs that are "
        "prepared in these ways, and the outputs are compared. It is an error where the outputs are outside the tolerance."
    ),
    neighbours=(
        "IN006: this machine preprocesses the images of the bundle differently. RT009: the inputs are the same and the "
        "outputs are not."
    ),
    remedy=(
        "Change the steps that the finding names in the other program. Where it says best fit, compare the steps one by "
        "one, or record inputs of images with more detail and other sizes."
    ),
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """How recorded inputs differ from those of a bundle.

    Args:
        far: the largest difference relative to the scale, by input.
        dtypes: of recorded inputs that have another dtype than the bundle's.
    """

    far: Mapping[str, float]
    dtypes: Mapping[str, str]

    @property
    def described(self) -> str:
        """The differences in words."""
        parts = [f"{name} by up to {far:.2g} of its scale" for name, far in self.far.items()]
        parts += [f"{name} is {dtype}" for name, dtype in self.dtypes.items()]
        return ", ".join(parts)


def prepared_differently(
    run: str,
    inputs: Inputs | None,
    way: Identified | None,
    own: Steps | None,
    failed: Sequence[Comparison],
    *,
    runtime_right: bool | None,
) -> Finding:
    """IN008: a program that prepares pictures in another way than the bundle.

    Args:
        run: the id of its run.
        inputs: how its inputs differ; None where none were recorded.
        way: what the search gave; None where there are no pictures.
        own: how the bundle prepares them; None where that is not known.
        failed: the comparisons of outputs that failed.
        runtime_right: whether its outputs are those that onnxruntime computes from its inputs; None where that is not known.
    """
    parts = []
    if inputs is not None:
        parts.append(f"{run}: the recorded inputs differ from those of the bundle ({inputs.described})")
    else:
        parts.append(f"{run}: the recorded outputs are those of images that are preprocessed differently")
    changes: dict[str, tuple[str, str]] = {}
    if way is not None:
        parts.append(describe_way(way))
        if own is not None and _tells(way):
            changes = _changes(_options(way), own)
    if changes:
        texts = ", ".join(f"{NAMES[name]} {ours or 'as the model expects'}" for name, (_, ours) in changes.items())
        parts.append(f"the bundle has {texts}")
    if runtime_right:
        parts.append("its outputs are what onnxruntime computes from the recorded inputs, so that its runtime is right")
    elif runtime_right is False:
        parts.append("its outputs are not what onnxruntime computes from the recorded inputs either")
    if not failed:
        parts.append("the outputs still agree")
    evidence = {
        "side": run,
        "inputs_recorded": inputs is not None,
        "max_rel": dict(inputs.far) if inputs else {},
        "dtypes": dict(inputs.dtypes) if inputs else {},
        **_evidence(way),
        "expected": _words(own),
        "outputs_agree": not failed,
        "runtime_right": runtime_right,
    }
    actions = [
        advise(f"change the {NAMES[name]} of that program{theirs} to {ours or 'what the model expects'}")
        for name, (theirs, ours) in changes.items()
    ]
    if inputs is None and way is not None and way.named and not _tells(way):
        actions = [advise("record the inputs that the program gives to its runtime, too")]
    elif way is None or not way.named:
        actions = [advise("compare the preprocessing of that program with that of the bundle step by step")]
    severity = Severity.ERROR if failed else Severity.WARNING
    return IN008.finding(severity, "; ".join(parts), evidence, tuple(actions))


def describe_way(way: Identified) -> str:
    """What a search gave, in words; only what all ways that fit have in common is claimed."""
    if way.steps is None:
        return f"no known preprocessing of the images gives them ({way.tried} ways tried)"
    unit = "of their scale" if way.values else "gray levels"
    if not way.named:
        what = "the outputs for such inputs differ by" if way.values else "residual"
        largest = "" if way.values else f", largest {way.largest:.2g}"
        return (
            f"no known preprocessing gives them exactly; best fit: {way.steps.described} "
            f"({what} {way.residual:.2g} {unit}{largest}, {way.tried} ways tried)"
        )
    options = _options(way)
    uncertain = {name: texts for name, texts in options.items() if len(texts) > 1}
    if not _tells(way):
        names = [NAMES[name] for name in uncertain]
        return (
            f"{len(way.alternatives) + 1} of {way.tried} ways to prepare the images give these outputs within the tolerance, "
            f"with different {', '.join(names[:-1])} and {names[-1]}: the outputs do not tell which"
        )
    certain = ", ".join(text for texts in options.values() if len(texts) == 1 and (text := texts[0]))
    if way.values:
        how = "the outputs for such inputs are within the tolerance"
    else:
        how = f"fits {'exactly' if way.exact else 'up to rounding'}, residual {way.residual:.2g} {unit}, largest {way.largest:.2g}"
    if way.next_residual is not None:
        how += f"; the next other way has {way.next_residual:.2g}"
    text = f"that program prepares the images so: {certain or 'see below'} ({how})"
    if uncertain:
        text += "; cannot be distinguished here: " + "; ".join(
            f"{NAMES[name]} {_join_texts(texts)}" for name, texts in uncertain.items()
        )
    return text


def _options(way: Identified) -> dict[str, list[str]]:
    """What each step may be, by its name, that of the way which is closest to the bundle's first."""
    ways = [way.steps, *way.alternatives] if way.steps is not None else []
    return {name: list(dict.fromkeys(getattr(steps, name) for steps in ways)) for name in NAMES}


def _tells(way: Identified) -> bool:
    """Whether a search says something of each step.

    Outputs that several steps together leave as they are, such as those of a saturated softmax, would be the same with other
    combinations of steps that were not tried.
    """
    return way.named and not (way.values and sum(len(texts) > 1 for texts in _options(way).values()) > 1)


def _changes(options: Mapping[str, Sequence[str]], own: Steps) -> dict[str, tuple[str, str]]:
    """The steps that are certainly not the bundle's, by name: from what, in words, and to what."""
    changes = {}
    for name, texts in options.items():
        ours = getattr(own, name)
        if ours in texts or ("" in texts and name != "layout"):
            continue
        changes[name] = (f" from {texts[0] or 'none'}" if len(texts) == 1 else "", ours)
    return changes


def _join_texts(texts: Sequence[str]) -> str:
    shown = ", ".join(f'"{text or "none"}"' for text in texts[:LISTED])
    return shown + (f" or one of {len(texts) - LISTED} more" if len(texts) > LISTED else "")


def _evidence(way: Identified | None) -> dict[str, object]:
    if way is None:
        return {"identified": None}
    return {
        "identified": _words(way.steps),
        "named": way.named,
        "exact": way.exact,
        "residual": way.residual,
        "largest": way.largest,
        "next_residual": way.next_residual,
        "alternatives": [_words(other) for other in way.alternatives],
        "images": way.pictures,
        "ways_tried": way.tried,
    }


def _words(steps: Steps | None) -> dict[str, str] | None:
    return None if steps is None else {name: text for name in NAMES if (text := getattr(steps, name))}


def recorded_runtime_differs(
    failed: Sequence[Comparison], cause: str, *, onnxruntime_agrees: bool | None, inputs: str
) -> Finding:
    """RT009: the runtime of a program that recorded its outputs computes something else.

    Args:
        failed: the comparisons that failed.
        cause: what follows, in words.
        onnxruntime_agrees: whether onnxruntime is right with the same inputs; None where that is not known.
        inputs: "same", "different" or "not recorded".
    """
    advice = {
        "same": "use another version of that runtime, or report it to its authors with the bundle",
        "different": "correct the preprocessing first, then record again",
        "not recorded": "record the inputs that the program gives to its runtime, too",
    }[inputs]
    return RT009.finding(
        Severity.ERROR,
        f"{describe(failed)}; {cause}",
        evidence_of(failed) | {"onnxruntime_agrees": onnxruntime_agrees, "inputs": inputs},
        (advise(advice),),
    )
