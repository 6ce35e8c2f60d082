"""The search for how recorded inputs were made of pictures.

Layout, orientation and size are found first, by a kernel of which it only matters that it is smooth; then the kernel, by one of each
family and then all of the families that fit; then decoder and rounding. Order and scaling are not tried but fitted (`colours`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bnexport.datasets.identify import colours, geometry
from bnexport.datasets.identify.colours import Colours
from bnexport.datasets.identify.geometry import Fit, Plan
from bnexport.datasets.identify.sources import PLAIN, Source
from bnexport.numerics.resampling.samplers import SAMPLERS, Sampler
from bnexport.numerics.resampling.taps import Floats
from bnexport.results.preprocessing import Layout

SCANNED = 2
"""So many pictures are searched on; the best ways are then compared on all."""

NEAR = 1.25
"""Sizes whose residual is at most so many times the smallest one are tried with all kernels."""

FITS = 4
"""But no more of them than this."""

STEP = 4
"""The shorter side before a crop is tried in such steps, then around the best one."""

FAMILY = 2.0
"""Kernels are tried one by one in families whose residual is so many times the smallest one, or a grey level more."""

STRIDE = 2
"""Every second pixel is used to choose."""

Views = Mapping[str, Floats]
"""One recorded picture with the channels last, by how its values are read."""


def _pillow(kernel: Image.Resampling, x: Floats, height: int, width: int) -> Floats:
    return np.asarray(Image.fromarray(x.astype(np.uint8)).resize((width, height), kernel), np.float64)


_FAMILIES = {
    "BILINEAR": "linear, antialiased",
    "BICUBIC": "cubic, antialiased",
    "LANCZOS": "lanczos 3, antialiased",
    "NEAREST": "nearest",
}
"""Pillow's kernels that others have, too."""
KERNELS: tuple[Sampler, ...] = (
    *(
        Sampler((f"Pillow {kernel.name}",), partial(_pillow, kernel), True, _FAMILIES.get(kernel.name, kernel.name))
        for kernel in sorted(Image.Resampling, key=lambda kernel: kernel != Image.Resampling.BILINEAR)
    ),
    *SAMPLERS,
)
"""All kernels, those of Pillow by Pillow."""

_SMOOTH = KERNELS[0]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to prepare pictures, up to their colours.

    Args:
        view: how the recorded values are read.
        turned: whether the EXIF orientation is applied.
        fit: how pictures are brought to the size.
        kernel: the resize kernel.
        decoder: what decodes them.
        after: "" for a kernel whose result stays as it is, "rounded" or "cut off" to uint8.
    """

    view: str
    turned: bool
    fit: Fit
    kernel: Sampler = _SMOOTH
    decoder: str = PLAIN
    after: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A way with the colours that fit it best."""

    way: Way
    colours: Colours

    @property
    def residual(self) -> float:
        """In grey levels."""
        return self.colours.residual


