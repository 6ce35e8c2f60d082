"""What speaks for and against the statistics of a graph and the images it is shown: measured here, judged in `bnexport.numerics.diagnose`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.graph import statistics, weights
from bnexport.numerics import inputs
from bnexport.numerics.diagnose import Evidence
from bnexport.numerics.drift import Statistics, misfit
from bnexport.numerics.moments import Moments
from bnexport.numerics.preprocess import rescaled
from bnexport.numerics.spec import Preprocessing, Resize
from bnexport.numerics.variety import Variety
from bnexport.recalibration.staged import Feeds, FirstStage, first_sites
from bnexport.subjects.feeds import Source

if TYPE_CHECKING:
    import onnx

TRIED_ON = 256
"""Other preparations are tried on at most so many images."""


EXACT_ON = 32
"""Up to so many images may be the training images themselves, whose statistics tell even resize kernels apart."""


def thinned(feeds: Source, most: int) -> Source:
    """At most so many of the images, evenly spread: a folder is sorted by class, and its head is no sample."""
    parts = -(-feeds.count // most)
    return feeds.shard(0, parts) if parts > 1 else feeds


def watched(feeds: Source, variety: Variety) -> Iterator[Feeds]:
    """The model's inputs batch by batch, counted in `variety` as they go."""
    for feed in feeds:
        variety.add(feed.names, feed.inputs)
        yield feed.inputs


def gathered(
    model: onnx.ModelProto, moments: Mapping[str, Moments], variety: Variety, others: Sequence[inputs.Refit]
) -> Evidence:
    """The evidence from the moments of every site of the graph, the images' variety, and what other preparations give (`refits`)."""
    return Evidence(_statistics(model, moments), variety, others)


def refits(
    model: onnx.ModelProto, moments: Mapping[str, Moments], feeds: Source, variety: Variety
) -> list[inputs.Refit]:
    """How well the first sites fit with other preparations; nothing where they fit as it is, or where the model has several inputs."""
    ahead = [s for s in _statistics(model, moments) if s.first]
    few = variety.images <= EXACT_ON
    off = misfit(ahead) > (inputs.SUSPICIOUS if few else inputs.limit(variety.images))
    return _refits(FirstStage(model), ahead, feeds) if off else []


def _statistics(model: onnx.ModelProto, moments: Mapping[str, Moments]) -> list[Statistics]:
    stored = weights.initializers(model)
    first = {site.name for site in first_sites(model)}
    return [
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
            first=name in first,
            frozen=site.frozen,
        )
        for name, (site, mean, var) in statistics.current(model).items()
    ]


def _refits(first: FirstStage, held: list[Statistics], feeds: Source) -> list[inputs.Refit]:
    """What other scalings and channel orders give, computed from the prepared images; and with the best of them other resize kernels, for which they are decoded again."""
    feeds = thinned(feeds, TRIED_ON)
    batches = list(watched(feeds, Variety()))
    if any(len(batch) != 1 for batch in batches):
        return []
    shape = next(iter(batches[0].values())).shape
    channels = feeds.spec.channels if feeds.spec else shape[-1] if len(shape) == 4 else 1

    def refit(old: Preprocessing, new: Preprocessing, prepared: Iterable[Feeds]) -> inputs.Refit:
        moments = first.moments(prepared)
        seen = [replace(s, seen_mean=moments[s.name].mean, seen_var=moments[s.name].var) for s in held]
        return inputs.Refit(old, new, misfit(seen))

    refits = [
        refit(old, new, ({n: rescaled(x, old, new) for n, x in batch.items()} for batch in batches))
        for old, new in inputs.candidates(feeds.spec, channels)
    ]
    if feeds.spec is not None:
        now = inputs.Refit(feeds.spec, feeds.spec, misfit(held))
        best = inputs.best_of([now, *refits])
        base = best.new if best else feeds.spec
        for kernel in Resize:
            if kernel != feeds.spec.resize:
                new = base.changed(resize=kernel)
                refits.append(refit(feeds.spec, new, watched(feeds.prepared_as(new), Variety())))
    return refits
