"""Whether two graphs hold the same weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnexport.onnx_graph.kernels import compare_kernels, find_unlike

RNG = np.random.default_rng(0)
CONV, DENSE = (RNG.normal(size=shape).astype(np.float32) for shape in ((8, 4, 3, 3), (16, 5)))


def graph(*kernels: np.ndarray) -> onnx.ModelProto:
    """A graph that is nothing but its initializers."""
    names = [f"k{i}" for i in range(len(kernels))]
    initializers = [numpy_helper.from_array(np.ascontiguousarray(k), n) for k, n in zip(kernels, names, strict=True)]
    return helper.make_model(helper.make_graph([], "g", [], [], initializers))


CASES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "as they are": (lambda k: k, "same"),
    "float16": (lambda k: k.astype(np.float16), "same"),
    "axes reversed": (lambda k: k.T, "same"),
    "folded": (lambda k: k * RNG.uniform(0.5, 2, (k.shape[0], *[1] * (k.ndim - 1))).astype(np.float32), "scaled"),
    "negative scale": (lambda k: -k, "scaled"),
    "other values": (lambda k: RNG.normal(size=k.shape).astype(np.float32), "other"),
    "shuffled": (lambda k: RNG.permuted(k.ravel()).reshape(k.shape), "other"),
    "other shape": (lambda k: k[:3], "absent"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_became_of_a_kernel(case: str) -> None:
    """Layout, precision and folding keep a kernel recognisable; other values do not."""
    change, state = CASES[case]
    found = compare_kernels(graph(change(CONV), change(DENSE)), graph(CONV, DENSE))
    assert getattr(found, state) == ("k0", "k1"), found
    assert found.foreign == (state == "other")


@pytest.mark.parametrize(("nth", "axis"), [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1)])
def test_channels_in_another_order_are_no_other_weights(nth: int, axis: int) -> None:
    """Columns or rows that are permuted are said to be, with their order; also transposed, and rounded to float16."""
    kernels = [CONV, DENSE]
    order = RNG.permutation(kernels[nth].shape[axis])
    while (order == np.arange(len(order))).all():
        order = RNG.permutation(len(order))
    moved = np.take(kernels[nth], order, axis)
    for change in (lambda k: k, lambda k: k.T, lambda k: k.astype(np.float16)):
        found = compare_kernels(graph(change(moved)), graph(kernels[nth]))
        assert not found.foreign
        [permuted] = found.permuted
        assert (permuted.name, permuted.axis, permuted.order) == ("k0", axis, tuple(order))
        assert "in another order" in permuted.described


def test_one_wrong_kernel_is_no_other_checkpoint() -> None:
    """Most kernels decide."""
    more = RNG.normal(size=(7, 9)).astype(np.float32)
    assert not compare_kernels(graph(CONV, DENSE * 0 + 1, more), graph(CONV, DENSE, more)).foreign


def rounded(k: np.ndarray, bits: int) -> np.ndarray:
    step = np.abs(k).max() / (2 ** (bits - 1) - 1)
    return (np.round(k / step) * step).astype(np.float32)


RELATED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "8 bits": lambda k: rounded(k, 8),
    "3 bits": lambda k: rounded(k, 3),
    "clipped": lambda k: rounded(np.clip(k, -1, 1), 4),
    "pruned": lambda k: np.where(np.abs(k) < np.quantile(np.abs(k), 0.8), 0, k),
    "folded with signs": lambda k: rounded(k * RNG.choice([-2.0, 0.5, 3], (k.shape[0], *[1] * (k.ndim - 1))), 8),
    "equalised": lambda k: rounded(
        k
        * RNG.uniform(0.3, 3, (k.shape[0], *[1] * (k.ndim - 1)))
        * RNG.uniform(0.3, 3, (k.shape[1], *[1] * (k.ndim - 2))),
        8,
    ),
    "trained on": lambda k: k + RNG.normal(size=k.shape).astype(np.float32) / 4,
    "all zero": lambda k: k * 0,
}


@pytest.mark.parametrize("case", RELATED)
def test_what_comes_from_a_kernel_is_not_unlike_it(case: str) -> None:
    """Whatever precision, calibration, pruning, folding and further training do."""
    assert find_unlike(graph(RELATED[case](CONV), RELATED[case](DENSE)), graph(CONV, DENSE)) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda k: k[..., ::-1, ::-1],
        lambda k: k.transpose(0, 1, 3, 2),
        lambda k: k[::-1],
        lambda k: np.roll(k, 1, axis=1),
        lambda k: RNG.normal(size=k.shape),
    ],
    ids=["flipped", "transposed", "outputs reversed", "inputs rolled", "other"],
)
@pytest.mark.parametrize("bits", [8, 4])
def test_a_kernel_that_cannot_come_from_another_is_unlike_it(
    change: Callable[[np.ndarray], np.ndarray], bits: int
) -> None:
    """It alone is named."""
    found = find_unlike(graph(rounded(change(CONV), bits), rounded(DENSE, bits)), graph(CONV, DENSE))
    assert list(found) == ["k0"]
    assert found["k0"] < 0.6


def test_a_file_with_channels_in_another_order_throughout_has_no_unlike_kernel() -> None:
    """What one layer orders otherwise the next one reads so."""
    order = RNG.permutation(8)
    after = RNG.normal(size=(5, 8, 3, 3)).astype(np.float32)
    assert find_unlike(graph(CONV[order], after[:, order]), graph(CONV, after)) == {}
