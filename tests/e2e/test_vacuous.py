"""Nothing passes vacuously: what other checkers call a match is a failure with a sentence of its own here."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

from bnexport import check
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError
from bnexport.numerics.compare import IncomparableError, RunningDifference
from bnexport.results.heads import Heads
from bnexport.results.runs import Role, RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Comparison

Outputs = Mapping[str, np.ndarray]
X = np.arange(6, dtype=np.float32).reshape(2, 3)
INFINITE = np.where(X == 4, np.inf, X).astype(np.float32)
NAN = np.where(X == 4, np.nan, X).astype(np.float32)


def graph(names: Sequence[str]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ["x", *names]]
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in names]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))


def judged(actual: Sequence[Outputs], reference: Sequence[Outputs]) -> list[Comparison]:
    """The comparisons of an ONNX side with Keras over some batches."""
    keras = RunSpec("keras", "inference", "tensorflow", Role.CONTROL)
    exported = RunSpec("onnxruntime", "inference", "cpu", artifact="onnx")
    tally = Tally([keras, exported], Heads(tuple(reference[0])), Tolerances())
    for theirs, ours in zip(reference, actual, strict=True):
        rows = len(next(iter(theirs.values()), np.zeros(0)))
        feed = Feed({}, tuple(map(str, range(rows))), np.full(rows, -1))
        tally.begin(feed, dict(theirs))
        tally.add(keras.id, feed, dict(theirs), {})
        tally.add(exported.id, feed, dict(ours), {keras.id: dict(theirs)})
    return tally.judge((), ())[0]


# What differs: the two sides' outputs batch by batch, whether Polygraphy passes it, and our words.
TABLE: dict[str, tuple[list[Outputs], list[Outputs], bool, str]] = {
    "an output is missing": ([{"y": X}], [{"y": X, "z": X}], True, "onnx-inference@cpu has no such output"),
    "an output is extra": ([{"y": X, "z": X}], [{"y": X}], True, "keras-inference has no such output"),
    "an output is renamed": ([{"w": X}], [{"y": X}], True, "has no such output"),
    "a batch is shorter": ([{"y": X}, {"y": X[:1]}], [{"y": X}, {"y": X}], False, "shapes differ"),
    "the dtypes differ": ([{"y": X.astype(np.float64)}], [{"y": X}], True, "dtypes differ"),
    "integers for floats": ([{"y": X.astype(np.int32)}], [{"y": X}], True, "dtypes differ"),
    "empty arrays": ([{"y": X[:0]}], [{"y": X[:0]}], True, "nothing to compare"),
    "one side is NaN": ([{"y": NAN}], [{"y": X}], False, "not finite"),
    "infinity on both sides": ([{"y": INFINITE}], [{"y": INFINITE}], False, "not finite"),
    "small but ten times too large": (
        [{"y": np.float32([[1e-6, 0, 0]])}],
        [{"y": np.float32([[1e-7, 0, 0]])}],
        True,
        "relative error 9",
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", TABLE)
def test_bnexport_fails_it(case: str) -> None:
    """At least one comparison fails, and says why."""
    actual, reference, _, words = TABLE[case]
    failed = [c.reason for c in judged(actual, reference) if not c]
    assert failed
    assert any(words in reason for reason in failed), failed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", TABLE)
def test_what_polygraphy_says_of_it(case: str) -> None:
    """Side by side, with its defaults: most of these pass there."""
    from polygraphy.comparator import Comparator, CompareFunc, IterationResult, RunResults

    actual, reference, passes, _ = TABLE[case]
    results = RunResults()
    for name, batches in (("actual", actual), ("reference", reference)):
        results.append((name, [IterationResult(outputs=dict(b), runtime=0.1, runner_name=name) for b in batches]))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        told = bool(Comparator.compare_accuracy(results, compare_func=CompareFunc.simple()))
    assert told == passes


def test_equal_sides_pass() -> None:
    """The table's failures are not this harness's."""
    assert all(judged([{"y": X}], [{"y": X}]))


def test_no_batch_is_an_error() -> None:
    """Without one comparison there is no verdict."""
    assert judged([{}], [{}]) == []
    with pytest.raises(IncomparableError, match="nothing to compare"):
        RunningDifference().result()


@pytest.mark.parametrize("sides", ["N, 0, 4", "N, 4, 0"])
def test_a_model_with_an_output_without_numbers_is_refused(sides: str, tmp_path: Path) -> None:
    """One sentence with the output and its shape: no run differs from another one, and none is right."""
    end = "3" if sides.startswith("N, 0") else "9"
    onnx.save(
        onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 18]>
            g (float[N, 9, 4] x) => (float[N, 9, 4] z, float[{sides}] y)
            <int64[1] three = {{3}}, int64[1] ends = {{{end}}}, int64[1] axis = {{{1 if end == "3" else 2}}}>
            {{ z = Relu (x)  y = Slice (x, {"three, ends" if end == "3" else "ends, ends"}, axis) }}"""),
        tmp_path / "net.onnx",
    )
    with pytest.raises(
        InputError, match=rf"^the output y .* axis of size 0, .*: found shape \({sides}\); correct the layer"
    ):
        check(tmp_path / "net.onnx", np.ones((2, 9, 4), np.float32))
