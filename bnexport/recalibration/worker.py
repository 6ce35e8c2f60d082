"""What one machine does for a recalibration: all of it, or its shard of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bnexport.comparison import sides
from bnexport.comparison.sides import Runner
from bnexport.comparison.subject import Subject
from bnexport.datasets.feeds import Source
from bnexport.numerics.moments import Moments, Total
from bnexport.numerics.variety import Variety
from bnexport.onnx_graph import stages, statistics, tensors
from bnexport.onnx_graph.outputs import fetches
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import sites
from bnexport.progress import Progress
from bnexport.recalibration import staged
from bnexport.recalibration.evidence import count_inputs
from bnexport.recalibration.live import live_tensors
from bnexport.recalibration.pool import Pool, merge
from bnexport.results.facts import SHOWN
from bnexport.results.runs import RunSpec
from bnexport.results.verdict import Side
from bnexport.runtimes import ort_session
from bnexport.system import machine
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Values = Mapping[str, Array]
Answered = Callable[[Sequence[Runner], Subject, Source, Progress], list[Side]]
"""What each runner answers on all feeds."""


class Worker:
    """Its images, and the tensors of theirs that wait for the next stage.

    Args:
        subject: the model.
        feeds: the images whose statistics are measured.
        others: the images to judge on.
        answered: judges.
        scratch: where tensors go that do not fit into memory.
        memory: how many bytes of them stay in memory; None for half of what is free.
        progress: notified of each batch.
    """

    def __init__(
        self,
        subject: Subject,
        feeds: Source,
        others: Source,
        answered: Answered,
        scratch: Path | None,
        memory: int | None,
        progress: Progress | None = None,
    ) -> None:
        self._subject, self._feeds, self._others, self._answered = subject, feeds, others, answered
        self._progress = progress or Progress()
        self._variety = Variety()
        self._stack = ExitStack()
        budget = machine.memory_available() // 2 if memory is None else memory
        self._live = self._stack.enter_context(live_tensors(scratch, budget))
        batches = count_inputs(feeds, self._variety)
        self._shard = staged.Shard(subject.graph, batches, feeds.count, self._live, "cpu")

    def totals(self, nth: int, values: Values) -> dict[str, Total]:
        """The sums of the sites at the end of a stage."""
        return self._shard.totals(nth, values, self._progress.advance)

    def finish(self) -> tuple[int, Variety, int]:
        """How many images there were, what they are like, and how many bytes of live tensors were on disk at most. No stage follows."""
        self._stack.close()
        return self._shard.images, self._variety, self._live.most_on_disk

    def assess(self, values: Values) -> tuple[dict[str, Total], Side, Side]:
        """The sums of every site with new statistics in use, from one more pass in inference mode, and the answers with the old and with the new ones."""
        graph = self._subject.graph
        bare, apart = self._shard.bare, self._shard.apart
        names = fetches(graph)
        as_stored = tensors.with_outputs(bare, names.values())
        with ThreadPoolExecutor(1) as beside:  # onnxruntime opens one graph on one core
            opening = beside.submit(_side, graph, as_stored, apart, sides.graph_spec(graph, "inference", "cpu"))
            new, pool = _measuring_side(graph, statistics.with_statistics(bare, values), apart)
            old = opening.result()
        if self._others is not self._feeds:
            for feed in self._feeds:
                new.run(feed)
            new = sides.recalibrated_side(statistics.with_statistics(graph, values))
        before, after = self._answered([old, new], self._subject, self._others, self._progress)
        return pool.totals, before, after

    def close(self) -> None:
        """Its scratch files are not needed any longer."""
        self._stack.close()


def _session(bare: onnx.ModelProto, apart: Values) -> ort_session.Session:
    return ort_session.Session(serialise(bare), settings=ort_session.WITHOUT_SPINNING, weights=apart)


def _side(graph: onnx.ModelProto, bare: onnx.ModelProto, apart: Values, spec: RunSpec) -> Runner:
    """A graph as a run; `bare` is the same with everything that is compared among its outputs, and without the weights in `apart`."""
    names = fetches(graph)
    whole = partial(tensors.with_outputs, graph, names.values())
    return sides.graph_run(graph, whole, spec, _session(bare, apart).run, names)


def _measuring_side(graph: onnx.ModelProto, repaired: onnx.ModelProto, apart: Values) -> tuple[Runner, Pool]:
    """A recalibrated graph, without the weights in `apart`, as a run that also adds up what its sites see."""
    names, pool = fetches(graph), Pool(sites(graph))
    bare = tensors.with_outputs(repaired, names.values())
    stages.add_moments(bare, sites(graph), tensors.ranks(graph))
    session = _session(bare, apart)

    def run(feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        values = session.run(feeds, [*wanted, *pool.outputs])
        pool.add(values)
        return values

    return sides.graph_run(graph, lambda: bare, sides.recalibrated_spec(graph), run, names), pool


class Workers(Protocol):
    """One worker for each shard of the images."""

    def each(self, method: str, *arguments: object, on_answer: Callable[[], None]) -> list[Any]:
        """What a method of each gives, in their order; `on_answer` is called when one has answered."""
        ...

    def close(self) -> None:
        """They are not needed any longer."""
        ...


class Alone:
    """One worker, here."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def each(self, method: str, *arguments: object, on_answer: Callable[[], None]) -> list[Any]:  # noqa: ARG002 - the worker reports its own progress
        """What its method gives."""
        return [getattr(self._worker, method)(*arguments)]

    def close(self) -> None:
        """It is not needed any longer."""
        self._worker.close()


