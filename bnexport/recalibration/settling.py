"""What nobody stated about the images' preparation, settled by what the model's first sites hold: one rule for check, pack and recalibrate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bnexport.comparison.subject import Subject
from bnexport.datasets.feeds import Source
from bnexport.datasets.preparation import Preparation
from bnexport.errors import InputError
from bnexport.numerics import moments
from bnexport.numerics.drift import Statistics
from bnexport.numerics.variety import Variety
from bnexport.onnx_graph.sites import sites
from bnexport.progress import Progress
from bnexport.recalibration.evidence import count_inputs, refits, site_statistics
from bnexport.recalibration.staged import FirstStage
from bnexport.recalibration.trial import ENOUGH
from bnexport.results.verdict import Finding
from bnexport.rules.batch_norm import learnt
from bnexport.rules.preparations import Refit, find_fitting
from bnexport.rules.preprocessing import wrong_preparation
from bnexport.runtimes import ort_library


@dataclass(frozen=True, slots=True)
class Settled:
    """What a model is run on.

    Args:
        feeds: the images, prepared as it fits the model.
        preparation: how that is; None for arrays.
        finding: IN001 where something that was assumed is replaced.
        refits: what other preparations give, where that was computed and nothing is replaced.
    """

    feeds: Source
    preparation: Preparation | None
    finding: Finding | None = None
    refits: Sequence[Refit] | None = None


def settle(subject: Subject, feeds: Source, preparation: Preparation | None, progress: Progress) -> Settled:
    """Replaces what was assumed about the images' preparation where the model's first sites refute it, and another one fits.

    What somebody stated (flags, the file beside the model, metadata) stays as it is. Only the part of the graph before the first sites runs, on at
    most `ENOUGH` of the images.
    """
    if preparation is None or not preparation.assumed or not sites(subject.graph):
        return Settled(feeds, preparation)
    try:
        ahead, images, tried = _measure(subject, feeds.spread(ENOUGH), progress)
    except InputError as error:
        progress.note(f"the assumed preprocessing could not be verified: {error}")
        return Settled(feeds, preparation)
    open_to_change = [refit for refit in tried if set(refit.changed) <= preparation.assumed]
    best = find_fitting(ahead, images, open_to_change)
    if best is None:
        return Settled(feeds, preparation, refits=tried)
    finding = wrong_preparation(ahead, images, open_to_change, replaced=True)
    return Settled(feeds.with_preprocessing(best.new), preparation.with_spec(best.new), finding)


def _measure(subject: Subject, feeds: Source, progress: Progress) -> tuple[list[Statistics], int, list[Refit]]:
    """What the first sites hold and see, on how many images, and what other preparations give."""
    graph, store = subject.graph, subject.store
    key = (subject.facts.sha256, feeds.fingerprint(), ort_library.version())
    stored = [store.get(what, *key) for what in ("first-moments", "first-refits")]
    if stored[0] is not None and stored[1] is not None:
        images, others = json.loads(stored[1])
        tried = [Refit.from_list(each) for each in others]
        seen = moments.from_bytes(stored[0])
    else:
        variety = Variety()
        progress.stage("measuring the first layers")
        seen = FirstStage(graph).moments(count_inputs(feeds, variety))
        images, tried = variety.images, refits(graph, seen, feeds, variety, progress)
        store.put(moments.to_bytes(seen), "first-moments", *key)
        store.put(json.dumps([images, [refit.as_list() for refit in tried]]).encode(), "first-refits", *key)
    return [s for s in learnt(site_statistics(graph, seen)) if s.first], images, tried
