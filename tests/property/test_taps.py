"""Resampling: kernels are those of their papers, and what each pixel of a result is made of adds up to one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bnexport.numerics.resampling import taps
from bnexport.numerics.resampling.taps import Taps

SIZE = st.integers(2, 40)
EPS = 1e-12
"""Sums of a few products in float64."""

KERNELS: dict[str, tuple[Callable[[], taps.Kernel], float]] = {
    "triangle": (lambda: taps.triangle, 1),
    "cubic -0.5": (lambda: taps.cubic(-0.5), 2),
    "cubic -0.75": (lambda: taps.cubic(-0.75), 2),
    "mitchell": (lambda: taps.mitchell, 2),
}


def ramp(made: Taps, size: int) -> np.ndarray:
    """A ramp 0, 1, 2 ... resampled."""
    return made.apply(np.arange(size, dtype=np.float64)[:, None, None], 0)[:, 0, 0]


@pytest.mark.parametrize("name", KERNELS)
@given(st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_kernel_shifted_by_whole_pixels_adds_up_to_one(name: str, x: float) -> None:
    """Anywhere between two pixels; it is symmetric, and 0 from its support on."""
    make, support = KERNELS[name]
    kernel = make()
    whole = np.arange(-3.0, 4.0)
    assert kernel(x + whole).sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(kernel(-x - whole), kernel(x + whole), atol=EPS)
    assert not kernel(np.array([support + x, -support - x])).any()


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (lambda: taps.triangle, {0.0: 1, 0.25: 0.75, 1.0: 0}),
        (lambda: taps.cubic(-0.5), {0.0: 1, 0.5: 9 / 16, 1.0: 0, 1.5: -1 / 16, 2.0: 0}),  # Keys (1981), equation 15
        (lambda: taps.cubic(-0.75), {0.0: 1, 0.5: 19 / 32, 1.0: 0, 1.5: -3 / 32}),
        (lambda: taps.mitchell, {0.0: 8 / 9, 1.0: 1 / 18, 2.0: 0, 0.5: 77 / 144, 1.5: -5 / 144}),  # B = C = 1/3
    ],
    ids=["triangle", "Keys", "OpenCV", "Mitchell"],
)
def test_kernels_are_those_of_their_papers(make: Callable[[], taps.Kernel], at: dict[float, float]) -> None:
    """At the pixels and half way between them."""
    np.testing.assert_allclose(make()(np.array([*at])), [*at.values()], atol=EPS)


@given(SIZE, SIZE)
@settings(max_examples=80, deadline=None)
def test_positions_meet_the_borders(size: int, out: int) -> None:
    """Corners lie on corners, centres are symmetric, and asymmetric positions begin at 0 with the step of the sizes."""
    corners, half, plain = (taps.positions(size, out, kind) for kind in ("corners", "half", "asymmetric"))
    assert (corners[0], corners[-1]) == (0, pytest.approx(size - 1))
    np.testing.assert_allclose(half + half[::-1], size - 1, atol=1e-9)
    np.testing.assert_allclose(np.diff(half), size / out, atol=1e-9)
    np.testing.assert_allclose(plain, np.arange(out) * size / out, atol=1e-9)
    np.testing.assert_array_equal(taps.positions(size, out), half)


MADE: dict[str, Callable[[int, int], Taps]] = {
    "triangle": lambda size, out: taps.sample_kernel(size, out, taps.triangle, 1),
    "antialiased": lambda size, out: taps.sample_kernel(size, out, taps.triangle, 1, antialias=True),
    "cut": lambda size, out: taps.sample_kernel(size, out, taps.mitchell, 2, antialias=True, edge="cut"),
    "area": taps.area,
    "pool": taps.pool,
    "nearest": lambda size, out: taps.nearest(size, out, 0.5, single=False),
    "nearest in float32": lambda size, out: taps.nearest(size, out, 0.5, single=True),
}


@pytest.mark.parametrize("kind", MADE)
@given(SIZE, SIZE)
@settings(max_examples=60, deadline=None)
def test_weights_add_up_to_one(kind: str, size: int, out: int) -> None:
    """Each pixel is made of samples that there are, and a picture of one grey level keeps it."""
    made = MADE[kind](size, out)
    assert made.index.min() >= 0
    assert made.index.max() < size
    np.testing.assert_allclose(made.weight.sum(axis=1), 1, atol=1e-9)
    if kind != "cut":
        assert made.weight.min() >= 0


@given(SIZE, SIZE)
@settings(max_examples=60, deadline=None)
def test_linear_interpolation_keeps_a_ramp(size: int, out: int) -> None:
    """Each pixel has the value of its position, up to the borders."""
    expected = np.clip(taps.positions(size, out), 0, size - 1)
    np.testing.assert_allclose(ramp(taps.sample_kernel(size, out, taps.triangle, 1), size), expected, atol=1e-9)


def test_means_over_areas_by_hand() -> None:
    """Five samples to two: the exact area splits the middle one, adaptive pooling counts it twice; whole factors are plain means."""
    np.testing.assert_allclose(ramp(taps.area(5, 2), 5), [(0 + 1 + 2 / 2) / 2.5, (2 / 2 + 3 + 4) / 2.5], atol=EPS)
    np.testing.assert_allclose(ramp(taps.pool(5, 2), 5), [1, 3], atol=EPS)
    for mean in (taps.area, taps.pool):
        np.testing.assert_allclose(ramp(mean(6, 2), 6), [1, 4], atol=EPS)
        np.testing.assert_allclose(ramp(mean(2, 4), 2), [0, 0, 1, 1], atol=EPS)


def test_nearest_samples_by_hand() -> None:
    """Without a shift the first sample of each step, with one the middle one."""
    for single in (False, True):
        assert ramp(taps.nearest(6, 2, 0.0, single=single), 6).tolist() == [0, 3]
        assert ramp(taps.nearest(6, 2, 0.5, single=single), 6).tolist() == [1, 4]
        assert ramp(taps.nearest(2, 4, 0.5, single=single), 2).tolist() == [0, 0, 1, 1]


def test_a_table_rounds_positions() -> None:
    """With 4 steps between two pixels, weights are multiples of a quarter, the nearest ones."""
    made = taps.sample_kernel(7, 5, taps.triangle, 1, table=4)
    exact = taps.sample_kernel(7, 5, taps.triangle, 1)
    np.testing.assert_array_equal(made.weight * 4, np.rint(made.weight * 4))
    assert 0 < np.abs(made.weight - exact.weight).max() <= 1 / 8 + EPS