class Team:
    """All workers together: what they find, merged.

    Args:
        subject: the model.
        workers: one for each shard.
        shares: how many images each has, for the progress.
        progress: notified of each part of the way that a worker has gone.
    """

    def __init__(self, subject: Subject, workers: Workers, shares: Sequence[int], progress: Progress) -> None:
        self._subject, self._workers, self._shares, self._progress = subject, workers, shares, progress

    def measure(self) -> tuple[staged.Measured, Variety, int]:
        """The self-consistent moments of every site, what the images are like, and how many bytes of live tensors were on disk at most."""
        plan = staged.plan(self._subject.graph)
        each = sum(self._shares) / len(self._shares) / len(plan)
        advance = partial(self._progress.advance, each)
        self._progress.start("recalibrating", sum(self._shares))
        by_site = staged.levels(plan, lambda nth, values: self._workers.each("totals", nth, values, on_answer=advance))
        variety, images, on_disk = Variety(), 0, 0
        for seen, kind, scratch in self._workers.each("finish", on_answer=lambda: None):
            images, on_disk = images + seen, on_disk + scratch
            variety.merge(kind)
        return staged.Measured(by_site, len(plan), images), variety, on_disk

    def assess(self, values: Values) -> tuple[dict[str, Moments], Side, Side]:
        """The moments of every site with new statistics in use, and the answers with the old and with the new ones."""
        self._progress.start("judging", sum(self._shares))
        advance = partial(self._progress.advance, sum(self._shares) / len(self._shares))
        parts = self._workers.each("assess", values, on_answer=advance)
        totals, before, after = zip(*parts, strict=True)
        return merge(totals), _together(before), _together(after)


def _together(parts: Sequence[Side]) -> Side:
    """One side's answers on several shards, one after the other."""
    right = [part.correct for part in parts if part.correct is not None]
    return replace(
        parts[0],
        correct=sum(right) if right else None,
        of=sum(part.of for part in parts),
        answers=tuple(chain.from_iterable(part.answers for part in parts)),
        confidence=tuple(chain.from_iterable(part.confidence for part in parts)),
        seconds=sum(part.seconds for part in parts),
        scores=tuple(chain.from_iterable(part.scores for part in parts))[:SHOWN],
    )
