"""Whether two graphs hold the same weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
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
    assert tuple(getattr(found, state)) == ("k0", "k1"), found
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
    assert compare_kernels(graph(RELATED[case](CONV), RELATED[case](DENSE)), graph(CONV, DENSE)).unlike == {}


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
    unlike = compare_kernels(graph(rounded(change(CONV), bits), rounded(DENSE, bits)), graph(CONV, DENSE)).unlike
    assert list(unlike) == ["k0"]
    assert unlike["k0"] < 0.6


def chain(*, outer: float = 2.0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The kernels of a network, and those with all channels between them in another order and scale: a Flatten is before the last one."""
    rng = np.random.default_rng(5)
    shapes = {"c1": (16, 3, 3, 3), "c2": (24, 16, 3, 3), "c3": (16, 24, 1, 1), "d": (16 * 4, 10)}
    held = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    moved = dict(held)
    for first, second in itertools.pairwise(held):
        count = held[first].shape[0]
        order, scale = rng.permutation(count), rng.uniform(1 / outer, outer, count)
        scaled = moved[first] * scale.reshape(-1, 1, 1, 1)
        moved[first] = scaled[order]
        if second == "d":
            moved[second] = (moved[second].reshape(count, 4, -1) / scale[:, None, None])[order].reshape(
                held[second].shape
            )
        else:
            moved[second] = (moved[second] / scale.reshape(-1, 1, 1))[:, order]
    return held, {name: np.asarray(value, np.float32) for name, value in moved.items()}


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float": lambda k: k,
    "float16": lambda k: k.astype(np.float16),
    "8 bits": lambda k: rounded(k, 8),
}


@pytest.mark.parametrize("step", STEPS)
def test_channels_in_another_order_and_scale_throughout_are_no_other_weights(step: str) -> None:
    """What one layer orders and scales otherwise the next one reads so; a wrong kernel among them is named, and so is one that alone is ordered otherwise."""
    held, moved = chain()
    reference = graph(*held.values())
    sound = {name: STEPS[step](value) for name, value in moved.items()}
    matched = compare_kernels(graph(*sound.values()), reference)
    assert (matched.unlike, matched.foreign, dict(matched.other)) == ({}, False, {})
    flipped = sound | {"c2": sound["c2"][..., ::-1, ::-1]}
    assert "k1" in compare_kernels(graph(*flipped.values()), reference).unlike
    alone = sound | {"d": np.random.default_rng(6).permutation(sound["d"])}
    assert "k3" in compare_kernels(graph(*alone.values()), reference).unlike
    alone = sound | {"c2": sound["c2"][::-1]}
    assert "k1" in compare_kernels(graph(*alone.values()), reference).unlike


def test_another_layout_is_no_other_kernel() -> None:
    """The rows behind a Flatten with the channels first in place of last, and the colours of the images in the other order."""
    held, _ = chain()
    sound = {"c1": held["c1"][:, ::-1], "d": held["d"].reshape(4, 16, -1).swapaxes(0, 1).reshape(held["d"].shape)}
    files = [
        graph(*(rounded(value, 8) for value in kernels.values()))
        for kernels in (held | sound, held | {"d": held["d"][::-1]})
    ]
    assert [list(compare_kernels(file, graph(*held.values())).unlike) for file in files] == [[], ["k3"]]


def test_a_kernel_scaled_on_both_axes_is_scaled() -> None:
    """As cross-layer equalisation leaves those that are neither first nor last."""
    held = chain()[0]
    scale = RNG.uniform(0.25, 4, (24, 1, 1, 1)) * RNG.uniform(0.25, 4, (16, 1, 1))
    assert compare_kernels(graph((held["c2"] * scale).astype(np.float32)), graph(held["c2"])).scaled == ("k0",)


TABLE, OTHER = (RNG.normal(size=(24, 16)).astype(np.float32) for _ in range(2))


def quantised_file(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    opsets = '"" : 17, "com.microsoft" : 1'
    model = onnx.parser.parse_model(f"<ir_version: 9, opset_import: [{opsets}]> g {text}")
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def to_integers(kernel: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(kernel / np.abs(kernel).max() * 127), np.int8)


QUANTISED = {
    "rows are taken before": (
        "(int64[N] i) => (float[N,16] y) { r = Gather(t, i)  y = DequantizeLinear(r, s, z) }",
        {"t": to_integers(TABLE), "s": np.float32(0.1), "z": np.int8(0)},
    ),
    "rows are added before": (
        """(int64[N] i) => (uint8[N,16] y) {
            r = Gather(t, i)  y = com.microsoft.QLinearAdd(r, s, z, r, s, z, s, z) }""",
        {"t": to_integers(TABLE), "s": np.float32(0.1), "z": np.int8(0)},
    ),
    "zero points by channel": (
        "(float[N,24] x) => (int32[N,16] y) { q, s, z = DynamicQuantizeLinear(x)  y = MatMulInteger(q, t, z, zs) }",
        {"t": to_integers(TABLE), "zs": np.zeros(16, np.int8)},
    ),
    "recurrent": (
        """(float[S,N,16] x) => (float[S,1,N,6] y) {
            y = com.microsoft.DynamicQuantizeLSTM <hidden_size = 6>(x, t, r, , , , , , s, z, s, z) }""",
        {
            "t": to_integers(TABLE.T)[np.newaxis],
            "r": np.ones((1, 6, 24), np.int8),
            "s": np.ones(1, np.float32),
            "z": np.zeros(1, np.int8),
        },
    ),
    "4 bits": (
        "(float[N,16] x) => (float[N,24] y) { y = com.microsoft.MatMulNBits<K = 16, N = 24, bits = 4, block_size = 16>(x, t, s) }",
        {"t": np.zeros((24, 1, 8), np.uint8), "s": np.ones(24, np.float32)},
    ),
}


@pytest.mark.parametrize("case", QUANTISED)
def test_kernels_in_integers_are_read_or_not_compared(case: str) -> None:
    """Beside another kernel of the same shape, which is not it."""
    text, weights = QUANTISED[case]
    scaled = OTHER.T * np.float32(1.001)
    model = quantised_file(text, **{name: np.asarray(value) for name, value in weights.items()}, other=scaled)
    table = TABLE[np.newaxis] if case == "recurrent" else TABLE
    matched = compare_kernels(model, graph(table, OTHER))
    assert (matched.unlike, matched.absent) == ({}, ("k0",) if case == "4 bits" else ())


def test_a_kernel_in_integers_that_is_another_one_is_unlike() -> None:
    """Where they are read."""
    text, weights = QUANTISED["zero points by channel"]
    model = quantised_file(text, **weights | {"t": to_integers(TABLE[::-1])})
    assert list(compare_kernels(model, graph(TABLE)).unlike) == ["k0"]