@dataclass(slots=True)
class Search:
    """Recorded inputs and the pictures that they were made of.

    Args:
        sources: the pictures.
        rows: the recorded input of each, in the layout of the model, without the batch axis.
        layout: of the model's input.
    """

    sources: Sequence[Source]
    rows: Sequence[NDArray[np.float64]]
    layout: Layout
    _rendered: dict[tuple[int, Plan | None, tuple[str, ...]], tuple[Floats, NDArray[np.bool_] | None] | None] = field(
        default_factory=dict
    )
    _views: list[dict[str, Floats]] = field(default_factory=list)
    tried: int = 0

    def __post_init__(self) -> None:
        self._views = [views(row, self.layout) for row in self.rows]

    @property
    def wanted(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = self._views[0]["as stated"].shape[:2]
        return height, width

    @property
    def channels(self) -> int:
        """Of the input."""
        return int(self._views[0]["as stated"].shape[2])

    def view(self, picture: int, name: str) -> Floats:
        """A recorded picture with the channels last."""
        return self._views[picture][name]

    def choose_pictures(self) -> list[int]:
        """The pictures that are searched on: small ones, of different shapes where there are such, none of a single color."""
        usable = [nth for nth, row in enumerate(self.rows) if row.std() > 0 and np.isfinite(row).all()]
        by_size = sorted(usable, key=lambda nth: self.sources[nth].of(PLAIN, turned=False).size)
        chosen: list[int] = []
        for nth in by_size:
            height, width = self.sources[nth].of(PLAIN, turned=False).shape[:2]
            shapes = {
                self.sources[c].of(PLAIN, turned=False).shape[1] / self.sources[c].of(PLAIN, turned=False).shape[0]
                for c in chosen
            }
            if len(chosen) < SCANNED and width / height not in shapes:
                chosen.append(nth)
        turned = [nth for nth in by_size if (PLAIN, True) in self.sources[nth].pixels and nth not in chosen]
        return (chosen + turned[:1] + [nth for nth in by_size if nth not in chosen])[
            : max(SCANNED, len(chosen) + len(turned[:1]))
        ]

    def render(self, picture: int, way: Way) -> tuple[Floats, NDArray[np.bool_] | None] | None:
        """A picture prepared in a way, before its colours; None where that cannot be."""
        pixels = self.sources[picture].of(way.decoder, turned=way.turned)
        plan = way.fit.plan(pixels.shape[0], pixels.shape[1], self.wanted)
        key = (id(pixels), plan, way.kernel.names)  # the sources keep the pixels, so that no id is used again
        if key not in self._rendered:
            if len(self._rendered) > 256:
                self._rendered.clear()
            self._rendered[key] = (
                None if plan is None else geometry.render(pixels, plan, self.wanted, way.kernel.resample)
            )
        made = self._rendered[key]
        if made is None or not way.after:
            return made
        levels = np.rint(made[0]) if way.after == "rounded" else np.floor(made[0])
        return np.clip(levels, 0, 255), made[1]

    def score(self, way: Way, pictures: Sequence[int], stride: int = STRIDE) -> Scored | None:
        """How well a way fits with the best colours; None where it cannot be."""
        best = self.score_views(way, (way.view,), pictures, stride)
        return best[0] if best else None

    def score_views(
        self, way: Way, names: Sequence[str], pictures: Sequence[int], stride: int = STRIDE
    ) -> list[Scored]:
        """The same for several readings of the values, the best first."""
        self.tried += 1
        gram: Floats | None = None
        for picture in pictures:
            made = self.render(picture, way)
            if made is None:
                return []
            cut = (slice(None, None, stride), slice(None, None, stride))
            inside = None if made[1] is None else made[1][cut]
            one = colours.moments(made[0][cut], [self._views[picture][name][cut] for name in names], inside)
            gram = one if gram is None else gram + one
        if gram is None or gram[0, 0] < 16:
            return []
        scored = [
            Scored(replace(way, view=name), fitted[0])
            for nth, name in enumerate(names)
            if (fitted := colours.fit_colours(gram, nth, self.channels))
        ]
        return sorted(scored, key=lambda one: one.residual)

    def find_sizes(self, pictures: Sequence[int]) -> list[Scored]:
        """The best layouts, orientations and sizes, with a smooth kernel."""
        names = [name for name in self._views[0] if all(name in views for views in self._views)]
        orders = (False, True) if any((PLAIN, True) in source.pixels for source in self.sources) else (False,)
        every = list(geometry.fits(self.wanted))
        coarse = [fit for fit in every if not fit.shorter or (fit.shorter - min(self.wanted)) % STEP == 0]
        scored = self._score_fits(coarse, orders, names, pictures)
        crops = [one for one in scored if one.way.fit.shorter]
        if crops:
            best = crops[0].way.fit.shorter
            around = [fit for fit in every if fit.shorter and 0 < abs(fit.shorter - best) < STEP]
            scored = sorted([*scored, *self._score_fits(around, orders, names, pictures)], key=lambda one: one.residual)
        return scored

    def _score_fits(
        self, fits: Sequence[Fit], orders: Sequence[bool], names: Sequence[str], pictures: Sequence[int]
    ) -> list[Scored]:
        scored = [
            one
            for fit in fits
            for turned in orders
            for one in self.score_views(Way("", turned, fit), names, pictures, 2 * STRIDE)
        ]
        return sorted(scored, key=lambda one: one.residual)

    def find_kernels(self, start: Scored, pictures: Sequence[int]) -> list[Scored]:
        """The kernels of the families that fit, for a layout and size."""
        families: dict[str, Sampler] = {}
        for kernel in KERNELS:
            if kernel.family not in families or (families[kernel.family].rounds and not kernel.rounds):
                families[kernel.family] = kernel
        first = self._score_kernels(families.values(), start.way, pictures)
        if not first:
            return []
        limit = max(FAMILY * first[0].residual, first[0].residual + 1)
        near = {one.way.kernel.family for one in first if one.residual <= limit}
        rest = [k for k in KERNELS if k.family in near and families[k.family] is not k]
        return sorted(
            [*first, *self._score_kernels(rest, start.way, pictures)],
            key=lambda one: one.residual,
        )

    def _score_kernels(self, kernels: Iterable[Sampler], way: Way, pictures: Sequence[int]) -> list[Scored]:
        scored = [one for kernel in kernels if (one := self.score(replace(way, kernel=kernel), pictures))]
        return sorted(scored, key=lambda one: one.residual)


def views(row: NDArray[np.float64], layout: Layout) -> dict[str, Floats]:
    """One input, with the channels last, as it is stated to be and as values that were written in another layout."""
    if layout == Layout.NCHW:
        channels, height, width = row.shape
        readings = {"as stated": np.moveaxis(row, 0, -1)}
        if channels > 1:
            readings["NHWC values in an NCHW tensor"] = row.reshape(height, width, channels)
    else:
        height, width, channels = row.shape
        readings = {"as stated": row}
        if channels > 1:
            readings["NCHW values in an NHWC tensor"] = np.moveaxis(row.reshape(channels, height, width), 0, -1)
    if height == width:
        readings["rows and columns exchanged"] = readings["as stated"].swapaxes(0, 1)
    return {name: np.ascontiguousarray(view) for name, view in readings.items()}
