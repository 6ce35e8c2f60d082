"""The providers of onnxruntime, and the sides on CUDA: strictly, for parity, and as deployed, for what production will see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bnexport.comparison.sides import Feeds, Runner
from bnexport.errors import MachineError
from bnexport.results.verdict import Finding
from bnexport.rules import runtime
from bnexport.rules.runtime import provider_not_running
from bnexport.runtimes import ort_library, ort_session
from bnexport.runtimes.ort_session import Cuda


def settle_providers(wanted: Sequence[str], require: Sequence[str]) -> tuple[list[ort_session.Provider], list[Finding]]:
    """Which providers to try, and a finding for each that was asked for and cannot run.

    Args:
        wanted: "auto" (cpu, and cuda where nothing is known to be missing), "cpu", "cuda"; several are allowed.
        require: providers without which there is nothing to do.

    Raises:
        MachineError: a required provider cannot run here.
    """
    missing = ort_library.cuda_missing() if {"auto", "cuda"} & {*wanted, *require} else "it was not asked for"
    if "cuda" in require and missing:
        raise MachineError("CUDA is required but does not run on this machine", found=missing)
    chosen: list[ort_session.Provider] = ["cpu"] if {"auto", "cpu"} & {*wanted, *require} else []
    if not missing:
        chosen.append("cuda")
    lost = [provider_not_running("cuda", missing)] if "cuda" in wanted and missing else []
    return chosen or ["cpu"], lost


@dataclass(frozen=True, slots=True)
class CudaSides:
    """The sides that ran, and what is to be reported about them."""

    runners: list[Runner]
    findings: list[Finding]


def cuda_sides(
    opened: Callable[[Cuda], list[Runner]],
    feeds: Feeds,
    *,
    strict: Cuda,
    wanted: Sequence[str],
    require: Sequence[str],
    strict_placement: bool,
) -> CudaSides:
    """The CUDA sides that computed a real batch: nothing less proves that CUDA runs.

    Args:
        opened: opens the sides for a way of running CUDA; as deployed, only the inference graph.
        feeds: a batch.
        strict: how CUDA runs where parity is asked for.
        wanted: the providers that were asked for; where CUDA is among them and does not run, RT001 says so.
        require: the providers without which there is nothing to do.
        strict_placement: whether a compute node on the CPU is an error.

    Raises:
        MachineError: CUDA is required and does not run.
    """
    try:
        runners = opened(strict)
        deployed = opened(replace(strict, deployed=True))
        for runner in [*runners, *deployed]:
            runner.compute(feeds)
    except MachineError as error:
        if "cuda" in require:
            raise
        return CudaSides([], [provider_not_running("cuda", str(error))] if "cuda" in wanted else [])
    for runner in deployed:
        runner.spec = replace(runner.spec, as_deployed=True)
    placed = [
        runtime.placed_on_cpu(r.id, compute_nodes_on_cpu(r), strict=strict_placement)
        for r in runners
        if r.mode == "inference"
    ]
    return CudaSides(runners + deployed, [finding for finding in placed if finding])


_BOOKKEEPING = frozenset(
    [
        "Shape",
        "Size",
        "Gather",
        "Unsqueeze",
        "Squeeze",
        "Concat",
        "Slice",
        "Cast",
        "Range",
        "ConstantOfShape",
        "Constant",
        "Reshape",
        "Identity",
        "ReduceProd",
        "Expand",
        "Where",
        "Equal",
        "NonZero",
        "Split",
    ]
)
"""Operators on shapes, which onnxruntime leaves to the CPU on purpose."""


def compute_nodes_on_cpu(runner: Runner) -> list[tuple[str, str]]:
    """The nodes of a run on another device that the CPU computes, by operator and name, without those on shapes."""
    return [(n.operator, n.name) for n in runner.placement() if n.provider == "cpu" and n.operator not in _BOOKKEEPING]
