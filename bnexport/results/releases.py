"""What became of a bundle on several releases of a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReleaseOutcome(StrEnum):
    """What a release does with the bundle."""

    RIGHT = "right"
    """Its outputs are those that are stored, within the tolerance."""
    WRONG = "wrong"
    """Its outputs are others."""
    REFUSED = "refused"
    """It does not read the model, or does not run the batch."""
    ENDED = "ended"
    """Its process came to an end, or took too long."""
    SKIPPED = "skipped"
    """It cannot be installed, or does not run on this machine."""
    NOT_RUN = "not run"
    """Nothing asked for it."""

    @property
    def ran(self) -> bool:
        """Whether there is an answer."""
        return self not in (ReleaseOutcome.SKIPPED, ReleaseOutcome.NOT_RUN)


@dataclass(frozen=True, slots=True)
class Release:
    """One release.

    Args:
        version: of the package.
        outcome: what it does with the bundle.
        run: the id of its run; "" where it computed nothing.
        answer: releases that ran and have the same answer have the same; "" for the others.
        max_rel: the largest error relative to the size of the tensor, over all outputs; None where nothing was computed.
        noise_floors: the largest error in noise floors; None where no floor is known.
        reason: why it did not run, or what it says; "" where it ran.
        python: the version of its interpreter; "" where there was none.
        seconds: how long it took, installing included.
        judged: whether the verdict depends on it: the newest one that ran, and those that were named one by one.
    """

    version: str
    outcome: ReleaseOutcome
    run: str = ""
    answer: str = ""
    max_rel: float | None = None
    noise_floors: float | None = None
    reason: str = ""
    python: str = ""
    seconds: float = 0.0
    judged: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseMatrix:
    """The releases of one package.

    Args:
        package: its name.
        wanted: the releases as they were given.
        runtime: the runtime that it brings.
        releases: all of them, the oldest first.
        changes: neighbours among those that ran whose answers differ, by their versions; all that is between them was skipped.
        note: how the list came about, where it may not be complete; "" where it is.
    """

    package: str
    wanted: str
    runtime: str
    releases: tuple[Release, ...]
    changes: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @property
    def ran(self) -> tuple[Release, ...]:
        """Those that ran."""
        return tuple(release for release in self.releases if release.outcome.ran)

    @property
    def described(self) -> str:
        """What was run and how it went, in a sentence or two."""
        ran = self.ran
        waiting = [release for release in self.releases if release.outcome == ReleaseOutcome.NOT_RUN]
        skipped = len(self.releases) - len(ran) - len(waiting)
        counted = f"{len(ran)} of {len(self.releases)} releases of {self.package} were run"
        counted += f", {skipped} skipped" if skipped else ""
        first, last = ran[0], ran[-1]
        if first is last:
            return f"{counted}: {first.version} is {outcome_of(first)}"
        if self.changes:
            changes = "; ".join(f"{low} and {high} differ" for low, high in self.changes)
            between = "; what is between two that agree was not run" if waiting else ""
            return f"{counted}: {changes}{between}"
        if not waiting:
            return f"{counted}: they agree, {last.version} is {outcome_of(last)}"
        return (
            f"{counted}: {first.version} and {last.version} agree, both are {outcome_of(last)}; "
            f"the {len(waiting)} between them were not run (--matrix-all runs all)"
        )


def outcome_of(release: Release) -> str:
    """The outcome of a release in a sentence.

    >>> outcome_of(Release("1.0", ReleaseOutcome.WRONG, noise_floors=2500.4)), outcome_of(Release("1.0", ReleaseOutcome.RIGHT))
    ('wrong by 2,500 noise floors', 'right')
    """
    if release.outcome != ReleaseOutcome.WRONG:
        return str(release.outcome)
    if release.noise_floors is not None:
        return f"wrong by {release.noise_floors:,.0f} noise floors"
    return "wrong" if release.max_rel is None else f"wrong by {release.max_rel:.2g} of the scale"


@dataclass(frozen=True, slots=True)
class ReleaseCause:
    """What is known about why a release is wrong.

    Args:
        release: its version.
        optimizers: onnxruntime's optimisations; switched off together, the release is right.
        optimized: whether it is right with all optimisations of onnxruntime off.
        nodes: the nodes where it happens.
        switch: an option under which the release is right, with what it means; "" where none is known.
        exposed: the tensor that cures it where it is an output of the graph, so that nothing is fused across it; "" where there is none.
        layer: the first node whose output differs from that of the release that is right; "" where that is not known.
        far: how far its output is from it, relative to its scale.
    """

    release: str
    optimizers: tuple[str, ...] = ()
    optimized: bool = False
    nodes: tuple[str, ...] = ()
    switch: str = ""
    exposed: str = ""
    layer: str = ""
    far: float = 0.0

    @property
    def described(self) -> str:
        """A clause about it; "" where nothing is known."""
        at = f", at {' -> '.join(self.nodes)}" if self.nodes else ""
        if self.optimizers:
            return f"the optimisation {' and '.join(self.optimizers)} of {self.release} changes the result{at}: without it {self.release} is right"
        if self.optimized:
            return f"an optimisation of {self.release} changes the result{at}: without optimisations it is right"
        parts = [f"{self.release} is right with {self.switch}"] if self.switch else []
        if self.exposed:
            parts.append(
                f"{self.release} is right if the tensor {self.exposed} is an output of the graph, so it fuses nodes wrongly{at}"
            )
        if self.layer:
            parts.append(
                f"the error begins at {self.layer}: its inputs agree in both releases, its output differs by {self.far:.2g}"
            )
        return "; ".join(parts)
