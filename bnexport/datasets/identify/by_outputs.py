"""How another program prepared pictures, found out from its outputs: inputs are made in many ways, and the model is run on them.

One step is changed at a time, and the few best ways are kept: colours and layout, then size and orientation, then the kernel, then
decoder and rounding. A way counts as found where its outputs are within the tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bnexport.datasets.identify import colours
from bnexport.datasets.identify.colours import Affine
from bnexport.datasets.identify.geometry import Fit
from bnexport.datasets.identify.identify import closest, own_way
from bnexport.datasets.identify.measure import words
from bnexport.datasets.identify.search import KERNELS, Search, Way
from bnexport.datasets.identify.sources import FAST, PLAIN, Source
from bnexport.results.identified import Identified
from bnexport.results.preprocessing import Layout, Preprocessing

KEPT = 4
"""So many ways are kept after each step, of different colours: other steps decide which of them are right."""

ROUNDS = 2
"""So often all steps are gone through."""

SECONDS = 30.0
"""Nothing more is tried after so long."""

SHORTER = (1.0, 8 / 7, 1.15, 1.1)
"""The shorter side before a crop, in sizes of the input."""

Compute = Callable[[NDArray[np.float32]], float]
"""How far the outputs for some inputs are from those that were recorded, relative to their scale; 0 where they are within the tolerance."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to prepare pictures, with its colours.

    Args:
        way: up to the colours.
        order: of the channels.
        scaling: of the grey levels.
    """

    way: Way
    order: str
    scaling: Affine


@dataclass(slots=True)
class OutputSearch:
    """Pictures, and what computes how far the outputs are.

    Args:
        sources: the pictures.
        own: how the bundle prepares them.
        distance: how far the outputs for their inputs are from those that were recorded.
    """

    sources: Sequence[Source]
    own: Preprocessing
    distance: Compute
    _search: Search = field(init=False)
    _distances: dict[Candidate, float] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        rows = [np.zeros(self.own.shape) for _ in self.sources]
        self._search = Search(self.sources, rows, self.own.layout)

    def identify(self) -> Identified:
        """The ways whose outputs are those that were recorded, or the best fit."""
        start = self._own()
        best = [start]
        self._measure(start)
        for _ in range(ROUNDS):
            for step in (self._colours, self._sizes, self._kernels, self._rest):
                for one in best:
                    for other in step(one):
                        self._measure(other)
                best = self._best()
                if self._late:
                    break
            if self._distances[best[0]] == 0:
                break
        matching = [one for one, far in self._distances.items() if far == 0]
        if matching:  # what else gives the same outputs
            for step in (self._colours, self._sizes, self._every_kernel, self._rest):
                for other in step(matching[0]):
                    self._measure(other)
            matching = [one for one, far in self._distances.items() if far == 0]
        return self._result(matching or best[:1], named=bool(matching))

    def _best(self) -> list[Candidate]:
        """The best way of each order, scaling and layout, the best first."""
        first: dict[tuple[str, str, str], Candidate] = {}
        for one in sorted(self._distances, key=self._distances.__getitem__):
            first.setdefault((one.order, one.scaling.name, one.way.view), one)
        return list(first.values())[:KEPT]

    def _result(self, ways: Sequence[Candidate], *, named: bool) -> Identified:
        texts = {
            words(self._search, one.way, one.order, one.scaling.described, resized=True): one for one in reversed(ways)
        }
        ordered = closest(texts, self.own)
        far = self._distances[texts[ordered[0]]]
        apart = [d for one, d in self._distances.items() if d > 0 and one is not texts[ordered[0]]]
        return Identified(
            ordered[0],
            named=named,
            exact=named,
            residual=far,
            largest=far,
            alternatives=tuple(ordered[1:]) if named else (),
            next_residual=min(apart, default=None),
            values=True,
            pictures=len(self.sources),
            tried=len(self._distances),
        )

    @property
    def _late(self) -> bool:
        return time.monotonic() - self._begun > SECONDS

    def _measure(self, one: Candidate) -> None:
        if one not in self._distances and not (self._late and self._distances):
            x = self._inputs(one)
            self._distances[one] = float("inf") if x is None else self.distance(x)

    def _inputs(self, one: Candidate) -> NDArray[np.float32] | None:
        """The inputs of all pictures; None where one cannot be prepared so."""
        matrix = np.asarray((colours.ORDERS if self._search.channels == 3 else colours.GREYS)[one.order])
        rows = []
        for picture in range(len(self.sources)):
            made = self._search.render(picture, one.way)
            if made is None:
                return None
            x = made[0] @ matrix.T * np.asarray(one.scaling.factor) + np.asarray(one.scaling.offset)
            rows.append(_laid_out(x, one.way.view, self.own.layout))
        return np.stack(rows).astype(np.float32)

    def _own(self) -> Candidate:
        way, order, scaling = own_way(self.own)
        scalings = {one.name: one for one in self._scalings(order)}
        return Candidate(way, order, scalings[scaling])

    def _scalings(self, order: str) -> list[Affine]:
        return colours.known_scalings(order, self._search.channels, self.own.mean, self.own.std)

    def _colours(self, one: Candidate) -> Iterator[Candidate]:
        views = ["as stated"]
        if self._search.channels == 3:
            mixed = {Layout.NCHW: "NHWC values in an NCHW tensor", Layout.NHWC: "NCHW values in an NHWC tensor"}
            views.append(mixed[self.own.layout])
        for order in colours.ORDERS if self._search.channels == 3 else colours.GREYS:
            for scaling in self._scalings(order):
                for view in views:
                    yield Candidate(replace(one.way, view=view), order, scaling)

    def _sizes(self, one: Candidate) -> Iterator[Candidate]:
        turned = (False, True) if any((PLAIN, True) in source.pixels for source in self.sources) else (False,)
        side = min(self._search.wanted)
        crops = [Fit("crop", round(factor * side)) for factor in SHORTER]
        for fit in (*map(Fit, ("stretch", "crop first", "pad", "pad first", "pad at the end")), *crops):
            for oriented in turned:
                yield replace(one, way=replace(one.way, fit=fit, turned=oriented))

    def _kernels(self, one: Candidate) -> Iterator[Candidate]:
        families = {kernel.family: kernel for kernel in reversed(KERNELS)}
        for kernel in families.values():
            yield replace(one, way=replace(one.way, kernel=kernel, after=""))

    def _every_kernel(self, one: Candidate) -> Iterator[Candidate]:
        for kernel in KERNELS:
            yield replace(one, way=replace(one.way, kernel=kernel, after=""))

    def _rest(self, one: Candidate) -> Iterator[Candidate]:
        fast = any((FAST, False) in source.pixels for source in self.sources)
        same = [kernel for kernel in KERNELS if kernel.family == one.way.kernel.family]
        for decoder in (PLAIN, FAST) if fast else (PLAIN,):
            for kernel in same:
                for after in ("",) if kernel.rounds else ("", "rounded", "cut off"):
                    way = replace(one.way, decoder=decoder, kernel=kernel, after=after)
                    yield replace(one, way=way)


def _laid_out(x: NDArray[np.float64], view: str, layout: Layout) -> NDArray[np.float64]:
    """A picture with the channels last as the input of a model, its values written in the other layout where the view says so."""
    first = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    if layout == Layout.NCHW:
        return first if view == "as stated" else np.ascontiguousarray(x).reshape(first.shape)
    return x if view == "as stated" else first.reshape(x.shape)
