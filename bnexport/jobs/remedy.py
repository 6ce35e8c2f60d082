"""What recalibrating would give: measured in every check, so that the report can say whether it is the right repair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnexport.errors import InputError
from bnexport.graph import statistics, weights
from bnexport.graph.sites import sites
from bnexport.jobs import sides, staged
from bnexport.jobs.feeds import Feed, Source
from bnexport.jobs.live import live_tensors, memory_available
from bnexport.jobs.progress import Progress
from bnexport.jobs.sides import Runner
from bnexport.jobs.staged import Feeds
from bnexport.jobs.subject import Subject
from bnexport.numerics.drift import Statistics
from bnexport.numerics.verdict import Side

SAMPLES = 2048
"""How many images are enough: 10^3 to 10^4 (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The recalibrated graph as a side of the check, and what each site holds beside what it sees."""

    runner: Runner
    statistics: list[Statistics]


def tried(subject: Subject, feeds: Source, progress: Progress) -> Trial | None:
    """Recalibrates a copy of the graph on at most `SAMPLES` of the images; None where there is nothing to recalibrate.

    Where it cannot be done (a layer that is called twice, values that are not finite) the progress says why.
    """
    graph = subject.graph
    if not sites(graph):
        return None
    try:
        with live_tensors(None, memory_available() // 2) as live:
            count = min(feeds.count, SAMPLES)
            moments = staged.measure(graph, _first(feeds, SAMPLES), count, live, "cpu", progress).moments
        repaired = statistics.with_statistics(graph, statistics.by_initializer(moments, graph))
    except InputError as error:
        progress.note(f"what recalibrating would give is not known: {error}")
        return None
    stored = weights.initializers(graph)
    held = statistics.current(graph)
    found = [
        Statistics(
            name=name,
            mean=mean,
            var=var,
            seen_mean=moments[name].mean,
            seen_var=moments[name].var,
            epsilon=site.epsilon,
            momentum=site.momentum,
            gamma=np.asarray(stored[site.gamma], np.float64),
            beta=np.asarray(stored[site.beta], np.float64),
        )
        for name, (site, mean, var) in held.items()
    ]
    return Trial(sides.recalibrated_side(repaired), found)


def _first(feeds: Source, count: int) -> Iterator[Feeds]:
    for feed in feeds:
        yield _cut(feed, count)
        count -= len(feed.names)
        if count <= 0:
            return


def _cut(feed: Feed, count: int) -> Feeds:
    return feed.inputs if len(feed.names) <= count else {name: value[:count] for name, value in feed.inputs.items()}


def advice(model: str, images: str, before: Side | None, after: Side | None) -> tuple[str, ...]:
    """What to do where the modes answer differently, from what recalibrating was seen to give.

    Args:
        model: as the user named it.
        images: as the user named them.
        before: the answers in inference mode.
        after: the answers of the recalibrated graph; None where it could not be made.
    """
    output = Path(model).with_suffix("")
    command = f"bnexport recalibrate {model} {images} -o {output}-recalibrated{Path(model).suffix}"
    train = "train for more updates, or with a lower BatchNormalization momentum"
    prepare = "make sure that the images are prepared as they were in training"
    if before is None or after is None:
        return (train, prepare)
    if before.correct is None or after.correct is None:
        return (
            f"with the statistics of these images: {command} (no labels are known: judge it on images with labels)",
            prepare,
            train,
        )
    if after.correct < before.correct:
        return (
            f"do not recalibrate: accuracy would fall from {before.correct} to {after.correct} of {after.of}",
            prepare,
        )
    return (f"{command}: {after.correct} of {after.of} right instead of {before.correct}", train, prepare)
