"""Why a deployed file that is not ONNX differs from its model: it was exported in training mode, is called otherwise, or computes something else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnexport.checking.artifact_layers import artifact_layers
from bnexport.checking.class_order import find_class_order
from bnexport.checking.exchanges import find_exchanges, nearer, works
from bnexport.checking.file_weights import find_other_weights
from bnexport.checking.target_causes import find_cause
from bnexport.comparison.expectations import Expected
from bnexport.comparison.pairs import Lost
from bnexport.comparison.reference import Reference
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.datasets.preprocess import rescale
from bnexport.errors import InputError
from bnexport.numerics.depth import first_off
from bnexport.progress import Progress
from bnexport.results.preprocessing import Layout, Preprocessing
from bnexport.results.verdict import Finding, LayerError
from bnexport.rules import export, interface, targets
from bnexport.rules.preparations import Refit, candidates
from bnexport.types import Array

_CHANNELS = (1, 3, 4)
"""So many channels make an axis of arrays the one of colours."""


def explain_artifact(
    lost: Lost,
    runner: Runner,
    tally: Tally,
    spec: Preprocessing | None,
    subject: Subject | None,
    title: str,
    progress: Progress,
) -> tuple[Finding | None, tuple[LayerError, ...]]:
    """The finding that names the cause, None where what quantisation costs is a finding already; and the layers where they were compared.

    Args:
        lost: the run and its reference.
        runner: the run.
        tally: what was seen.
        spec: how images are prepared; None for arrays.
        subject: what is checked; None where only outputs are there.
        title: what sentences call it.
        progress: notified of each stage.
    """
    if tally.matches_other_mode(runner.id):
        return export.training_exported(lost.failed), ()
    as_in = None if lost.pair.expected == Expected.EQUAL else lost.pair

    feeds = lost.feed.inputs
    unmeasured = lost.pair.expected == Expected.QUANTIZED

    def plainly_right(outputs: Outputs) -> bool:
        return unmeasured or tally.agree(runner.mode, outputs, lost.wanted, as_in)

    right = plainly_right if as_in is None else nearer(plainly_right, runner.compute(feeds), lost.wanted)
    if name := output_of_logits(runner.compute(feeds), lost.wanted, tally):
        how = f"it gives out the logits of {name}, not what the last activation makes of them"
        return interface.taken_otherwise(lost.failed, how), ()
    called = runner.file.interface if runner.file is not None else None
    for how in find_exchanges(called, feeds, lost.wanted, runner.compute, right) if called is not None else ():
        return interface.taken_otherwise(lost.failed, how), ()
    for how, other in prepared_otherwise(spec, feeds, lost.wanted):
        if works(runner, other, right):
            return interface.taken_otherwise(lost.failed, how), ()
    for how in find_class_order(called.outputs, runner.compute(feeds), lost.wanted, right) if called else ():
        return interface.taken_otherwise(lost.failed, how), ()
    if (other_weights := find_other_weights(runner, subject, lost.failed, title, tally.noun)) is not None:
        return other_weights, ()
    if lost.pair.expected == Expected.QUANTIZED and not lost.pair.broken:
        return None, ()
    if (switch := find_cause(runner, feeds, right, lambda _: (), progress).switch) is not None:
        return targets.right_with(lost.failed, switch), ()
    layers = artifact_layers(runner, subject.reference, feeds, progress) if subject is not None else ()
    first = first_off(layers)
    return export.parity_lost(lost.failed, runner.spec, lost.pair.expectation.reference, first, layers, title), layers


def output_of_logits(outputs: Outputs, wanted: Outputs, tally: Tally) -> str:
    """The output that holds the logits of the model; "" where there is none."""
    for name, logits in wanted.items():
        plain = name.removesuffix("/logits")
        fits = plain != name and plain in outputs and outputs[plain].shape == logits.shape
        if fits and tally.agree("inference", {"logits": outputs[plain]}, {"logits": logits}):
            return plain
    return ""


def prepared_otherwise(
    spec: Preprocessing | None, feeds: Feeds, wanted: Outputs
) -> Iterator[tuple[str, dict[str, Array]]]:
    """The same images prepared in other ways (`_preparations`), and what a file does that is right with them, in words."""
    for theirs, ours, other in _preparations(spec, feeds, wanted):
        yield f"it takes images with {theirs}, the model {ours}", other
    if _tells(wanted):
        yield from _turn_images(spec, feeds)


def _turn_images(spec: Preprocessing | None, feeds: Feeds) -> Iterator[tuple[str, dict[str, Array]]]:
    """The same images turned and mirrored, and what a file does that is right with them, in words."""
    [(name, x)] = feeds.items() if len(feeds) == 1 else [("", np.empty(0))]
    if x.ndim != 4:
        return
    rows, columns = (2, 3) if _channels_first(spec, x) else (1, 2)
    if x.shape[rows] == x.shape[columns]:
        yield "it takes images with height and width exchanged", {name: x.swapaxes(rows, columns)}
    yield "it takes images that are mirrored, left for right", {name: np.flip(x, columns)}
    yield "it takes images that are upside down, the last row first", {name: np.flip(x, rows)}


def _channels_first(spec: Preprocessing | None, x: Array) -> bool:
    """Whether the channels of images, or of arrays that look like images, stand before height and width."""
    if spec is not None:
        return spec.layout == Layout.NCHW
    return x.ndim == 4 and x.shape[-1] not in _CHANNELS and x.shape[1] in _CHANNELS


def _tells(wanted: Outputs) -> bool:
    """Whether outputs are not the same for every item: where they are, other inputs that give these, too, say nothing about preprocessing."""
    return any(len(x) < 2 or bool((x[1:] != x[:1]).any()) for x in wanted.values() if x.ndim and x.any())


def _preparations(
    spec: Preprocessing | None, feeds: Feeds, wanted: Outputs
) -> Iterator[tuple[str, str, dict[str, Array]]]:
    """The same images with other scalings, and with the channels in the other order: what is otherwise then, what it was, and the images.

    None where `wanted` says nothing about preprocessing (`_tells`).
    """
    if not _tells(wanted):
        return
    if len(feeds) != 1 or (x := next(iter(feeds.values()))).dtype.kind == "U":
        return
    [name] = feeds
    first = spec is None and _channels_first(spec, x)
    channels = spec.channels if spec else x.shape[1 if first else -1] if x.ndim == 4 else 1
    for old, new in candidates(spec, channels):
        changed = Refit(old, new, 0.0).changed
        theirs = " and ".join(f"{what} {after}" for what, (_, after) in changed.items())
        if first:
            old, new = old.changed(layout=Layout.NCHW), new.changed(layout=Layout.NCHW)
        yield theirs, " and ".join(before for before, _ in changed.values()), {name: rescale(x, old, new)}


def scaled_inside(
    spec: Preprocessing | None, feeds: Feeds, outputs: Outputs, reference: Reference, tally: Tally
) -> Iterator[str]:
    """How a file that takes pixels scales them, where the model computes the same of images that are prepared so.

    Args:
        spec: how images are prepared for the model; None for arrays, where nothing is tried.
        feeds: one batch of them.
        outputs: what the file computes of their pixels.
        reference: the model.
        tally: what was seen.
    """
    for theirs, ours, other in _preparations(spec, feeds, outputs) if spec is not None else ():
        try:
            wanted = reference.run("inference", other)
        except InputError:  # the model does not take such values
            continue
        if tally.agree("inference", outputs, wanted):
            yield f"it prepares the pixels that it takes with {theirs}, and the model is shown images with {ours}"
