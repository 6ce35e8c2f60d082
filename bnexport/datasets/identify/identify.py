"""How recorded inputs were made of pictures: the way that fits, or all that fit alike, and never a name that is not certain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bnexport.datasets.identify import colours
from bnexport.datasets.identify.geometry import Fit
from bnexport.datasets.identify.measure import Measured, measure, steps_of
from bnexport.datasets.identify.search import FITS, KERNELS, NEAR, Scored, Search, Way
from bnexport.datasets.identify.sources import FAST, PLAIN, Source
from bnexport.results.identified import Identified, Steps
from bnexport.results.preprocessing import Fit as OwnFit, Layout, Order, Preprocessing, Resize, Scaling

MEASURED = 8
"""Ways are compared on so many pictures at most."""

REFINED = 24
"""So many ways are compared at most."""

ALIKE = 2.0
"""Where values differ by rounding, ways are alike within so many times the smallest residual,"""

ROUNDING = 0.45
"""or up to this residual, in grey levels: two ways to round differ by 0.41 on average."""

CERTAIN = 0.95
"""A way is certain, too, where so many values are equal"""

APART = 3.0
"""and every other way has so many times its residual."""

SAME = 1.02
"""Ways have the same residual up to this factor."""

NOTHING = 0.6
"""Nothing fits where the residual is so many times the deviation of the recorded grey levels."""


def identify(
    sources: Sequence[Source],
    rows: Sequence[NDArray[np.generic]],
    layout: Layout,
    own: Preprocessing | None = None,
) -> Identified:
    """How inputs were made of pictures.

    Args:
        sources: the pictures.
        rows: the recorded input of each, in the layout of the model, without the batch axis.
        layout: of the model's input.
        own: how the bundle prepares them, whose steps are preferred where others cannot be distinguished.
    """
    step = _resolution(rows[0])
    search = Search(sources, [np.asarray(row, np.float64) for row in rows], layout)
    scanned = search.choose_pictures()
    sizes = search.find_sizes(scanned) if scanned else []
    if not sizes:
        return Identified(None, named=False, exact=False, residual=float("nan"), largest=float("nan"))
    limit = NEAR * sizes[0].residual + 0.5
    starts = [one for one in sizes if one.residual <= limit][:FITS]
    scored = sorted(
        (one for start in starts for one in search.find_kernels(start, scanned)), key=lambda one: one.residual
    )
    if not scored:
        return Identified(None, named=False, exact=False, residual=float("nan"), largest=float("nan"))
    refined = _refine(search, scored, scanned)
    pictures = _spread(len(sources), scanned)
    results = []
    mean, std = (own.mean, own.std) if own else ((), ())
    for chosen in refined[:REFINED]:
        fitted = search.score(chosen.way, pictures, stride=1) or chosen
        scalings = colours.known_scalings(fitted.colours.order, search.channels, mean, std)
        made = measure(search, fitted, scalings, pictures, step)
        if made is not None:
            results.append(made)
    return _decide(search, results, own, len(pictures))


def _resolution(row: NDArray[np.generic]) -> float:
    """How far storing a value moves it, in its own unit."""
    if row.dtype.kind in "iu":
        return 0.5
    largest = float(np.abs(np.asarray(row, np.float64)).max(initial=0.0))
    eps = float(np.finfo(np.float16).eps) if row.dtype == np.float16 else float(np.finfo(np.float32).eps)
    return 4 * eps * largest


def _spread(count: int, scanned: Sequence[int]) -> list[int]:
    """Some pictures of all, those that were searched on first."""
    rest = [nth for nth in range(count) if nth not in scanned]
    return [*scanned, *rest[: max(0, MEASURED - len(scanned))]]


def _refine(search: Search, scored: Sequence[Scored], pictures: Sequence[int]) -> list[Scored]:
    """The best ways with every decoder, every rounding of sizes and every rounding of values."""
    near = [one for one in scored if one.residual <= 1.5 * scored[0].residual + 1]
    decoders = [PLAIN, *([FAST] if any((FAST, False) in s.pixels for s in search.sources) else [])]
    hosts: dict[Way, float] = {}
    first: dict[tuple[str, bool, Fit], Scored] = {}
    for one in near:
        first.setdefault((one.way.view, one.way.turned, one.way.fit), one)
    for one in first.values():
        for decoder in decoders:
            for fit in one.way.fit.variants:
                way = replace(one.way, decoder=decoder, fit=fit)
                again = search.score(way, pictures)
                if again is not None:
                    host = replace(way, kernel=KERNELS[0])
                    hosts[host] = min(hosts.get(host, np.inf), again.residual)
    least = min(hosts.values(), default=np.inf)
    best_hosts = [host for host, residual in hosts.items() if residual <= 1.1 * least + 0.3]
    ways = dict.fromkeys(
        replace(host, kernel=one.way.kernel, after=after)
        for host in best_hosts
        for one in near
        if (one.way.view, one.way.turned, one.way.fit) == (host.view, host.turned, replace(host.fit, variant=0))
        for after in (("",) if one.way.kernel.rounds else ("", "rounded", "cut off"))
    )
    refined = [made for way in ways if (made := search.score(way, pictures)) is not None]
    return sorted(refined, key=lambda one: one.residual)


def _decide(search: Search, results: list[Measured], own: Preprocessing | None, pictures: int) -> Identified:
    nothing = Identified(
        None,
        named=False,
        exact=False,
        residual=float("nan"),
        largest=float("nan"),
        pictures=pictures,
        tried=search.tried,
    )
    results = sorted(results, key=lambda one: (-one.equal if one.exact else 0, one.residual))
    if not results:
        return nothing
    best = min(results, key=lambda one: one.residual)
    alike = [one for one in results if one.exact]
    named = bool(alike)
    if not alike and best.rounds:
        named, limit = True, max(ALIKE * best.residual, ROUNDING)
        alike = [one for one in results if one.rounds and one.residual <= limit]
    if not alike:
        alike = [one for one in results if one.residual <= SAME * best.residual]
        apart_enough = all(one.residual >= APART * best.residual for one in results if one not in alike)
        named = best.equal >= CERTAIN and apart_enough
    deviation = float(np.mean([np.std(search.view(n, best.scored.way.view)) for n in range(len(search.rows))]))
    if not named and best.residual >= NOTHING * deviation / float(np.abs(best.scaling.factor).mean()):
        return replace(nothing, residual=best.residual, largest=best.largest)
    pairs = {steps_of(search, one): one for one in sorted(alike, key=lambda one: -one.residual)}
    ways = closest(reversed(pairs), own)
    first = pairs[ways[0]]
    apart = [one.residual for one in results if steps_of(search, one) not in pairs]
    return Identified(
        ways[0],
        named=named,
        exact=first.exact,
        residual=first.residual,
        largest=first.largest,
        alternatives=tuple(ways[1:]),
        next_residual=min(apart, default=None),
        pictures=pictures,
        tried=search.tried,
    )


def closest(ways: Iterable[Steps], own: Preprocessing | None) -> list[Steps]:
    """Ways that cannot be distinguished, those first that have most steps in common with the bundle's."""
    ideal = own_steps(own) if own is not None else Steps()
    return sorted(
        ways,
        key=lambda steps: sum(bool(theirs) and theirs != ours for theirs, ours in steps.differences(ideal).values()),
    )


