"""Weights that a conversion to float16 cut or raised to a limit: named where nothing else is otherwise, and never where something is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnexport import check
from bnexport.numerics.clamped import SMALLEST, find_clamped
from bnexport.onnx_graph.kernels import clamped_weights

RNG = np.random.default_rng(0)
LARGE = (RNG.normal(size=(16, 8)) * 6e3).astype("f")
SMALL = (RNG.normal(size=(16, 8)) * 3e-8).astype("f")


def half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float32)


def cut(x: np.ndarray, limit: float = 1e4) -> np.ndarray:
    return half(np.clip(x, -limit, limit))


def raised(x: np.ndarray) -> np.ndarray:
    """As onnxconverter_common does."""
    return half(np.where((x != 0) & (np.abs(x) < 1e-7), np.copysign(1e-7, x), x).astype("f"))


def test_cut_weights_are_counted_with_their_limit() -> None:
    """The numbers beyond the limit, by the default limit of the converter, the end of float16, or one that a user gave."""
    for limit, factor in ((1e4, 1), (65504.0, 10), (3000.0, 1)):
        [found] = find_clamped("w", cut(LARGE * factor, limit), LARGE * factor)
        assert (found.limit, found.raised, found.size) == (limit, False, 128)
        assert found.count == (np.abs(LARGE * factor) > limit * (1 + 2**-11)).sum() > 1
        assert found.furthest == pytest.approx(np.abs(LARGE * factor).max())


def test_raised_weights_are_counted_with_their_limit() -> None:
    """Small numbers become 1e-7, which float16 holds as 1.19e-7; 0 stays 0, and a tensor may be cut as well."""
    values = SMALL.copy()
    values[0] = 0
    [found] = find_clamped("w", raised(values), values)
    assert (found.limit, found.raised) == (SMALLEST, True)
    assert found.described.endswith("(the model has down to " + f"{found.furthest:.3g})")
    both = np.concatenate([SMALL, np.float32([[1e-3] * 8]), np.full((1, 8), 2e4, "f")])
    assert [f.raised for f in find_clamped("w", cut(raised(both)), both)] == [
        False
    ]  # what was raised is nothing beside 1e4


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float16 alone": lambda w: half(np.clip(w, -9e3, 9e3)),
    "another weight": lambda w: np.where(np.arange(w.size).reshape(w.shape) == 5, 17.0, cut(w)),
    "another sign": lambda w: np.where(np.abs(w) > 1e4, -cut(w), cut(w)),
    "scaled": lambda w: cut(w) * 0.9,
    "shuffled": lambda w: cut(w)[::-1],
    "rounded to 8 bits": lambda w: np.round(np.clip(w, -1e4, 1e4) / 79) * 79,
    "not finite": lambda w: np.where(np.abs(w) > 1e4, np.inf, w),
    "nothing": np.zeros_like,
    "another shape": lambda w: cut(w).T,
}


@pytest.mark.parametrize("how", ALTERED)
def test_nothing_is_named_where_something_else_is_otherwise(how: str) -> None:
    """One number that no limit explains is enough."""
    reference = np.clip(LARGE, -9e3, 9e3) if how == "float16 alone" else LARGE
    assert find_clamped("w", ALTERED[how](LARGE), reference) == ()


def test_one_number_at_an_unknown_limit_says_nothing() -> None:
    """Any wrong number is the largest or the smallest of some tensor; at the limit of the converter it is not."""
    one = np.float32([[1, 2, 3, 20000]])
    assert find_clamped("w", np.float32([[1, 2, 3, 15000]]), one) == ()
    assert find_clamped("w", np.float32([[1, 2, 3, 10000]]), one)
    assert find_clamped("w", np.float32([[1, 2, 3, 0.5]]), np.float32([[1, 2, 3, 0.1]])) == ()


def net(*kernels: np.ndarray, scale: float) -> onnx.ModelProto:
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]> g (float[N, 8] x) => (float[N, 8] y)
        { a = MatMul (x, first)  b = Relu (a)  c = Mul (b, scale)  y = MatMul (c, second) }""")
    stored = {"first": kernels[0], "second": kernels[1], "scale": np.float32(scale)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in stored.items())
    return model


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxconverter_common import float16

    made: onnx.ModelProto = float16.convert_float_to_float16(model, keep_io_types=True)
    return made


@pytest.mark.filterwarnings("ignore:the float32 number:UserWarning")
@pytest.mark.parametrize(
    ("kernels", "scale", "named", "advice"),
    [
        (
            (LARGE[:8] * 3, RNG.normal(size=(8, 8))),
            1e-4,
            "first are cut to 10000 (the model has up to",
            "max_finite_val=65504",
        ),
        (
            (LARGE[:8] * 30, RNG.normal(size=(8, 8))),
            1e-4,
            "first are cut to 10000 (the model has up to",
            "node_block_list",
        ),
        (
            (SMALL[:8] / 30, RNG.normal(size=(8, 8))),
            5e3,
            "first are raised to 1.19209e-07 (the model has down to",
            "node_block_list",
        ),
        ((LARGE[:8] * 3, LARGE[8:] * 3), 1e-4, "second are cut to 10000 (the model has up to", "max_finite_val=65504"),
    ],
)
def test_the_finding_names_what_the_converter_changed(
    kernels: tuple[np.ndarray, np.ndarray], scale: float, named: str, advice: str, tmp_path: Path
) -> None:
    """EX001 with the weights, the limit, and how to convert; also where every kernel was cut, which is no other checkpoint."""
    onnx.save(net(*kernels, scale=scale), tmp_path / "net.onnx")
    onnx.save(in_half(net(*kernels, scale=scale)), tmp_path / "half.onnx")
    x = RNG.random((4, 8), np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    report = check(tmp_path / "net.onnx", inputs=tmp_path / "data.npz", deployed=tmp_path / "half.onnx")
    [finding] = [finding for finding in report.findings if finding.severity == "error"]
    assert finding.code == "EX001"
    assert "; the conversion to float16 changed weights: " in finding.message
    assert named in finding.message
    assert advice in finding.actions[0].reason
    assert {w["name"] for w in finding.evidence["weights_clamped"]} <= {"first", "second"}


def test_a_file_that_another_exporter_wrote_is_matched_by_shape() -> None:
    """Its kernel has another name and the axes in another order."""
    model = net(cut(LARGE[:8]).T, RNG.normal(size=(8, 8)), scale=1.0)
    model.graph.initializer[0].name = "onnx::MatMul_17"
    [found] = clamped_weights(model, {"dense/kernel": LARGE[:8]})
    assert found.name == "dense/kernel"
