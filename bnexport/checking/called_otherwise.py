"""Whether a deployed file is right where it is called otherwise: with inputs or outputs exchanged, in another layout, or on other inputs."""

from __future__ import annotations

from collections.abc import Iterator

from bnexport.checking.artifact_causes import output_of_logits, prepared_otherwise, scaled_inside
from bnexport.checking.exchanges import Right, find_exchanges, works
from bnexport.comparison.deployed import Deployed
from bnexport.comparison.sides import Feeds, Outputs, Runner
from bnexport.comparison.subject import Subject
from bnexport.comparison.tally import Tally
from bnexport.results.preprocessing import Preprocessing
from bnexport.runtimes.ort_session import provider_of


def called_otherwise(
    deployed: Deployed,
    runner: Runner,
    feeds: Feeds,
    wanted: Outputs,
    right: Right,
    spec: Preprocessing | None,
    subject: Subject | None,
    tally: Tally,
) -> Iterator[str]:
    """The other ways of calling a deployed file under which it is right, in words.

    Args:
        deployed: the file.
        runner: its run.
        feeds: a batch.
        wanted: what the reference computes for it.
        right: whether outputs are those of the reference.
        spec: how images are prepared; None for arrays.
        subject: what is checked; None where only its graph is there.
        tally: what was seen.
    """
    yield from find_exchanges(deployed.interface, feeds, wanted, runner.compute, right)
    outputs = runner.compute(feeds)
    if name := output_of_logits(outputs, wanted, tally):
        yield f"it gives out the logits of {name}, not what the last activation makes of them"
    for name, x in feeds.items():
        if x.ndim == 4:
            provider = provider_of(runner.spec.device)
            if works(deployed.runner(provider, deployed.interface.with_channels_moved(name)), feeds, right):
                where = "last" if name in deployed.interface.moved_in else "first"
                yield f"its input {deployed.interface.inputs[name]} has the channels {where}"
    if deployed.interface.pixels and subject is not None:
        yield from scaled_inside(spec, feeds, outputs, subject.reference, tally)
        return
    for how, other in prepared_otherwise(spec, feeds, wanted):
        if works(runner, other, right):
            yield how
