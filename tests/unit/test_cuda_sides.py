"""CUDA's sides without a GPU: what runs is what computed a batch, what is left to the CPU is named, and reduced precision is counted, not failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bnexport.comparison.cuda import CudaSides, cuda_sides
from bnexport.comparison.engine import compare
from bnexport.comparison.sides import Runner
from bnexport.comparison.tally import Tally
from bnexport.datasets.feeds import Feed
from bnexport.errors import MachineError
from bnexport.progress import Progress
from bnexport.results.heads import Heads
from bnexport.results.runs import Role, RunSpec
from bnexport.results.tolerance import Tolerances
from bnexport.results.verdict import Severity
from bnexport.runtimes.ort_session import STRICT_CUDA, Cuda, Node

X = np.array([[3.0, 1.0, -2.0], [0.5, 2.5, 0.0]], np.float32)


def side(outputs: np.ndarray, *nodes: Node) -> Runner:
    return Runner(
        RunSpec("onnxruntime", "inference", "cuda", artifact="onnx"),
        lambda _: {"y": outputs},
        placement=lambda: list(nodes),
    )


def opened(strict: Runner, deployed: Runner, **options: Any) -> CudaSides:
    return cuda_sides(
        lambda how: [deployed if how.deployed else strict],
        {},
        strict=STRICT_CUDA,
        wanted=options.get("wanted", ["auto"]),
        require=options.get("require", []),
        strict_placement=options.get("strict_placement", False),
    )


def judged(deployed: np.ndarray) -> tuple[list[Any], list[Any]]:
    """The comparisons and findings of a check whose strict side is right and whose deployed one gives `deployed`."""
    keras = Runner(RunSpec("keras", "inference", "tensorflow", Role.CONTROL), lambda _: {"y": X})
    runners = [keras, *opened(side(X), side(deployed)).runners]
    tally = Tally(
        [run.spec for run in runners],
        Heads(("y",), classes=("a", "b", "c")),
        Tolerances({("inference", "y"): 1e-7}, 8, ""),
    )
    feed = Feed({}, ("1", "2"), np.array([-1, -1]))
    compare([feed], runners, tally, Progress())
    comparisons, findings = tally.judge((), ())
    return comparisons, findings


def test_options_say_what_is_strict() -> None:
    """Parity is judged without TF32 and with deterministic algorithms; production's defaults are onnxruntime's own."""
    assert STRICT_CUDA.options == {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    assert Cuda(deployed=True).options == {}
    assert Cuda(deployed=True, memory_limit=1 << 30).options == {"gpu_mem_limit": str(1 << 30)}


def test_both_ways_become_sides() -> None:
    """The strict one must be equal to Keras, the one as deployed is held against Keras beside it."""
    found = opened(side(X), side(X))
    assert [(r.id, r.spec.role, r.spec.as_deployed) for r in found.runners] == [
        ("onnx-inference@cuda", Role.CANDIDATE, False),
        ("onnx-inference@cuda-as-deployed", Role.CANDIDATE, True),
    ]
    assert found.findings == []


@pytest.mark.parametrize(("wanted", "codes"), [(["auto"], []), (["cuda"], ["RT001"])])
def test_a_session_that_fails_on_a_batch_does_not_run(wanted: list[str], codes: list[str]) -> None:
    """Nothing less than a batch proves that CUDA runs: RT001 where it was asked for, an error where it is required."""

    def fails(_: object) -> dict[str, np.ndarray]:
        raise MachineError("CUDA does not run here: CUDNN_STATUS_NOT_INITIALIZED")

    broken = side(X)
    broken.compute = fails
    found = opened(side(X), broken, wanted=wanted)
    assert found.runners == []
    assert [f.code for f in found.findings] == codes
    with pytest.raises(MachineError, match="CUDNN_STATUS"):
        opened(side(X), broken, require=["cuda"])


@pytest.mark.parametrize(("strict", "severity"), [(False, Severity.WARNING), (True, Severity.ERROR)])
def test_compute_nodes_on_the_cpu_are_named(strict: bool, severity: Severity) -> None:
    """RT002 counts what computes, not what works on shapes; --strict-placement makes it an error."""
    nodes = (
        Node("cuda", "Conv", "c1"),
        Node("cpu", "Resize", "r1"),
        Node("cpu", "Resize", "r2"),
        Node("cpu", "Gather", "g"),
    )
    [finding] = opened(side(X, *nodes), side(X), strict_placement=strict).findings
    assert finding.code == "RT002"
    assert finding.severity == severity
    assert finding.evidence["operators"] == {"Resize": 2}
    assert finding.evidence["nodes"] == ["r1", "r2"]
    assert opened(side(X, nodes[0], nodes[3]), side(X)).findings == []


def test_rounding_to_tf32_is_said_and_does_not_fail() -> None:
    """An error of 1e-3 as deployed: the comparison passes, RT003 warns and gives it in noise floors."""
    comparisons, [finding] = judged(X * np.float32(1.001))
    assert all(comparisons)
    assert (finding.code, finding.severity) == ("RT003", Severity.WARNING)
    assert finding.evidence["noise_floors"] == pytest.approx(1e4, rel=0.01)


def test_another_class_as_deployed_fails() -> None:
    """Where reduced precision changes an answer it is an error."""
    comparisons, [finding] = judged(X[:, [1, 0, 2]])
    assert [bool(c) for c in comparisons] == [True, False]
    assert finding.severity == Severity.ERROR
    assert finding.evidence["images_differing"] == 2


def test_no_reduction_says_nothing() -> None:
    """A GPU without TF32 gives no finding."""
    comparisons, findings = judged(X)
    assert all(comparisons)
    assert findings == []
