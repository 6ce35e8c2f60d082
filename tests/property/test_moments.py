"""Moments do not depend on how the values are split, and equal NumPy's in float64, on data that breaks other formulas."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bnexport.errors import InputError
from bnexport.numerics.moments import Moments, Total, from_bytes, to_bytes

KINDS = ("plain", "far from zero", "constant", "tiny", "one far value")


def values(kind: str, images: int, seed: int) -> np.ndarray:
    """Images of two channels and six positions, float32."""
    x = np.random.default_rng(seed).normal(size=(images, 2, 3, 2))
    if kind == "far from zero":
        x += 1e4
    elif kind == "constant":
        x[:] = 1e4 + 1 / 3
    elif kind == "tiny":
        x *= 1e-20
    elif kind == "one far value":
        x[0, 0, 0, 0] = 1e6
    return x.astype(np.float32)


def check(found: Moments, x: np.ndarray) -> None:
    """The same as NumPy's, to 1e-10 of the mean and variance (the issue's figure; float64 leaves four digits to spare)."""
    x = x.astype(np.float64)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    assert found.count == x.size // x.shape[1]
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10, atol=1e-30)
    # a constant channel's variance is 0 up to the rounding of its mean: (1e4 * 2^-53)^2
    np.testing.assert_allclose(found.var, var, rtol=1e-10, atol=1e-22 if np.abs(x).max() > 1 else 0)


def total(x: np.ndarray) -> Total:
    """The sums, from each image's own moments in float64."""
    wide = x.astype(np.float64)
    mean = wide.mean(axis=(2, 3))
    return Total.of_rows(6, mean, np.square(wide - mean[:, :, None, None]).sum(axis=(2, 3)))


@given(
    st.sampled_from(KINDS),
    st.integers(1, 12),
    st.lists(st.integers(1, 11), max_size=4),
    st.randoms(use_true_random=False),
    st.integers(0, 2**31),
)
@settings(max_examples=200, deadline=None)
def test_splits_and_order_do_not_matter(kind: str, images: int, cuts: list[int], random: object, seed: int) -> None:
    """However the images are split and in whatever order the parts are merged, the moments are NumPy's, and the same to the last bit."""
    x = values(kind, images, seed)
    parts = [total(part) for part in np.split(x, sorted(min(c, images) for c in cuts)) if len(part)]
    random.shuffle(parts)  # type: ignore[attr-defined]
    found, whole = reduce(lambda a, b: b.merge(a), parts).moments, total(x).moments
    check(found, x)
    np.testing.assert_array_equal(found.mean, whole.mean)
    np.testing.assert_array_equal(found.m2, whole.m2)


@given(st.sampled_from(KINDS), st.integers(1, 12), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_sums_have_the_digits_they_promise(kind: str, images: int, seed: int) -> None:
    """The mean of float32 values is the rational mean, rounded once: fractions know it exactly."""
    x = values(kind, images, seed)
    rows = x.transpose(0, 2, 3, 1).reshape(-1, 2)
    found = Total.of_rows(1, rows, np.zeros_like(rows)).moments
    for channel in range(2):
        exact = [Fraction(float(v)) for v in rows[:, channel]]
        mean = sum(exact) / len(exact)
        assert found.mean[channel] == float(mean)
        m2 = sum((v - mean) ** 2 for v in exact)
        assert found.m2[channel] == pytest.approx(
            float(m2), rel=1e-15, abs=1e-22 * float(max(abs(v) for v in exact)) ** 2
        )


def test_e_x2_minus_e_x_2_would_fail_here() -> None:
    """The data is what it is called: the formula that others use loses the variance on it."""
    x = values("far from zero", 12, 0)[:, 0]
    naive = (x**2).mean(dtype=np.float32) - x.mean(dtype=np.float32) ** 2
    assert abs(naive - x.astype(float).var()) > 0.1


def test_no_values_have_no_variance() -> None:
    """Nothing merged with something is something; nothing alone has NaN, not 0."""
    x = values("plain", 3, 0)
    for one, other in ((Total.none(2), total(x)), (total(x), Total.none(2))):
        check(one.merge(other).moments, x)
    assert np.isnan(Total.none(2).moments.var).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(odd: float) -> None:
    """One such value makes its channel's moments not finite, silently, and no other channel's."""
    x = values("plain", 3, 0)
    x[1, 0, 0, 0] = odd
    with np.errstate(invalid="ignore"):
        found = total(x).moments
    assert not np.isfinite(found.m2[0])
    assert np.isfinite(found.m2[1])


def test_bytes_and_back() -> None:
    """What is stored comes back to the last bit, and anything else is refused."""
    told = {"conv1_bn": total(values("plain", 3, 0)).moments, "a/b": total(values("constant", 1, 0)).moments}
    found = from_bytes(to_bytes(told))
    assert found.keys() == told.keys()
    for name, part in told.items():
        assert found[name].count == part.count
        np.testing.assert_array_equal(found[name].mean, part.mean)
        np.testing.assert_array_equal(found[name].m2, part.m2)
    for broken in (b"", b"hello", to_bytes(told)[:-3]):
        with pytest.raises(InputError, match="not stored moments"):
            from_bytes(broken)
