"""Whether two graphs hold the same weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnexport.onnx_graph.kernels import compare_kernels

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
