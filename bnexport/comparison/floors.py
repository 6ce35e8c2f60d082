"""The noise floor of a Keras model on these images: how far its passes in float32 are from the same passes in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnexport.comparison.reference import Reference
from bnexport.comparison.sides import Runner
from bnexport.comparison.tally import Lost, Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.progress import Progress
from bnexport.results import tolerance
from bnexport.results.runs import Mode
from bnexport.types import Array

IMAGES = 8
"""How many images the floors are measured on."""

VALUES = 8
"""A floor is the largest of at least so many values: the only logit of one image may by chance be exact."""

DIMMER = 1 / 32
"""Where images have fewer values they are shown again, each time so much dimmer: rounding falls otherwise, everything else stays nearly the same."""

BEYOND = 1000.0
"""An error of so many floors is no noise, whatever the image."""

Feeds = Mapping[str, Array]


def measure(
    reference: Reference, feed: Feed, modes: Sequence[Mode], natural: Mapping[str, float] | None = None
) -> dict[tuple[str, str], float]:
    """The floor by mode and tensor: max |float32 - float64| / max |float64| over all images.

    Args:
        reference: the model.
        feed: a batch of the check; training mode is measured in groups of its size, or of `IMAGES` where it is larger.
        modes: which passes.
        natural: the size below which a tensor's scale is not taken, by tensor.

    Raises:
        InputError: the model does not compute in float64.
    """
    few = {name: x[:IMAGES] for name, x in feed.inputs.items()}
    smallest = min(x.size for x in reference.run("inference", few).values())
    groups = _groups(few, -(-VALUES // max(1, smallest)))
    joined = {name: np.concatenate([group[name] for group in groups]) for name in feed.inputs}
    return {
        (mode, name): floor
        for mode in modes
        for name, floor in _floors(reference, mode, groups if mode == "training" else [joined], natural or {}).items()
    }


def where_lost(tally: Tally, reference: Reference, progress: Progress) -> None:
    """Measures the floors again on the batches where sides that must be equal are not: some images are noisier than the first ones, and no fault is their noise.

    The larger of both counts from then on.
    """
    for lost in tally.lost():
        worst = max(c.noise_floors or 0.0 for c in lost.failed)
        if lost.pair.broken or not worst < BEYOND:
            continue
        mode: Mode = "training" if lost.pair.expectation.mode == "training" else "inference"
        progress.stage("measuring the noise floor where sides differ")
        try:
            floors = _floors(reference, mode, [lost.feed.inputs], tally.heads.natural)
        except InputError:
            continue  # a batch with values that are not finite has no floor; RT006 names them
        tally.raise_floors({(mode, name): floor for name, floor in floors.items()})


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
            own = _floors(other, mode, [lost.feed.inputs], tally.heads.natural)
        except InputError:
            continue  # it does not compute in float64 there
        tally.add_own_floors(lost.pair.actual, {(mode, name): floor for name, floor in own.items()})
        measured.append((lost, max(own.values(), default=0.0)))
    still = {lost.pair.actual for lost in tally.lost()}
    return [(lost, own) for lost, own in measured if lost.pair.actual not in still]


def _floors(
    reference: Reference, mode: Mode, groups: Sequence[Feeds], natural: Mapping[str, float]
) -> dict[str, float]:
    distance: dict[str, float] = {}
    scale: dict[str, float] = dict(natural)
    for group in groups:
        exact, rounded = reference.run_in_float64(mode, group), reference.run_in_float32(mode, group)
        for name, value in exact.items():
            wide, narrow = (np.asarray(x, np.float64) for x in (value, rounded[name]))
            if not (np.isfinite(wide).all() and np.isfinite(narrow).all()):
                raise InputError(f"{name} contains NaN or infinity in {mode} mode")
            distance[name] = max(distance.get(name, 0.0), float(np.abs(wide - narrow).max(initial=0.0)))
            scale[name] = max(scale.get(name, 0.0), float(np.abs(wide).max(initial=0.0)))
    return {
        name: max(d / scale[name] if scale[name] else 0.0, tolerance.SMALLEST_FLOOR) for name, d in distance.items()
    }


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
