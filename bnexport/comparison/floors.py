"""The noise floor of a model on these images: how far rounding alone moves what it computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexport.comparison.noise import Noise
from bnexport.comparison.pairs import Lost
from bnexport.comparison.reference import Reference
from bnexport.comparison.references import noise_of_moved_weights
from bnexport.comparison.selected import SelectedRows
from bnexport.comparison.sides import Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.frameworks.onnx_file import OnnxFile, OnnxModel
from bnexport.onnx_graph.outputs import fetches
from bnexport.onnx_graph.quantised import quantisation
from bnexport.progress import Progress
from bnexport.results import tolerance
from bnexport.results.heads import Heads
from bnexport.results.runs import Mode
from bnexport.results.tolerance import Tolerances
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

IMAGES = 8
"""How many images the floors are measured on."""

VALUES = 8
"""A floor is the largest of at least so many values: the only logit of one image may by chance be exact."""

DIMMER = 1 / 32
"""Where images have fewer values they are shown again, each time so much dimmer: rounding falls otherwise, everything else stays nearly the same."""

NO_HEADS = Heads(())
"""Nothing is known of the outputs."""

BEYOND = 1000.0
"""An error of so many floors is no noise, whatever the image."""

Feeds = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Measured:
    """Noise floors.

    Args:
        floors: max |rounded - exact| / max |exact| over all images, by mode and tensor.
        method: how rounding was made to show.
    """

    floors: dict[tuple[str, str], float]
    method: str


def measure(reference: Reference, feed: Feed, modes: Sequence[Mode], heads: Heads = NO_HEADS) -> Measured:
    """The floors of a model on the first images of a batch.

    Args:
        reference: the model.
        feed: a batch of the check; training mode is measured in groups of its size, or of `IMAGES` where it is larger.
        modes: which passes.
        heads: what the model gives out.

    Raises:
        InputError: the model does not compute in float64, or gives values that are not finite.
    """
    few = {name: x[:IMAGES] for name, x in feed.inputs.items()}
    least = min(x.size for x in reference.run("inference", few).values())
    groups = _groups(few, -(-VALUES // max(1, least)))
    joined = {name: np.concatenate([group[name] for group in groups]) for name in feed.inputs}
    by_mode = {str(mode): _floors(reference, mode, groups if mode == "training" else [joined], heads) for mode in modes}
    floors = {(mode, name): floor for mode, (of_mode, _) in by_mode.items() for name, floor in of_mode.items()}
    return Measured(floors, next(method for _, method in by_mode.values()))


def tolerances(subject: Subject, feed: Feed) -> Tolerances:
    """How close is close enough for a model, by its floors on a batch.

    A graph's floors are measured where something is off by more than `tolerance.LEAST` (`where_lost`): most graphs agree without.
    """
    if subject.reference.graph_itself:
        if subject.half or quantisation(subject.graph):
            return Tolerances(half=subject.half, missing="the file does not compute in float32")
        return Tolerances(_smallest(fetches(subject.graph)))
    try:
        measured = measure(subject.reference, feed, subject.reference.modes, subject.heads(()))
    except InputError as error:
        return Tolerances(half=subject.half, missing=str(error))
    return Tolerances(measured.floors, IMAGES, "", half=subject.half, method=measured.method)


def _smallest(names: Iterable[str]) -> dict[tuple[str, str], float]:
    """The floor of every tensor in inference mode before any is measured."""
    return {("inference", name): tolerance.SMALLEST_FLOOR for name in names}


def where_lost(tally: Tally, reference: Reference, progress: Progress, graph: onnx.ModelProto | None = None) -> None:
    """Measures the floors again on the batches where sides that must be equal are not: some images are noisier than the first ones, and no fault is their noise.

    The larger of both counts from then on. Where that is not enough, and `graph` is the inference graph of a model in a framework, its
    weights are moved by one unit in the last place: a runtime that folds normalisation into them rounds them, too.
    """
    for lost in _near(tally):
        mode: Mode = "training" if lost.pair.expectation.mode == "training" else "inference"
        progress.stage("measuring the noise floor where sides differ")
        few = lost.noisiest(IMAGES) if reference.graph_itself and mode == "inference" else lost.feed.inputs
        try:
            floors, method = _floors(reference, mode, [few], tally.heads)
        except InputError:
            continue  # a batch with values that are not finite has no floor; RT006 names them
        count = len(next(iter(few.values())))
        tally.raise_floors({(mode, name): floor for name, floor in floors.items()}, method, count)
    if graph is None or reference.graph_itself:
        return
    for lost in _near(tally):
        if lost.pair.expectation.mode != "inference" or not lost.pair.expectation.actual.artifact:
            continue
        progress.stage("measuring how far rounded weights move the outputs")
        try:
            floors = _moved_by_weights(graph, lost.feed.inputs, tally.heads)
        except InputError:
            continue  # its inputs have other names, or a value is not finite
        measured = {("inference", name): floor for name, floor in floors.items()}
        tally.raise_floors({key: measured[key] for key in measured.keys() & tally.tolerances.floors.keys()}, "", 0)
        tally.tolerances = tally.tolerances.by_weights_too()


def _near(tally: Tally) -> list[Lost]:
    """What is lost, but by so little that it may be noise."""
    return [
        lost
        for lost in tally.lost()
        if not lost.pair.broken
        and (max(c.noise_floors or 0.0 for c in lost.failed) < BEYOND or tally.tolerances.provisional)
    ]


def where_backends_differ(tally: Tally, runners: Sequence[Runner], progress: Progress) -> list[tuple[Lost, float]]:
    """Measures the floors of other backends on the batches where they differ from the reference: rounding there may be larger.

    Args:
        tally: what was seen; such floors count from then on, for the run on that backend.
        runners: everything that was run.
        progress: notified where anything is measured.

    Returns:
        What differed by the floors of the reference and no longer does, with the largest floor of the backend.
    """
    others = {runner.id: runner.model for runner in runners if runner.model is not None}
    if not others:
        return []
    measured: list[tuple[Lost, float]] = []
    for lost in tally.lost():
        other = others.get(lost.pair.actual)
        if other is None or lost.pair.broken:
            continue
        progress.stage(f"measuring the noise floor of {other.title}")
        mode = lost.pair.expectation.mode
        try:
            own, _ = _floors(other, mode, [lost.feed.inputs], tally.heads)
        except InputError:
            continue  # it does not compute in float64 there
        tally.add_own_floors(lost.pair.actual, {(mode, name): floor for name, floor in own.items()})
        measured.append((lost, max(own.values(), default=0.0)))
    still = {lost.pair.actual for lost in tally.lost()}
    return [(lost, own) for lost, own in measured if lost.pair.actual not in still]


def _floors(reference: Reference, mode: Mode, groups: Sequence[Feeds], heads: Heads) -> tuple[dict[str, float], str]:
    """The floor of each tensor, and how it was measured."""
    distance: dict[str, float] = {}
    scale: dict[str, float] = dict(heads.natural)
    method = ""
    for group in groups:
        noise = reference.noise(mode, group)
        method = noise.method.format(title=reference.title)
        _add(noise, group, heads, f"in {mode} mode", distance, scale)
    return _relative(distance, scale), method


def _moved_by_weights(model: onnx.ModelProto, feeds: Feeds, heads: Heads) -> dict[str, float]:
    """The floor of each tensor of a graph, by passes with moved weights."""
    noise = noise_of_moved_weights(OnnxModel(OnnxFile(model, (), "", whole=True)), feeds)
    distance: dict[str, float] = {}
    scale: dict[str, float] = dict(heads.natural)
    _add(noise, feeds, heads, "with moved weights", distance, scale)
    return _relative(distance, scale)


def _add(
    noise: Noise, feeds: Feeds, heads: Heads, where: str, distance: dict[str, float], scale: dict[str, float]
) -> None:
    """The largest movement and the size of each tensor, with those of more passes."""
    matched = [_partners(heads, feeds, x, noise.center) for x in noise.others]
    for name, value in noise.center.items():
        if value.dtype.kind == "U" or name in heads.rows:
            continue  # text is the same or another, whatever the rounding
        center, *others = (np.asarray(x[name], np.float64) for x in (noise.center, *noise.others))
        if not all(np.isfinite(x).all() for x in (center, *others)):
            raise InputError(f"{name} contains NaN or infinity {where}")
        if any(x.shape != center.shape for x in others):
            raise InputError(f"the shape of {name} depends on rounding {where}")
        moved = noise.share * max(float(np.abs(x - center).max(initial=0.0)) for x in others)
        distance[name] = max(distance.get(name, 0.0), moved)
        scale[name] = max(scale.get(name, 0.0), float(np.abs(np.asarray(value, np.float64)).max(initial=0.0)))
    for name, (rows, center) in ((name, pair) for tables in matched for name, pair in tables.items()):
        distance[name] = max(distance.get(name, 0.0), float(np.abs(rows - center).max(initial=0.0)))
        scale[name] = max(scale.get(name, 0.0), float(np.abs(center).max(initial=0.0)))


def _relative(distance: Mapping[str, float], scale: Mapping[str, float]) -> dict[str, float]:
    return {
        name: max(d / scale[name] if scale[name] else 0.0, tolerance.SMALLEST_FLOOR) for name, d in distance.items()
    }


def _partners(
    heads: Heads, feeds: Feeds, actual: Mapping[str, Array], center: Mapping[str, Array]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The selected rows of two passes that are partners, where they are finite numbers."""
    batch = Feed(feeds, ("",) * len(next(iter(feeds.values()))), np.array([], np.int64))
    tables = SelectedRows(heads.rows, heads.inner).match(batch, dict(actual), dict(center))
    numbers = {
        name: (np.asarray(a, np.float64), np.asarray(r, np.float64))
        for name, (a, r) in tables.items()
        if a.dtype.kind in "biuf"
    }
    return {name: (a, r) for name, (a, r) in numbers.items() if np.isfinite(a).all() and np.isfinite(r).all()}


def _groups(few: Feeds, wanted: int) -> list[Feeds]:
    """The images, and dimmed copies of them: `wanted` groups in all, with at most `IMAGES` images."""
    groups: list[Feeds] = [few]
    if all(x.dtype.kind == "f" for x in few.values()):
        count = min(wanted, IMAGES // len(next(iter(few.values()))))
        groups += [
            {name: np.multiply(x, x.dtype.type(1 - DIMMER * nth)).astype(x.dtype) for name, x in few.items()}
            for nth in range(1, count)
        ]
    return groups
