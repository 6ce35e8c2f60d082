"""What speaks for and against the statistics of a graph and the images it is shown: measured here, judged in `bnexport.rules.diagnose`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnexport.datasets.feeds import Source
from bnexport.datasets.preprocess import rescale
from bnexport.errors import InputError
from bnexport.numerics.drift import Statistics, Warmed, misfit, without_initial
from bnexport.numerics.moments import Moments
from bnexport.numerics.variety import Variety
from bnexport.onnx_graph import protobuf, statistics, weights
from bnexport.progress import Progress
from bnexport.recalibration.staged import Feeds, FirstStage, first_sites, looks_up
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.preprocessing import Preprocessing, Resize
from bnexport.rules import preparations
from bnexport.rules.diagnose import Evidence
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

TRIED_ON = 256
"""Other preparations are tried on at most so many images."""


EXACT_ON = 32
"""Up to so many images may be the training images themselves, whose statistics tell even resize kernels apart."""


def count_inputs(feeds: Source, variety: Variety) -> Iterator[Feeds]:
    """The model's inputs batch by batch, counted in `variety` as they go."""
    for feed in feeds:
        variety.add(feed.names, feed.inputs)
        yield feed.inputs


def build_evidence(
    model: onnx.ModelProto,
    moments: Mapping[str, Moments],
    variety: Variety,
    others: Sequence[preparations.Refit],
    noun: Noun = IMAGES,
) -> Evidence:
    """The evidence from the moments of every site of the graph, the images' variety, and what other preparations give (`refits`)."""
    return Evidence(site_statistics(model, moments), variety, others, noun)


def refits(
    model: onnx.ModelProto, moments: Mapping[str, Moments], feeds: Source, variety: Variety, progress: Progress
) -> list[preparations.Refit]:
    """How well the first sites fit with other preparations; nothing where they fit as it is, or where the input is no image."""
    ahead = [s for s in site_statistics(model, moments) if s.first]
    few = variety.images <= EXACT_ON
    off = misfit(ahead) > (preparations.SUSPICIOUS if few else preparations.limit(variety.images))
    return _refits(FirstStage(model), ahead, feeds, progress) if off and _takes_images(model, feeds) else []


def _takes_images(model: onnx.ModelProto, feeds: Source) -> bool:
    """Whether other scalings can be tried: the only input is floating point, and holds images.

    Arrays are taken for images where they have four axes, one, three or four channels, and are not looked up in a table.
    """
    kinds = protobuf.input_dtypes(model)
    if len(kinds) != 1 or next(iter(kinds.values())).kind != "f":
        return False
    if feeds.spec is not None:
        return True
    shape = next(iter(next(iter(feeds)).inputs.values())).shape
    return len(shape) == 4 and shape[-1] in (1, 3, 4) and not looks_up(model)


def site_statistics(model: onnx.ModelProto, moments: Mapping[str, Moments]) -> list[Statistics]:
    """What the sites hold, and what those whose moments are given see."""
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
        if name in moments
    ]


def _refits(first: FirstStage, ahead: list[Statistics], feeds: Source, progress: Progress) -> list[preparations.Refit]:
    """What other scalings and channel orders give, computed from the prepared images; and with the best of them other resize kernels, for which they are decoded again."""
    feeds = feeds.spread(TRIED_ON)
    tried: list[preparations.Refit] = []

    def refit(pairs: Sequence[tuple[Preprocessing, Preprocessing]], source: Source, change: Change) -> None:
        for (old, new), result in zip(pairs, _misfits(first, ahead, source, pairs, change), strict=True):
            if isinstance(result, InputError):
                progress.note(f"{new.described} could not be tried instead of {old.described}: {result}")
            else:
                tried.append(preparations.Refit(old, new, *result))

    refit(preparations.candidates(feeds.spec, _channels(feeds), _extent(feeds)), feeds, rescale)
    if feeds.spec is not None:
        now = preparations.Refit(feeds.spec, feeds.spec, misfit(ahead))
        best = preparations.best_of([now, *tried])
        base = best.new if best else feeds.spec
        for kernel in Resize:
            if kernel != feeds.spec.resize:
                new = base.changed(resize=kernel)
                refit([(feeds.spec, new)], feeds.with_preprocessing(new), lambda x, _old, _new: x)
    return tried


Change = Callable[[Array, Preprocessing, Preprocessing], Array]
"""What makes a batch that was prepared as one preparation says into one of another."""


def _misfits(
    first: FirstStage,
    ahead: Sequence[Statistics],
    source: Source,
    pairs: Sequence[tuple[Preprocessing, Preprocessing]],
    change: Change,
) -> list[tuple[float, Warmed] | InputError]:
    """The first sites' misfit under each change of preparation, or why it could not be measured. Of the images one batch is held."""
    pools = [first.pool() for _ in pairs]
    refused: dict[int, InputError] = {}
    for batch in count_inputs(source, Variety()):
        for nth, (old, new) in enumerate(pairs):
            if nth in refused:
                continue
            try:
                first.add(pools[nth], {name: change(x, old, new) for name, x in batch.items()})
            except InputError as error:
                refused[nth] = error
    return [refused[nth] if nth in refused else _misfit(ahead, pool.moments) for nth, pool in enumerate(pools)]


def _misfit(ahead: Sequence[Statistics], moments: Mapping[str, Moments]) -> tuple[float, Warmed]:
    seeing = [replace(s, seen_mean=moments[s.name].mean, seen_var=moments[s.name].var) for s in ahead]
    return misfit(seeing), without_initial(seeing)


def _channels(feeds: Source) -> int:
    """Those of the images; of arrays the last axis where there are four."""
    if feeds.spec is not None:
        return feeds.spec.channels
    shape = next(iter(next(iter(feeds)).inputs.values())).shape
    return shape[-1] if len(shape) == 4 else 1


def _extent(feeds: Source) -> tuple[float, float]:
    """The smallest and the largest value of arrays; nothing is known of those of images before they are prepared."""
    if feeds.spec is not None:
        return 0.0, 0.0
    values = [x for feed in feeds for x in feed.inputs.values() if x.size]
    return float(min(x.min() for x in values)), float(max(x.max() for x in values))
