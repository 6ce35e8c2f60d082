"""The samplers of OpenCV, TensorFlow, torch and a canvas: what each computes, and whether it rounds to uint8.

Two calls that compute the same up to float32 rounding are one sampler with both names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from bnexport.numerics.resampling import canvas, taps
from bnexport.numerics.resampling.taps import Floats, Kernel, Taps, cubic, lanczos, sample_kernel, triangle

Resample: TypeAlias = Callable[[Floats, int, int], Floats]
"""A picture of shape (H, W, C), grey levels 0 to 255, at another height and width."""
MakeTaps: TypeAlias = Callable[[int, int], Taps]


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to bring a picture to another size.

    Args:
        names: the calls that compute it.
        resample: computes it.
        rounds: whether the result is uint8.
        family: kernels that differ by rounding only have the same one.
    """

    names: tuple[str, ...]
    resample: Resample
    rounds: bool
    family: str

    @property
    def described(self) -> str:
        """All names in a line."""
        return " or ".join(self.names)


def _plain(make: MakeTaps, x: Floats, height: int, width: int) -> Floats:
    return make(x.shape[1], width).apply(make(x.shape[0], height).apply(x, 0), 1)


def _tensorflow(kernel: Kernel, support: float, *, antialias: bool = False) -> Resample:
    """One of tf.image's kernels that leave out what lies beyond the edge."""
    return partial(_plain, partial(sample_kernel, kernel=kernel, support=support, edge="cut", antialias=antialias))


def to_uint8(x: Floats) -> Floats:
    """Rounded to grey levels."""
    return np.clip(np.rint(x), 0, 255)


def _resample_to_uint8(make: MakeTaps, x: Floats, height: int, width: int) -> Floats:
    return to_uint8(_plain(make, x, height, width))


def _torch_uint8(make: MakeTaps, x: Floats, height: int, width: int) -> Floats:
    """Columns, then rows, both rounded to uint8, with weights in 16 bits (aten/src/ATen/native/cpu/UpSampleKernel.cpp)."""
    for axis, out in ((1, width), (0, height)):
        if x.shape[axis] == out:
            continue
        own = make(x.shape[axis], out)
        largest, bits = float(own.weight.max()), 0
        while bits < 22 and 0.5 + largest * 2.0 ** (bits + 1) < 2.0**15:
            bits += 1
        x = np.clip(np.floor(own.in_fixed_point(bits).apply(x, axis) / 2.0**bits + 0.5), 0, 255)
    return x


def _opencv_linear(make: MakeTaps, x: Floats, height: int, width: int) -> Floats:
    """Fixed point as in VResizeLinear for uchar: weights of 11 bits, four bits of the sums cut off on the way (imgproc/src/resize.cpp)."""
    rows = np.floor(make(x.shape[1], width).in_fixed_point(11).apply(x, 1) / 16)
    own = make(x.shape[0], height).in_fixed_point(11)
    parts = [np.floor(rows[own.index[:, nth]] * own.weight[:, nth, None, None] / 65536) for nth in range(2)]
    return np.clip(np.floor((parts[0] + parts[1] + 2) / 4), 0, 255)


def _opencv_exact(make: MakeTaps, x: Floats, height: int, width: int) -> Floats:
    """INTER_LINEAR_EXACT: weights of 8 bits."""
    own = make(x.shape[1], width).in_fixed_point(8), make(x.shape[0], height).in_fixed_point(8)
    return np.floor(own[1].apply(own[0].apply(x, 1), 0) / 65536 + 0.5)


def _opencv_lanczos(make: MakeTaps, x: Floats, height: int, width: int) -> Floats:
    own = make(x.shape[1], width).in_fixed_point(11), make(x.shape[0], height).in_fixed_point(11)
    return np.clip(np.floor(own[1].apply(own[0].apply(x, 1), 0) / 2.0**22 + 0.5), 0, 255)


def _opencv_enlarging(size: int, out: int) -> Taps:
    """INTER_AREA where the result is larger: two samples, weighted by how much of the pixel they cover, in OpenCV's arithmetic."""
    i, inverse = np.arange(out), out / size
    low = np.floor(i * (1.0 / inverse)).astype(np.int64)
    part = (i + 1) - (low + 1) * inverse
    part = np.where(part <= 0, 0.0, part - np.floor(part))
    return Taps(np.clip(low[:, None] + np.arange(2), 0, size - 1), np.stack([1 - part, part], axis=1))


def _opencv_area(x: Floats, height: int, width: int) -> Floats:
    shrinks = height <= x.shape[0] and width <= x.shape[1]
    return _plain(taps.area if shrinks else _opencv_enlarging, x, height, width)


def _opencv_area_uint8(x: Floats, height: int, width: int) -> Floats:
    if height > x.shape[0] or width > x.shape[1]:
        return _opencv_linear(_opencv_enlarging, x, height, width)
    mean = _plain(taps.area, x, height, width)
    if (2 * height, 2 * width) == x.shape[:2]:
        return np.floor(mean + 0.5)
    return to_uint8(mean)


_LINEAR = partial(sample_kernel, kernel=triangle, support=1)
_LINEAR_AA = partial(sample_kernel, kernel=triangle, support=1, antialias=True, edge="cut")
_CUBIC_75 = partial(sample_kernel, kernel=cubic(-0.75), support=2)
_CUBIC_50_CUT = partial(sample_kernel, kernel=cubic(-0.5), support=2, edge="cut", table=1024)
_CUBIC_AA = partial(sample_kernel, kernel=cubic(-0.5), support=2, antialias=True, edge="cut")
_LANCZOS_4 = partial(sample_kernel, kernel=lanczos(4), support=4)


