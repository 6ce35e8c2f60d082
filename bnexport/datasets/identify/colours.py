"""What became of the colours: their order, and an affine scaling per channel, from the moments of pictures and recorded inputs.

For channel c of an input and the source channel u_c of an order, y_c = a_c u_c + b_c by least squares,

    a = cov(u, y) / var(u),  b = mean(y) - a mean(u),  residual^2 = (var(y) - a cov(u, y)) / a^2   in gray levels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnexport.numerics.resampling.taps import Floats

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, which Pillow, OpenCV and TensorFlow use."""

ORDERS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "RGB": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "BGR": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "gray in each channel": (LUMA, LUMA, LUMA),
}
GREYS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "gray": (LUMA,),
    "gray of the colors in the order BGR": (LUMA[::-1],),
    "the mean of the colors": ((1 / 3, 1 / 3, 1 / 3),),
    "the red channel": ((1, 0, 0),),
    "the green channel": ((0, 1, 0),),
    "the blue channel": ((0, 0, 1),),
}

SNAPPED = 0.15
"""A scaling is named where it is within so many gray levels of the one that was fitted, at black and at white."""

_CAFFE = (123.68, 116.779, 103.939)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Affine:
    """A scaling: y = factor x + offset for each channel of the input.

    Args:
        name: "" where it is none that is known.
        factor: by channel.
        offset: by channel.
    """

    name: str
    factor: tuple[float, ...]
    offset: tuple[float, ...]

    @property
    def described(self) -> str:
        """The name, or the numbers."""
        if self.name:
            return self.name
        pairs = dict.fromkeys(
            f"x * {a:.6g} {'+' if b >= 0 else '-'} {abs(b):.6g}" for a, b in zip(self.factor, self.offset, strict=True)
        )
        return f"scaling {', '.join(pairs)}"


def moments(picture: Floats, views: Sequence[Floats], inside: NDArray[np.bool_] | None = None) -> Floats:
    """The second moments of 1, the colours and the channels of each view, summed over pixels: symmetric, 1 + 3 + views x channels wide.

    Args:
        picture: shape (H, W, 3).
        views: shape (H, W, C), of one C.
        inside: shape (H, W); which pixels are counted; None for all.
    """
    columns = [np.ones((*picture.shape[:2], 1)), picture, *views]
    table = np.concatenate(columns, axis=2).reshape(-1, 4 + sum(view.shape[2] for view in views))
    if inside is not None:
        table = table[inside.reshape(-1)]
    return np.asarray(table.T @ table)


@dataclass(frozen=True, slots=True)
class Colours:
    """The best scaling of one order.

    Args:
        order: its name.
        matrix: the source channel of each channel of the input, as weights of R, G and B.
        factor: by channel.
        offset: by channel.
        residual: root mean square, in gray levels.
    """

    order: str
    matrix: tuple[tuple[float, float, float], ...]
    factor: tuple[float, ...]
    offset: tuple[float, ...]
    residual: float


def fit_colours(gram: Floats, view: int, channels: int) -> list[Colours]:
    """The scaling of each order, the best first.

    Args:
        gram: from `moments`.
        view: the position of the view.
        channels: of a view.
    """
    count = gram[0, 0]
    begin = 4 + view * channels
    mean_x, mean_y = gram[0, 1:4] / count, gram[0, begin : begin + channels] / count
    cov_xx = gram[1:4, 1:4] / count - np.outer(mean_x, mean_x)
    fitted = []
    for order, matrix in (ORDERS if channels == 3 else GREYS).items():
        factors, offsets, errors = [], [], []
        for c, row in enumerate(np.asarray(matrix)):
            cov = float(row @ (gram[1:4, begin + c] / count - mean_x * mean_y[c]))
            var_u = float(row @ cov_xx @ row)
            var_y = float(gram[begin + c, begin + c] / count - mean_y[c] ** 2)
            if var_u <= 1e-9 or abs(cov) <= 1e-12 * max(var_y, 1e-300) or cov == 0:
                errors.append(np.inf)
                continue
            a = cov / var_u
            factors.append(a)
            offsets.append(float(mean_y[c] - a * (row @ mean_x)))
            errors.append(max(0.0, var_y - a * cov) / a**2)
        if np.isfinite(errors).all():
            fitted.append(Colours(order, matrix, tuple(factors), tuple(offsets), float(np.sqrt(np.mean(errors)))))
    return sorted(fitted, key=lambda one: one.residual)


