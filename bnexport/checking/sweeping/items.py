"""A sweep over items that no data set has: one item of zeros, and one of NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexport.checking.sweeping.inputs import replace_item, take
from bnexport.checking.sweeping.nan_items import mixing_node, rows_of, swallowing_node
from bnexport.comparison.sides import Outputs, Runner
from bnexport.datasets.feeds import Feed
from bnexport.errors import InputError, MachineError
from bnexport.results.sweep import SweepCase, SweepOutcome
from bnexport.rules.sweep import nan_is_swallowed, nan_reaches_others

if TYPE_CHECKING:
    from bnexport.checking.sweeping.sweep import Sweep

TOGETHER = 4
"""So many items are run together, one of them replaced."""

PIXELS = "the file takes pixels as integers"
NO_NUMBERS = "no input takes {}"


def zeros_and_nan(sweep: Sweep) -> None:
    """Replaces one item of a batch by zeros, and by NaN."""
    zeros, nan = f"{sweep.judge.noun.a} of zeros", f"{sweep.judge.noun.a} of NaN"
    deployed = sweep.opening.deployed
    reason = ""
    if sweep.reference.of_items is not None:
        reason = "recorded outputs belong to the items of the data"
    elif deployed is not None and deployed.interface.pixels:
        reason = PIXELS
    if reason:
        sweep.skip("zeros", [zeros], reason)
        sweep.skip("nan", [nan], reason)
        return
    clean = take(sweep.first, sweep.count(TOGETHER), exact=False)
    row = min(1, len(clean.names) - 1)
    feed = replace_item(clean, row, 0.0, kinds="fiub")
    if feed is None:
        sweep.skip("zeros", [zeros], NO_NUMBERS.format("numbers"))
    else:
        sweep.progress.stage(f"sweeping: {zeros}")
        sweep.attempt("zeros", zeros, feed, ())
    feed = replace_item(clean, row, float("nan"), kinds="f")
    if feed is None:
        sweep.skip("nan", [nan], NO_NUMBERS.format("floating point numbers"))
    else:
        sweep.progress.stage(f"sweeping: {nan}")
        _nan(sweep, nan, clean, feed, row)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an item of NaN does to a run.

    Args:
        runner: the run.
        swallowed: how many values are finite and not so in the reference, by output.
        reaches: how the outputs of other items change, in words; "" where they do not.
    """

    runner: Runner
    swallowed: dict[str, int]
    reaches: str


def _nan(sweep: Sweep, name: str, clean: Feed, broken: Feed, row: int) -> None:
    before, after = (sweep.compute_wanted("nan", name, feed) for feed in (clean, broken))
    if before is None or after is None:
        return
    others = [other for other in range(len(clean.names)) if other != row]
    in_reference = bool(_reach(sweep, sweep.reference, broken, before, after, others))
    seen = []
    for runner in sweep.runners:
        case = SweepCase("nan", name, runner.id, SweepOutcome.PASSED)
        try:
            ours, theirs = runner.compute(clean.inputs), runner.compute(broken.inputs)
        except (InputError, MachineError) as error:
            sweep.cases.append(SweepCase("nan", name, runner.id, SweepOutcome.NOT_TRIED, reason=str(error)))
            continue
        entry = _Seen(
            runner,
            _finite_values(theirs, after, row, len(clean.names)),
            _reach(sweep, runner, broken, ours, theirs, others),
        )
        if entry.reaches:
            case = SweepCase(
                "nan", name, runner.id, SweepOutcome.DIFFERS, reason=f"it changes the others: {entry.reaches}"
            )
        elif entry.swallowed:
            case = SweepCase("nan", name, runner.id, SweepOutcome.DIFFERS, reason="finite where the reference is not")
        sweep.cases.append(case)
        seen.append(entry)
    noun, count, progress = sweep.judge.noun, len(clean.names), sweep.progress
    if reaching := [entry for entry in seen if entry.reaches]:
        first = reaching[0]
        node = mixing_node(first.runner, clean.inputs, broken.inputs, count, progress)
        sides = [entry.runner.id for entry in reaching]
        sweep.findings.append(nan_reaches_others(sides, node, first.reaches, in_reference=in_reference, noun=noun))
    if swallowing := [entry for entry in seen if entry.swallowed]:
        first = swallowing[0]
        node = swallowing_node(first.runner, clean.inputs, broken.inputs, progress)
        tensor, values = next(iter(first.swallowed.items()))
        shown = sweep.judge.subject.heads(()).shown(tensor)
        sides = [entry.runner.id for entry in swallowing]
        sweep.findings.append(nan_is_swallowed(sides, shown, values, node, noun))


def _finite_values(actual: Outputs, wanted: Outputs, row: int, count: int) -> dict[str, int]:
    """How many values of the item are finite and not so in the reference, by output, where there are any."""
    values = {
        name: int(np.count_nonzero(np.isfinite(actual[name][row]) & ~np.isfinite(x[row])))
        for name, x in wanted.items()
        if name in actual and rows_of(x, count) and rows_of(actual[name], count) and actual[name].shape == x.shape
    }
    return {name: number for name, number in values.items() if number}


def _reach(sweep: Sweep, runner: Runner, feed: Feed, before: Outputs, after: Outputs, others: list[int]) -> str:
    """How the outputs of the other items change, in words; "" where they do not."""
    count = len(feed.names)
    names = [n for n, x in before.items() if n in after and rows_of(x, count) and after[n].shape == x.shape]
    if not others or not names:
        return ""
    for name in names:
        lost = np.isfinite(before[name][others]) & ~np.isfinite(after[name][others])
        if number := int(np.count_nonzero(lost)):
            shown = sweep.judge.subject.heads(()).shown(name)
            return f"{number} of {lost.size} values of {shown} are no longer finite"
    rest = Feed(
        {name: x[others] for name, x in feed.inputs.items() if len(x) == count},
        tuple(feed.names[other] for other in others),
        feed.labels[others],
    )
    ours, theirs = ({name: x[name][others] for name in names} for x in (after, before))
    return sweep.judge.with_itself(runner, rest, ours, theirs, "without NaN").reason