def _sampler(names: str, family: str, resample: Resample, *, rounds: bool = False) -> Sampler:
    return Sampler(tuple(names.split("|")), resample, rounds, family)


SAMPLERS = (
    _sampler("OpenCV INTER_LINEAR", "linear", partial(_opencv_linear, _LINEAR), rounds=True),
    _sampler("OpenCV INTER_LINEAR_EXACT", "linear", partial(_opencv_exact, _LINEAR), rounds=True),
    _sampler(
        "TensorFlow bilinear|torch bilinear (antialias=False)|OpenCV INTER_LINEAR on float32",
        "linear",
        partial(_plain, _LINEAR),
    ),
    _sampler("torch bilinear on uint8 (antialias=False)", "linear", partial(_torch_uint8, _LINEAR), rounds=True),
    _sampler("canvas drawImage (Chromium)", "canvas", canvas.smooth, rounds=True),
    _sampler(
        "TensorFlow bilinear (antialias=True)|torch bilinear (antialias=True)",
        "linear, antialiased",
        partial(_plain, _LINEAR_AA),
    ),
    _sampler(
        "torch bilinear on uint8 (antialias=True)",
        "linear, antialiased",
        partial(_torch_uint8, _LINEAR_AA),
        rounds=True,
    ),
    _sampler("OpenCV INTER_CUBIC", "cubic -0.75", partial(_resample_to_uint8, _CUBIC_75), rounds=True),
    _sampler(
        "torch bicubic (antialias=False)|OpenCV INTER_CUBIC on float32", "cubic -0.75", partial(_plain, _CUBIC_75)
    ),
    _sampler("torch bicubic on uint8 (antialias=False)", "cubic -0.75", partial(_torch_uint8, _CUBIC_75), rounds=True),
    _sampler("TensorFlow bicubic", "cubic -0.5", partial(_plain, _CUBIC_50_CUT)),
    _sampler(
        "TensorFlow bicubic (antialias=True)|torch bicubic (antialias=True)",
        "cubic, antialiased",
        partial(_plain, _CUBIC_AA),
    ),
    _sampler(
        "torch bicubic on uint8 (antialias=True)", "cubic, antialiased", partial(_torch_uint8, _CUBIC_AA), rounds=True
    ),
    _sampler("OpenCV INTER_AREA", "area", _opencv_area_uint8, rounds=True),
    _sampler("TensorFlow area", "area", partial(_plain, taps.area)),
    _sampler("OpenCV INTER_AREA on float32", "area", _opencv_area),
    _sampler("torch area", "pooling", partial(_plain, taps.pool)),
    _sampler("OpenCV INTER_LANCZOS4", "lanczos 4", partial(_opencv_lanczos, _LANCZOS_4), rounds=True),
    _sampler("OpenCV INTER_LANCZOS4 on float32", "lanczos 4", partial(_plain, _LANCZOS_4)),
    _sampler(
        "TensorFlow lanczos3",
        "lanczos 3",
        _tensorflow(lanczos(3), 3),
    ),
    _sampler(
        "TensorFlow lanczos3 (antialias=True)",
        "lanczos 3, antialiased",
        _tensorflow(lanczos(3), 3, antialias=True),
    ),
    _sampler(
        "TensorFlow lanczos5",
        "lanczos 5",
        _tensorflow(lanczos(5), 5),
    ),
    _sampler(
        "TensorFlow lanczos5 (antialias=True)",
        "lanczos 5, antialiased",
        _tensorflow(lanczos(5), 5, antialias=True),
    ),
    _sampler(
        "TensorFlow mitchellcubic",
        "mitchell",
        _tensorflow(taps.mitchell, 2),
    ),
    _sampler(
        "TensorFlow mitchellcubic (antialias=True)",
        "mitchell, antialiased",
        _tensorflow(taps.mitchell, 2, antialias=True),
    ),
    _sampler(
        "OpenCV INTER_NEAREST",
        "nearest, asymmetric",
        partial(_plain, partial(taps.nearest, shift=0.0, single=False)),
        rounds=True,
    ),
    _sampler(
        "torch nearest",
        "nearest, asymmetric",
        partial(_plain, partial(taps.nearest, shift=0.0, single=True)),
        rounds=True,
    ),
    _sampler(
        "TensorFlow nearest|torch nearest-exact",
        "nearest",
        partial(_plain, partial(taps.nearest, shift=0.5, single=True)),
        rounds=True,
    ),
    _sampler("canvas drawImage without smoothing (Chromium)", "nearest", canvas.plain, rounds=True),
    _sampler(
        "TensorFlow 1 bilinear (half_pixel_centers=False)",
        "linear, asymmetric",
        partial(_plain, partial(sample_kernel, kernel=triangle, support=1, position="asymmetric")),
    ),
    _sampler(
        "bilinear with align_corners=True (torch or TensorFlow 1)",
        "linear, corners",
        partial(_plain, partial(sample_kernel, kernel=triangle, support=1, position="corners")),
    ),
    _sampler(
        "torch bicubic (align_corners=True)",
        "cubic, corners",
        partial(_plain, partial(sample_kernel, kernel=cubic(-0.75), support=2, position="corners")),
    ),
)
"""All of them; those of Pillow are Pillow itself (`bnexport.datasets.identify`)."""
