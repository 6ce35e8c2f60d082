"""Staged recalibration: the self-consistent statistics of every site, in one forward pass, at any batch size.

Wanted are moving statistics that equal the statistics of each site's own input *in inference mode with those very statistics*. One
training-mode pass over all images in a single batch computes them; the stages compute the same without that batch: the sites of one level
depend on the statistics of the levels before only, so that level after level can be measured over all batches, merged, and fixed.

Pooling the statistics of training-mode passes over small batches (PreciseBN, update_bn) is something else: there the layers before a site
were normalised by statistics that inference will not use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bnexport.errors import InputError
from bnexport.numerics.moments import Moments, Total
from bnexport.onnx_graph import stages as cut, tensors, weights
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.sites import Site, sites
from bnexport.progress import Progress
from bnexport.recalibration.live import LiveTensors
from bnexport.recalibration.pool import Pool, merge
from bnexport.runtimes import ort_session
from bnexport.system import machine
from bnexport.types import Array

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, Array]


WORKING_SET = 2_000_000
"""Larger batches are split until the tensors of one cut take about so many bytes: while they stay in the processor's cache, the many short
stages run up to 1.3 times as fast (ResNet50, 2 cores, batch 16 against 1)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured.

    Args:
        moments: of each site's input, by site name.
        stages: how many stages there were.
        images: how many images were seen.
    """

    moments: dict[str, Moments]
    stages: int
    images: int


def first_sites(model: onnx.ModelProto) -> Sequence[Site]:
    """The sites that see the images through fixed weights only."""
    return cut.stages(model, sites(model))[0].sites


def looks_up(model: onnx.ModelProto) -> bool:
    """Whether the first sites see what is looked up in a table, as an embedding does."""
    tables = {tensor.name for tensor in model.graph.initializer}
    nodes = (model.graph.node[index] for index in cut.stages(model, sites(model))[0].nodes)
    return any(node.op_type == "Gather" and node.input[0] in tables for node in nodes)


class FirstStage:
    """The part of a graph before its first sites: what they see depends on the images and on fixed weights only."""

    def __init__(self, model: onnx.ModelProto) -> None:
        stage = cut.stages(model, sites(model))[0]
        self.sites = stage.sites
        self._needs = stage.needs
        part = cut.stage_model(model, stage, {}, tensors.ranks(model))
        self._session = ort_session.Session(serialise(part), settings=ort_session.WITHOUT_SPINNING)

    def moments(self, batches: Iterable[Feeds]) -> dict[str, Moments]:
        """The moments of the first sites' inputs, by site name."""
        pool = self.pool()
        for feeds in batches:
            self.add(pool, feeds)
        return pool.moments

    def pool(self) -> Pool:
        """An empty one, for what the first sites see."""
        return Pool(self.sites)

    def add(self, pool: Pool, feeds: Feeds) -> None:
        """One more batch of the model's inputs.

        Raises:
            InputError: the graph does not run on it, or a site sees another tensor than the file says.
        """
        pool.add(self._session.run({name: feeds[name] for name in self._needs}, pool.outputs))