_FITS = {OwnFit.STRETCH: "stretch", OwnFit.CROP: "crop first", OwnFit.PAD: "pad first"}
_SCALINGS = {
    Scaling.NONE: "no scaling (0 to 255)",
    Scaling.UNIT: "x / 255",
    Scaling.MINUS_ONE_ONE: "x / 127.5 - 1",
    Scaling.MINUS_128: "x - 128",
    Scaling.CAFFE: "minus the ImageNet means (caffe)",
    Scaling.TORCH: "x / 255, minus the ImageNet mean, divided by its deviation (torch)",
    Scaling.MEAN_STD: "the mean and deviation of the bundle",
}


def own_way(spec: Preprocessing) -> tuple[Way, str, str]:
    """How bnexport prepares pictures as a way, with the order of the channels and the name of the scaling."""
    name = {Resize.TF_BILINEAR: "TensorFlow bilinear", Resize.TF_NEAREST: "TensorFlow nearest"}.get(
        spec.resize, f"Pillow {spec.resize.removeprefix('pil-').upper()}"
    )
    kernel = next(kernel for kernel in KERNELS if name in kernel.names)
    bgr = spec.order == Order.BGR or spec.scaling == Scaling.CAFFE
    order = "gray" if spec.channels == 1 else "BGR" if bgr else "RGB"
    return Way("as stated", False, Fit(_FITS[spec.fit]), kernel, FAST), order, _SCALINGS[spec.scaling]


def own_steps(spec: Preprocessing) -> Steps:
    """The same in the words of a search."""
    way, order, scaling = own_way(spec)
    return Steps(
        decoder=f"JPEG decoder of {FAST}",
        orientation="EXIF orientation not applied",
        fit=way.fit.described,
        kernel=way.kernel.described,
        rounding="" if way.kernel.rounds else "not rounded",
        order=order,
        scaling=scaling,
    )
