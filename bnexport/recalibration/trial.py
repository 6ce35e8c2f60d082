"""The graph recalibrated on these images, as a side of the check, with the evidence gathered on the way: what recalibrating *would* give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.comparison import sides
from bnexport.comparison.sides import Runner
from bnexport.comparison.subject import Subject
from bnexport.datasets.feeds import Source
from bnexport.errors import InputError
from bnexport.numerics import moments
from bnexport.numerics.moments import Moments
from bnexport.numerics.variety import Variety
from bnexport.onnx_graph import statistics
from bnexport.onnx_graph.sites import sites
from bnexport.progress import Progress
from bnexport.recalibration import staged
from bnexport.recalibration.evidence import build_evidence, count_inputs, refits
from bnexport.recalibration.live import live_tensors
from bnexport.results.nouns import noun_of
from bnexport.rules.diagnose import Evidence
from bnexport.rules.preparations import Refit
from bnexport.runtimes import ort_library
from bnexport.system import machine

ENOUGH = 512
"""A check tries what recalibrating would give on at most so many images, evenly spread: enough to tell which statistics are wrong."""


FEW = 32
"""The same where two ONNX files are compared: the statistics are not what was asked about."""


HELD = 2 << 30
"""A check holds at most so many bytes of live tensors in memory, the rest in files."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The recalibrated graph as a side of the check, and the evidence that was gathered on the way."""

    runner: Runner
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Untried:
    """Why a graph's statistics could not be examined."""

    reason: str


def try_recalibration(
    subject: Subject,
    feeds: Source,
    progress: Progress,
    earlier: Sequence[Refit] | None = None,
    most: int = ENOUGH,
) -> Trial | Untried:
    """Recalibrates a copy of the graph on at most so many of the images. `earlier` are refits on the same images, where they were computed before.

    Where it cannot be done (a layer that is called twice, values that are not finite) the progress says why. What an earlier check of the same
    model and images measured is not measured again.
    """
    graph = subject.graph
    if not sites(graph):
        if subject.facts.layers:
            return Untried(
                "the file has them folded into other weights; a check of the model without the file examines them"
            )
        return Untried("the graph has no BatchNormalization node")
    feeds = feeds.spread(most)
    key = (subject.facts.sha256, feeds.fingerprint(), ort_library.version())
    try:
        measured, variety, others = _measure(subject, feeds, key, progress, earlier)
        values = statistics.by_initializer(measured, graph)
    except InputError as error:
        progress.note(f"the effect of recalibration could not be measured: {error}")
        return Untried(str(error))
    runner = sides.recall(
        sides.recalibrated_spec(graph),
        lambda: sides.recalibrated_side(statistics.with_statistics(graph, values)),
        subject.store,
        *key,
    )
    return Trial(runner, build_evidence(graph, measured, variety, others, noun_of(feeds.spec)))


def _measure(
    subject: Subject, feeds: Source, key: Sequence[str], progress: Progress, earlier: Sequence[Refit] | None
) -> tuple[dict[str, Moments], Variety, list[Refit]]:
    stored = [subject.store.get(what, *key) for what in ("moments", "evidence")]
    if stored[0] is not None and stored[1] is not None:
        record = json.loads(stored[1])
        others = [Refit.from_list(stored) for stored in record["refits"]]
        return moments.from_bytes(stored[0]), Variety.from_dict(record["variety"]), others
    variety = Variety()
    with live_tensors(None, min(machine.memory_available() // 2, HELD)) as live:
        by_site = staged.measure(
            subject.graph, count_inputs(feeds, variety), feeds.count, live, "cpu", progress
        ).moments
    others = list(earlier) if earlier is not None else refits(subject.graph, by_site, feeds, variety, progress)
    record = {
        "variety": variety.as_dict(),
        "refits": [refit.as_list() for refit in others],
    }
    subject.store.put(moments.to_bytes(by_site), "moments", *key)
    subject.store.put(json.dumps(record).encode(), "evidence", *key)
    return by_site, variety, others