class Shard:
    """Some of the images, on their way through the stages of a graph: all of them on one machine, a part on a cluster.

    `bare` and `apart` are the graph without its large weights, and those (`bnexport.onnx_graph.weights.set_apart`).

    Args:
        model: the inference graph; its own statistics do not matter.
        batches: the images, as inputs of the graph; gone through once.
        total: how many there are, as far as is known.
        live: where tensors wait for their next stage.
        provider: where the stages run.

    Raises:
        InputError: the graph has no site, or cannot be cut.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        batches: Iterable[Feeds],
        total: int,
        live: LiveTensors,
        provider: ort_session.Provider,
    ) -> None:
        self.plan = plan(model)
        self.images = 0
        decided = {name for site in sites(model) for name in (site.mean, site.var)}
        self.bare, self.apart = weights.set_apart(model, decided)
        self._live, self._provider = live, provider
        self._rank = tensors.ranks(model)  # may have to infer shapes: once, not for each stage
        each = cut.bytes_per_image(model, self.plan)
        size = max(1, WORKING_SET // each) if each else total
        self._callers = max(1, min(machine.threads(), total // size)) if provider == "cpu" else 1
        self._batches = _parts(batches, size)
        self._next = 0

    def totals(self, nth: int, values: Mapping[str, Array], advance: Callable[[float], None]) -> dict[str, Total]:
        """The sums of the sites at the end of a stage.

        Stages come one after the other; the ones before that this object has not been through (it replaces one that was lost) it goes through first.

        Args:
            nth: the stage.
            values: the statistics of the stages before, by initializer.
            advance: notified of each batch, in images of the whole way.
        """
        while self._next < nth:
            self._through(self._next, values, lambda _: None)
        return self._through(nth, values, advance)

    def _through(self, nth: int, values: Mapping[str, Array], advance: Callable[[float], None]) -> dict[str, Total]:
        stage = self.plan[nth]
        part = cut.stage_model(self.bare, stage, values, self._rank)
        session = ort_session.Session(
            serialise(part),
            self._provider,
            callers=self._callers,
            settings=ort_session.WITHOUT_SPINNING,
            weights={
                tensor.name: self.apart[tensor.name] for tensor in part.graph.initializer if tensor.name in self.apart
            },
        )
        outputs = [info.name for info in part.graph.output]
        pool = Pool(stage.sites)
        live = self._live
        queue: Iterable[tuple[int, Feeds]] = (
            enumerate(self._batches) if nth == 0 else ((b, live.get(b, stage.needs)) for b in range(len(live)))
        )
        run = partial(_run, session, stage.needs, outputs)
        for batch, feeds, made in _in_order(run, queue, self._callers):
            pool.add(made)
            count = len(next(iter(feeds.values())))
            if nth == 0:
                self.images += count
                live.add({name: value for name, value in feeds.items() if name not in stage.drops})
            live.drop(batch, stage.drops)
            live.put(batch, {name: made[name] for name in stage.keeps})
            advance(count / len(self.plan))
        self._next = nth + 1
        return pool.totals


def plan(model: onnx.ModelProto) -> list[cut.Stage]:
    """The stages that statistics have to be measured in.

    Raises:
        InputError: the graph has no site, or cannot be cut.
    """
    nodes = sites(model)
    if not nodes:
        raise InputError(
            "the graph contains no BatchNormalization node to recalibrate",
            fix="the nodes were probably folded: recalibrate the Keras model, or export it again with bnexport export",
        )
    stages = cut.stages(model, nodes)
    # Nothing after the last site has to run.
    return stages[: 1 + max(k for k, stage in enumerate(stages) if stage.sites)]


Step = Callable[[int, Mapping[str, Array]], Sequence[Mapping[str, Total]]]
"""What gives the sums of a stage, from each shard."""


def levels(stages: Sequence[cut.Stage], step: Step) -> dict[str, Moments]:
    """The self-consistent moments of every site: level by level, from all shards, merged and fixed.

    Args:
        stages: those of the graph.
        step: measures one of them, with the statistics of the ones before, by initializer.

    Raises:
        InputError: a statistic is not finite, or not one image arrived.
    """
    result: dict[str, Moments] = {}
    values: dict[str, Array] = {}
    for nth, stage in enumerate(stages):
        level = merge(step(nth, values))
        if not all(moments.count for moments in level.values()):
            raise InputError("there are no images to recalibrate from")
        _refuse_nonfinite(level)
        result |= level
        for site in stage.sites:
            values |= {site.mean: level[site.name].mean, site.var: level[site.name].var}
    return result


def measure(
    model: onnx.ModelProto,
    batches: Iterable[Feeds],
    total: int,
    live: LiveTensors,
    provider: ort_session.Provider,
    progress: Progress,
) -> Measured:
    """The self-consistent moments of every site of the graph, on this machine.

    Args:
        model: the inference graph; its own statistics do not matter.
        batches: the images, as inputs of the graph; gone through once.
        total: how many images there are, for the progress.
        live: where tensors wait for their next stage.
        provider: where the stages run.
        progress: notified of each batch of each stage.

    Raises:
        InputError: the graph has no site, or cannot be cut, or not one image arrived, or a statistic is not finite.
        MachineError: the scratch disk is full.
    """
    shard = Shard(model, batches, total, live, provider)
    progress.start("recalibrating", total)
    moments = levels(shard.plan, lambda nth, values: [shard.totals(nth, values, progress.advance)])
    return Measured(moments, len(shard.plan), shard.images)


def _run(session: ort_session.Session, needs: Sequence[str], outputs: Sequence[str], feeds: Feeds) -> Feeds:
    return session.run({name: feeds[name] for name in needs}, outputs)


def _in_order(
    run: Callable[[Feeds], Feeds], queue: Iterable[tuple[int, Feeds]], callers: int
) -> Iterator[tuple[int, Feeds, Feeds]]:
    """Each batch with what `run` makes of it, in the order of the queue; up to `callers` run at the same time.

    One batch on each core is faster than every operator on all cores: most of a stage is short and waits for memory.
    """
    with ThreadPoolExecutor(callers) as pool:
        ahead: deque[tuple[int, Feeds, Future[Feeds]]] = deque()
        for batch, feeds in queue:
            ahead.append((batch, feeds, pool.submit(run, feeds)))
            if len(ahead) > callers:
                first, given, made = ahead.popleft()
                yield first, given, made.result()
        for batch, given, made in ahead:
            yield batch, given, made.result()


def _parts(batches: Iterable[Feeds], size: int) -> Iterator[Feeds]:
    for feeds in batches:
        count = len(next(iter(feeds.values())))
        for start in range(0, count, size):
            yield {name: x[start : start + size] for name, x in feeds.items()}


def _refuse_nonfinite(by_site: Mapping[str, Moments]) -> None:
    for name, moments in by_site.items():
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.m2).all()):
            raise InputError(
                f"the input of {name} contains NaN or infinity on these images",
                fix="check the preprocessing and the weights before this layer",
            )
