"""Where a size is baked into a file: the constant that has to follow the size for the file to be right, or the node that stops."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnexport.checking.sweeping.inputs import Change
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.errors import InputError
from bnexport.onnx_graph.protobuf import serialise
from bnexport.onnx_graph.size_constants import SizeConstant, size_constants, with_sizes
from bnexport.rules.rule import Rule
from bnexport.rules.runtime import RT004, RT005
from bnexport.rules.sweep import EX010
from bnexport.rules.targets import RT009
from bnexport.runtimes import ort_session

BUDGET = 20.0
"""The search for a constant ends after so many seconds."""

MOST = 64
"""So many constants are tried one by one."""

SOUND = "in onnxruntime on the CPU the file agrees"
"""Then the runtime or the provider is the cause."""

_SOURCE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(?:h|cc):\d+ .*?\) (?=\S)")
"""What says where in onnxruntime an error was raised."""

_STOPPED = re.compile(r"while running (\S+) node\. Name:'([^']*)'")
"""How onnxruntime names the node that fails."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a file is right for one size only.

    Args:
        nodes: the names of the nodes.
        text: what was proved, in words; "" where nothing was.
        rule: which finding that is.
    """

    nodes: tuple[str, ...]
    text: str
    rule: Rule = EX010


def stopped_at(error: Exception) -> tuple[str, str] | None:
    """The operator and the name of the node that onnxruntime names in an error; None where it names none."""
    match = _STOPPED.search(str(error))
    return (match[1], match[2]) if match and match[2] else None


def shorten(error: Exception) -> str:
    """What onnxruntime says, without where in its own source it does."""
    return _SOURCE.sub("", str(error))


def is_plain(runner: Runner) -> bool:
    """Whether it is the file in onnxruntime on the CPU: what fails there is the fault of the file, or of optimisations."""
    return runner.spec.runtime == "onnxruntime" and runner.spec.device == "cpu"


def elsewhere(runner: Runner) -> Rule:
    """What it is where the file is right in onnxruntime on the CPU, and not in this run."""
    return RT005 if runner.spec.runtime == "onnxruntime" else RT009


def find_cause(
    runner: Runner, feeds: Feeds, changes: Sequence[tuple[int, int]], right: Callable[[Outputs], bool], *, batch: bool
) -> Cause:
    """What ties a file to the size of the data.

    Args:
        runner: a run of the file that fails.
        feeds: a batch on which it does.
        changes: the size in the data, and in the batch, of each axis.
        right: whether outputs for the batch are right.
        batch: whether the axis is the batch.
    """
    if runner.graph is None or runner.over is None:
        return Cause((), "")
    graph, over = runner.graph(), runner.over

    def compute(model: bytes) -> Outputs:
        return over(ort_session.Session(model, optimized=False).run)(feeds)

    def works(constants: Sequence[tuple[SizeConstant, int]]) -> bool:
        try:
            return right(compute(serialise(with_sizes(graph, constants))))
        except InputError:
            return False

    stopped = None
    try:
        if right(compute(serialise(graph))):
            if is_plain(runner):
                return Cause((), "with the optimisations of onnxruntime switched off the file agrees", RT004)
            return Cause((), SOUND, elsewhere(runner))
    except InputError as error:
        stopped = stopped_at(error)
    candidates = [
        (constant, constant.value // old * new)
        for old, new in changes
        for constant in size_constants(graph, old, first=batch)
    ]
    needed = _fewest_changes(candidates, [old for old, _ in changes], works)
    if needed:
        named = " and ".join(f"{constant.title} has {constant.value}" for constant, _ in needed)
        text = f"{named} among {'its' if len(needed) == 1 else 'their'} constants, and with "
        text += f"{' and '.join(str(size) for _, size in needed)} in {'its' if len(needed) == 1 else 'their'} place the file agrees"
        return Cause(tuple(dict.fromkeys(constant.name for constant, _ in needed)), text)
    if stopped is not None:
        operator, name = stopped
        return Cause((name,), f"onnxruntime stops in {operator} {name}")
    return Cause((), "")


def _fewest_changes(
    candidates: Sequence[tuple[SizeConstant, int]],
    sizes: Sequence[int],
    works: Callable[[Sequence[tuple[SizeConstant, int]]], bool],
) -> list[tuple[SizeConstant, int]]:
    """The fewest constants that have to be others: one of them, or of those that are just the size as many as it takes."""
    end = time.monotonic() + BUDGET
    for candidate in candidates[:MOST]:
        if time.monotonic() > end:
            return []
        if works([candidate]):
            return [candidate]
    needed = [(constant, size) for constant, size in candidates if constant.value in sizes]
    if len(needed) < 2 or not works(needed):
        return []
    for candidate in list(needed):
        fewer = [other for other in needed if other is not candidate]
        if time.monotonic() < end and fewer and works(fewer):
            needed = fewer
    return needed


def as_pairs(changes: Sequence[Change]) -> list[tuple[int, int]]:
    """The old and the new size of each axis."""
    return [(change.axis.size, change.size) for change in changes]
