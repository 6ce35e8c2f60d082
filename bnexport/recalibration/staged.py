"""Staged recalibration: the self-consistent statistics of every site, in one forward pass, at any batch size.

Wanted are moving statistics that equal the statistics of each site's own input *in inference mode with those very statistics*. One
training-mode pass over all images in a single batch computes them; the stages compute the same without that batch: the sites of one level
depend on the statistics of the levels before only, so that level after level can be measured over all batches, merged, and fixed.

Pooling the statistics of training-mode passes over small batches (PreciseBN, update_bn) is something else: there the layers before a site
were normalised by statistics that inference will not use.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnexport.errors import InputError
from bnexport.graph import stages as cut
from bnexport.graph import statistics, tensors
from bnexport.graph.protobuf import serialised
from bnexport.graph.sites import Site, sites
from bnexport.numerics.moments import Moments, none, pooled_rows
from bnexport.numerics.outcomes import Residual
from bnexport.recalibration.live import LiveTensors
from bnexport.runtimes import ort_session
from bnexport.subjects.progress import Progress

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
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


class Pool:
    """The moments of some sites, merged batch by batch from what a graph with `bnexport.graph.stages.add_moments` gives out."""

    def __init__(self, found: Sequence[Site]) -> None:
        self.outputs = [f"{site.name}/{part}" for site in found for part in ("mean", "var", "shape")]
        self.moments = {site.name: none(site.channels) for site in found}

    def add(self, made: Mapping[str, Array]) -> None:
        """One more batch."""
        for name, moments in self.moments.items():
            positions = math.prod(made[f"{name}/shape"][2:].tolist())
            m2 = made[f"{name}/var"].astype(np.float64) * positions
            self.moments[name] = moments.merged(pooled_rows(positions, made[f"{name}/mean"], m2))


def first_sites(model: onnx.ModelProto) -> Sequence[Site]:
    """The sites that see the images through fixed weights only."""
    return cut.stages(model, sites(model))[0].sites


class FirstStage:
    """The part of a graph before its first sites: what they see depends on the images and on fixed weights only."""

    def __init__(self, model: onnx.ModelProto) -> None:
        stage = cut.stages(model, sites(model))[0]
        self.sites = stage.sites
        self._needs = stage.needs
        part = cut.stage_model(model, stage, {}, tensors.ranks(model))
        self._session = ort_session.Session(serialised(part))

    def moments(self, batches: Iterable[Feeds]) -> dict[str, Moments]:
        """The moments of the first sites' inputs, by site name."""
        pool = Pool(self.sites)
        for feeds in batches:
            pool.add(self._session.run({name: feeds[name] for name in self._needs}, pool.outputs))
        return pool.moments


def measure(
    model: onnx.ModelProto,
    batches: Iterable[Feeds],
    total: int,
    live: LiveTensors,
    provider: ort_session.Provider,
    progress: Progress,
) -> Measured:
    """The self-consistent moments of every site of the graph.

    Args:
        model: the inference graph; its own statistics do not matter.
        batches: the images, as inputs of the graph; gone through once.
        total: how many images there are, for the progress.
        live: where tensors wait for their next stage.
        provider: where the stages run.
        progress: told of each batch of each stage.

    Raises:
        InputError: the graph has no site, or cannot be cut, or not one image arrived, or a statistic is not finite.
        MachineError: the scratch disk is full.
    """
    found = sites(model)
    if not found:
        raise InputError(
            "the graph has no BatchNormalization node to recalibrate",
            fix="it was probably folded: recalibrate the Keras model, or export it with bnexport export, which keeps them",
        )
    plan = cut.stages(model, found)
    # Nothing after the last site has to run.
    plan = plan[: 1 + max(k for k, stage in enumerate(plan) if stage.sites)]
    rank = tensors.ranks(model)  # may have to infer shapes: once, not for each stage
    each = cut.bytes_per_image(model, plan)
    size = max(1, WORKING_SET // each) if each else total
    callers = max(1, min(ort_session.threads(), total // size)) if provider == "cpu" else 1
    batches = _parts(batches, size)
    images = 0
    result: dict[str, Moments] = {}
    values: dict[str, Array] = {}
    progress.start("recalibrating", total)
    for k, stage in enumerate(plan):
        part = cut.stage_model(model, stage, values, rank)
        session = ort_session.Session(serialised(part), provider, callers=callers)
        outputs = [info.name for info in part.graph.output]
        pool = Pool(stage.sites)
        queue: Iterable[tuple[int, Feeds]] = (
            enumerate(batches) if k == 0 else ((b, live.get(b, stage.needs)) for b in range(len(live)))
        )
        run = partial(_run, session, stage.needs, outputs)
        for batch, feeds, made in _in_order(run, queue, callers):
            pool.add(made)
            if k == 0:
                images += len(next(iter(feeds.values())))
                live.add({name: value for name, value in feeds.items() if name not in stage.drops})
            live.drop(batch, stage.drops)
            live.put(batch, {name: made[name] for name in stage.keeps})
            progress.advance(len(next(iter(feeds.values()))) / len(plan))
        _refuse_nonfinite(pool.moments)
        result |= pool.moments
        for site in stage.sites:
            values |= {site.mean: pool.moments[site.name].mean, site.var: pool.moments[site.name].var}
    if not len(live):
        raise InputError("there is no image to recalibrate from")
    return Measured(result, len(plan), images)


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


def _refuse_nonfinite(found: Mapping[str, Moments]) -> None:
    for name, moments in found.items():
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.m2).all()):
            raise InputError(
                f"the input of {name} is not finite on these images",
                fix="check the weights before this layer and the preprocessing",
            )


def residual(model: onnx.ModelProto, measured: Mapping[str, Moments]) -> Residual:
    """The residual of the statistics that a graph holds against what was measured with them in use.

    A channel whose deviation is below sqrt(epsilon) is measured against sqrt(var + epsilon): less does not reach the output.
    """
    worst = Residual(0.0, 0.0, "")
    for name, (site, mean, var) in statistics.current(model).items():
        found = measured[name]
        std = np.sqrt(found.var + site.epsilon)
        here = Residual(
            float(np.max(np.abs(mean - found.mean) / std)),
            float(np.max(np.abs(0.5 * np.log((var + site.epsilon) / (found.var + site.epsilon))))),
            name,
        )
        if not here.largest <= worst.largest:  # NaN counts as the worst
            worst = here
    return worst
