"""Whether what a side computes for an image depends on the rest of its batch (BN006): a batch against its images one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnexport.checking.repeat import IMAGES_TOGETHER, ONCE, Repetition
from bnexport.comparison import floors
from bnexport.comparison.selected import number_items
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.onnx_graph.reductions import normalises_by_batch
from bnexport.progress import Progress
from bnexport.results.heads import Heads
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.runs import Role
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison, Finding
from bnexport.rules import modes

ALONE = 2
"""How many of its images are run alone."""


def possible(subject: Subject, count: int) -> bool:
    """Whether there are two images, and the batch axis of every input is open."""
    return count >= 2 and all(shape and shape[0] is None for shape in subject.shapes.values())


def compare(
    runners: Sequence[Runner],
    feed: Feed,
    subject: Subject,
    tolerances: Tolerances,
    progress: Progress,
    noun: Noun = IMAGES,
    repetition: Repetition = ONCE,
) -> tuple[list[Comparison], list[Finding]]:
    """The comparison of each inference side with itself, one by one, for the first images of a batch, and BN006 where they differ.

    Selected rows (detections) of all images together are those of each image alone. Other outputs without a row for each image (a mean over
    the batch) are left out. So is a side that does not run on single images, and the progress says so; and one that is not deterministic
    (RT013), whose first pass `repetition` has.
    """
    batch = {name: x[:IMAGES_TOGETHER] for name, x in feed.inputs.items()}
    heads = subject.heads(())
    count = IMAGES_TOGETHER if heads.rows else ALONE  # which image a row belongs to may not be known
    few = Feed({name: x[:count] for name, x in batch.items()}, feed.names[:count], feed.labels[:count])
    comparisons: list[Comparison] = []
    findings: list[Finding] = []
    for runner in runners:
        spec = runner.spec
        if spec.mode != "inference" or spec.as_deployed or runner.of_items is not None:
            continue
        if (
            (spec.role == Role.CONTROL and spec.artifact)
            or runner.id in repetition.varying
            or runner.opaque == "server"
        ):
            continue  # the answers of servers are compared in more ways (`company`)
        alone = replace(spec, role=Role.CONTROL, detail="one by one")
        together = replace(spec, role=Role.CANDIDATE)
        quantised = {together.id: runner.quantised} if runner.quantised else {}
        tally = Tally([alone, together], heads, tolerances, quantised=quantised)
        try:
            size = len(next(iter(batch.values())))
            computed = repetition.outputs.get(runner.id) or runner.compute(batch)
            whole = {n: x[:count] for n, x in computed.items() if n not in heads.rows and x.ndim and len(x) == size}
            whole |= {n: computed[n] for n in _rows_by_item(computed, heads)}
            single = _alone(runner, few.inputs, whole, heads)
            both = whole.keys() & single.keys()
            if not both:
                raise InputError("no output has one row per image")
            recorded, outputs = ({name: x[name] for name in x if name in both} for x in (single, whole))
            tally.begin(few, recorded)
            tally.add(alone.id, few, recorded, {})
            tally.add(together.id, few, outputs, {alone.id: recorded})
        except InputError as error:
            progress.note(f"whether {runner.id} depends on the batch could not be checked: {error}")
            continue
        if tolerances.provisional:
            floors.where_lost(tally, subject.reference, progress)
        judged, _ = tally.judge((), ())
        by_batch = not all(judged) and normalises_by_batch(runner.graph() if runner.graph else subject.graph)
        comparisons += [replace(comparison, task=None) for comparison in judged]  # so few items say nothing there
        findings += [
            modes.batch_dependent(comparison, by_batch=by_batch, noun=noun)
            for comparison in judged
            if not (comparison or comparison.difference.nonfinite)
        ][:1]
    return comparisons, findings


def _rows_by_item(outputs: Outputs, heads: Heads) -> list[str]:
    """The tensors with selected rows that do not depend on where an item stands in its batch.

    These are numbers, and the indices that an operator gives out as they are.
    """
    return [
        name
        for name, selection in heads.rows.items()
        if name in outputs and (outputs[name].dtype.kind == "f" or selection.batch is not None)
    ]


def _alone(runner: Runner, feeds: Feeds, whole: Outputs, heads: Heads) -> Outputs:
    """What a run computes for the items one by one, put together as those of one batch."""
    count = len(next(iter(feeds.values())))
    parts = [runner.compute({name: x[i : i + 1] for name, x in feeds.items()}) for i in range(count)]
    selected = {name: [part[name] for part in parts] for name in whole if name in heads.rows and name in parts[0]}
    rows = [
        name
        for name in parts[0]
        if name not in heads.rows and all(part[name].ndim and len(part[name]) == 1 for part in parts)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in rows} | {
        name: number_items(of_items, whole[name], heads.rows[name]) for name, of_items in selected.items()
    }