def known_scalings(order: str, channels: int, mean: Sequence[float] = (), std: Sequence[float] = ()) -> list[Affine]:
    """The scalings that have names, for an order of the channels.

    Args:
        order: a key of `ORDERS` or `GREYS`.
        channels: of the input.
        mean: of the bundle's own scaling, on a scale of 0 to 1.
        std: the same.
    """
    plain = [
        ("no scaling (0 to 255)", 1.0, 0.0),
        ("x / 255", 1 / 255, 0.0),
        ("x / 255 twice", 1 / 255**2, 0.0),
        ("x / 256", 1 / 256, 0.0),
        ("x / 127.5 - 1", 1 / 127.5, -1.0),
        ("(x / 255) / 127.5 - 1", 1 / (255 * 127.5), -1.0),
        ("x / 128 - 1", 1 / 128, -1.0),
        ("(x - 127.5) / 128", 1 / 128, -127.5 / 128),
        ("x - 128", 1.0, -128.0),
        ("1 - x / 255", -1 / 255, 1.0),
        ("2 x / 255", 2 / 255, 0.0),
    ]
    scalings = [Affine(name, (a,) * channels, (b,) * channels) for name, a, b in plain]
    if channels == 3 and order in ("RGB", "BGR"):
        scalings += _of_colours(list(range(3) if order == "RGB" else range(3)[::-1]), "")
        scalings += _of_colours(list(range(3) if order == "BGR" else range(3)[::-1]), " in the wrong order")
    if mean and std:
        own_mean, own_std = (np.broadcast_to(np.asarray(v, float), channels) for v in (mean, std))
        scalings.append(
            Affine(
                "the mean and deviation of the bundle",
                tuple((1 / (255 * own_std)).tolist()),
                tuple((-own_mean / own_std).tolist()),
            )
        )
    return scalings


def _of_colours(channels: Sequence[int], note: str) -> list[Affine]:
    """The scalings with numbers of their own for red, green and blue.

    Args:
        channels: the color of each channel of the input.
        note: what is added to the names.
    """
    scalings = [Affine(f"minus the ImageNet means (caffe){note}", (1.0,) * 3, tuple(-_CAFFE[c] for c in channels))]
    for source, (means, deviations) in (("ImageNet", _IMAGENET), ("CLIP", _CLIP)):
        shift = tuple(-means[c] / deviations[c] for c in channels)
        for title, divisor in (
            (f"x / 255, minus the {source} mean, divided by its deviation (torch){note}", 255.0),
            (f"minus the {source} mean, divided by its deviation, without x / 255 (torch){note}", 1.0),
            (f"x / 255 twice, minus the {source} mean, divided by its deviation (torch){note}", 255.0**2),
        ):
            scalings.append(Affine(title, tuple(1 / (divisor * deviations[c]) for c in channels), shift))
        plain = tuple(-means[c] for c in channels)
        scalings.append(Affine(f"x / 255 minus the {source} mean, not divided{note}", (1 / 255,) * 3, plain))
    return scalings


def name_scaling(colours: Colours, scalings: Sequence[Affine]) -> Affine:
    """The known scaling that was fitted, or the numbers."""
    a, b = np.asarray(colours.factor), np.asarray(colours.offset)

    def distance(one: Affine) -> float:
        low = np.abs(np.asarray(one.offset) - b) / np.abs(a)
        high = np.abs(np.asarray(one.factor) * 255 + np.asarray(one.offset) - 255 * a - b) / np.abs(a)
        return float(max(low.max(), high.max()))

    best = min(scalings, key=distance)
    limit = SNAPPED + min(3.0, colours.residual / 4)
    return best if distance(best) <= limit else Affine("", colours.factor, colours.offset)
