"""Which cause, with the numbers: what the rules about statistics and images say together, from what each site holds and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bnexport.numerics.drift import Statistics, misfit, without_initial
from bnexport.numerics.variety import Variety
from bnexport.results.nouns import IMAGES, Noun
from bnexport.results.verdict import Finding
from bnexport.rules import batch_norm, inputs, preprocessing
from bnexport.rules.preparations import Refit, limit


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the statistics of a graph on some images.

    Args:
        statistics: what each site holds and sees, in the graph's order; empty where it could not be measured.
        variety: what the images are.
        refits: how the first sites fit with other scalings; empty where they fit as it is, or where nothing could be tried.
        noun: what the model was run on.
    """

    statistics: Sequence[Statistics]
    variety: Variety
    refits: Sequence[Refit] = ()
    noun: Noun = IMAGES


STATISTICS_WRONG = frozenset(rule.code for rule in (batch_norm.BN001, batch_norm.BN002, batch_norm.BN003))
"""The findings that say that the moving statistics themselves are wrong, so that measuring them anew is the repair."""


def diagnose(evidence: Evidence, *, answers_differ: bool, stored_iterations: int | None) -> list[Finding]:
    """The findings about the moving statistics and the images.

    Args:
        evidence: the numbers.
        answers_differ: whether training and inference mode answer differently: then stale statistics are an error.
        stored_iterations: the update counter of the optimizer in the file, to check the estimate by; None where there is none.

    Returns:
        BN001 comes without a fix, and IN002 with half of one: whether recalibrating is one has to be measured.
    """
    sites, noun = evidence.statistics, evidence.noun
    rest = batch_norm.learnt(sites)
    first = [s for s in rest if s.first]
    later = [s for s in rest if not s.first]
    scaling = preprocessing.wrong_preparation(
        first, evidence.variety.images, evidence.refits, noun=noun, left=batch_norm.share_left(later)
    )
    untouched = batch_norm.initial_statistics(sites, noun)
    stale, by_later = None, False
    if not untouched:
        is_stale = partial(batch_norm.stale, answers_differ=answers_differ, stored_iterations=stored_iterations)
        stale = is_stale(later if scaling else rest)
        enough = limit(evidence.variety.images)
        if stale is None and misfit(first) > enough and without_initial(later).misfit <= enough:
            stale = is_stale(later)
            by_later = stale is not None
    unexplained = not scaling and (by_later or not stale)
    other = preprocessing.other_data(first, evidence.variety.images, noun) if unexplained else None
    raised = (
        scaling,
        batch_norm.broken(sites),
        untouched,
        stale,
        other,
        batch_norm.sharp(rest, noun),
        inputs.few(evidence.variety, noun),
    )
    return [finding for finding in raised if finding is not None]
