"""Why a server is wrong: its input is prepared otherwise, it has another version of the model, or it computes in 16 bits.

Nothing inside of a server can be looked at, so that only what makes it right, or explains how far it is off, is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnexport.checking.artifact_causes import prepared_otherwise
from bnexport.comparison.pairs import Lost
from bnexport.comparison.precision import cost_as_if
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.tally import Tally
from bnexport.errors import InputError
from bnexport.progress import Progress
from bnexport.results.preprocessing import Preprocessing
from bnexport.results.rounding import Cost
from bnexport.results.verdict import Finding
from bnexport.rules import servers, targets

_HALF = ("float16", "bfloat16")

_AT_LEAST = 1 / 8
"""An error that is smaller than so much of what a precision costs is not called its cost."""


def explain_server(
    lost: Lost, runner: Runner, tally: Tally, spec: Preprocessing | None, agrees: bool | None, progress: Progress
) -> Finding:
    """The finding about a server that computes something else.

    Args:
        lost: the run and its reference.
        runner: the run.
        tally: what was seen.
        spec: how images are prepared; None for arrays.
        agrees: whether onnxruntime is right with the file; None where it does not run it.
        progress: notified of the stage.
    """
    if agrees is False:
        return targets.runtime_differs(lost.failed, agrees, opaque=runner.opaque)
    progress.stage(f"looking for what makes {runner.id} wrong")
    feeds = lost.feed.inputs

    def right(outputs: Outputs) -> bool:
        return tally.agree(runner.mode, outputs, lost.wanted)

    ways = []
    for how, other in _otherwise(spec, feeds, lost.wanted):
        try:
            if right(runner.compute(other)):
                ways.append(how)
        except InputError:  # the server refuses such an input
            continue
    if ways:
        return servers.right_with_inputs(lost.failed, ways)
    versions = [switch.value for switch in runner.switches if _is_right(runner, switch.options, lost, tally)]
    if versions:
        return servers.right_with_version(lost.failed, versions)
    for precision in _HALF:
        cost = cost_as_if(runner, precision, lost, tally)
        if cost is not None and cost.explained and _is_as_large(cost):
            return servers.computes_in_half(lost.failed, precision, cost, agrees)
    return targets.runtime_differs(lost.failed, agrees, opaque=runner.opaque)


def _otherwise(spec: Preprocessing | None, feeds: Feeds, wanted: Outputs) -> Iterator[tuple[str, Feeds]]:
    """The same inputs prepared otherwise: scaled, in another order of channels, or with two axes exchanged."""
    yield from prepared_otherwise(spec, feeds, wanted)
    if len(feeds) != 1:
        return
    [(name, x)] = feeds.items()
    if x.ndim != 4:
        return
    first = x.shape[1] in (1, 3, 4) and x.shape[3] not in (1, 3, 4)
    height, width = (2, 3) if first else (1, 2)
    yield "it takes images whose height and width are exchanged", {name: np.swapaxes(x, height, width)}
    moved = np.moveaxis(x, 1, -1) if first else np.moveaxis(x, -1, 1)
    yield f"it takes images with the channels {'last' if first else 'first'}", {name: moved}
    yield "it takes images that are upside down", {name: np.flip(x, height)}


def _is_right(runner: Runner, options: dict[str, str], lost: Lost, tally: Tally) -> bool:
    """Whether a server is right with other options."""
    if runner.reopen is None or runner.over is None:
        return False
    try:
        outputs = runner.over(runner.reopen(None, options))(runner.given(lost.feed.inputs))
    except InputError:
        return False
    return tally.agree(runner.mode, outputs, lost.wanted)


def _is_as_large(cost: Cost) -> bool:
    """Whether the error of any tensor is about as large as the precision makes it, and not far smaller."""
    return any(r.actual_rms >= _AT_LEAST * r.expected_rms for r in cost.tensors.values())
