"""RT021: releases of a runtime that give different answers (`verify --matrix`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexport.results.actions import Action, advise
from bnexport.results.releases import Release, ReleaseCause, ReleaseMatrix, ReleaseOutcome, outcome_of
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.rule import Rule

RT021 = Rule(
    "RT021",
    "releases of a runtime give different answers",
    meaning=(
        "The outputs that are stored in a bundle are computed by some releases of a runtime and not by others, or not by the "
        "newest one that was run. It is an error where the newest release that was run is wrong, or one that --matrix names by its number."
    ),
    measured=(
        "bnexport verify --matrix runs the batches of the bundle on releases of the runtime, each in an environment of its own, and "
        "compares with the stored outputs in the tolerance of the bundle. The first and the last release are run, then the middle one between "
        "two that differ. Nothing is known about releases between two that agree: --matrix-all runs all of them. Of a change the optimisation of "
        "onnxruntime is named without which the wrong release is right; otherwise the first node whose output differs between the two releases."
    ),
    neighbours="RT007, RT004: the onnxruntime that is installed is wrong. RT009: another runtime that is installed is.",
    remedy="Deploy with a release that is right, or without the optimisation that is named, and report the change to the authors of the runtime.",
)


def release_findings(matrix: ReleaseMatrix, causes: Mapping[tuple[str, str], ReleaseCause]) -> list[Finding]:
    """RT021 for each change between two releases, and for releases that are wrong without one.

    Args:
        matrix: the releases.
        causes: what is known about changes, by their two versions.
    """
    ran = matrix.ran
    blamed: set[str] = set()
    findings = []
    for low, high in matrix.changes:
        before, after = (next(release for release in ran if release.version == version) for version in (low, high))
        later, earlier = _alike(ran, after, 1), _alike(ran, before, -1)
        failing = [
            release for release in (*earlier, *later) if release.judged and release.outcome != ReleaseOutcome.RIGHT
        ]
        failing = [release for release in failing if release.version not in blamed]
        blamed |= {release.version for release in failing}
        findings.append(_change(matrix, before, after, failing, causes.get((low, high))))
    wrong = [r for r in ran if r.judged and r.outcome != ReleaseOutcome.RIGHT and r.version not in blamed]
    return [*([_throughout(matrix, wrong, causes.get(("", wrong[-1].version)))] if wrong else []), *findings]


def _alike(ran: Sequence[Release], release: Release, step: int) -> list[Release]:
    """The releases with the same answer that were run next to one, it among them."""
    position = ran.index(release)
    alike = []
    while 0 <= position < len(ran) and ran[position].answer == release.answer:
        alike.append(ran[position])
        position += step
    return alike


def _change(
    matrix: ReleaseMatrix, before: Release, after: Release, failing: Sequence[Release], cause: ReleaseCause | None
) -> Finding:
    """RT021: two neighbours among the releases that were run have different answers."""
    package, ran = matrix.package, matrix.ran
    of_those = f"of the {len(ran)} releases that were run"
    left_out = _left_out(matrix, before, after)
    right = ReleaseOutcome.RIGHT
    again = any(release.outcome == after.outcome for release in ran[: ran.index(after)])
    if right not in (before.outcome, after.outcome):
        message = f"{package} {before.version} {_is(before)}, {after.version} {_is(after)}, and their answers differ"
    elif again:
        message = f"{package} {after.version} {_is(after)} again, {before.version} {_is(before)}, {of_those}"
    else:
        how = "that is right" if after.outcome == right else _does(after)
        message = f"{package} {after.version} is the first, {of_those}, {how}: {before.version} {_is(before)}"
    message += left_out
    if cause is not None and cause.described:
        message += f"; {cause.described}"
    if also := [release.version for release in failing if release not in (before, after)]:
        message += f"; the wrong answer is also that of {', '.join(also)}"
    evidence: dict[str, object] = {
        "package": package,
        "before": before.version,
        "after": after.version,
        "outcomes": {release.version: outcome_of(release) for release in (before, after)},
        "releases_run": [release.version for release in ran],
    }
    if cause is not None:
        evidence |= _evidence(cause)
    actions = _actions(package, before, after, cause)
    severity = Severity.ERROR if failing else Severity.WARNING
    return RT021.finding(severity, message, evidence, actions, cause.nodes if cause is not None else ())


def _throughout(matrix: ReleaseMatrix, wrong: Sequence[Release], cause: ReleaseCause | None) -> Finding:
    """RT021: releases that were asked for are wrong, and no change between two of them says since when."""
    package, first = matrix.package, wrong[0]
    listed = ", ".join(f"{release.version} {_is(release)}" for release in wrong)
    ran = matrix.ran
    alike = (
        f"; so is every other release that was run, from {ran[0].version} on"
        if len(ran) > len(wrong) and not matrix.changes
        else ""
    )
    message = f"the outputs of {package} are not those that are stored in the bundle: {listed}{alike}"
    if cause is not None and cause.described:
        message += f"; {cause.described}"
    evidence: dict[str, object] = {
        "package": package,
        "outcomes": {release.version: outcome_of(release) for release in wrong},
        "releases_run": [release.version for release in ran],
    }
    actions = (
        *_cures(cause),
        advise("run older releases, too: one of them may be right"),
        advise(f"or do not deploy this file on {package} {first.version}"),
    )
    if cause is not None:
        evidence |= _evidence(cause)
    return RT021.finding(Severity.ERROR, message, evidence, actions)


def _does(release: Release) -> str:
    """What a release does, after "that"."""
    if release.outcome == ReleaseOutcome.REFUSED:
        return f"that refuses the model ({release.reason})"
    if release.outcome == ReleaseOutcome.ENDED:
        return f"whose process ends ({release.reason})"
    return f"whose outputs are wrong, {outcome_of(release).removeprefix('wrong ')}"


def _is(release: Release) -> str:
    """What a release does, after its name."""
    if release.outcome == ReleaseOutcome.REFUSED:
        return f"refuses the model ({release.reason})"
    return f"ends ({release.reason})" if release.outcome == ReleaseOutcome.ENDED else f"is {outcome_of(release)}"


def _left_out(matrix: ReleaseMatrix, before: Release, after: Release) -> str:
    """The releases between two that could not be run."""
    positions = [position for position, one in enumerate(matrix.releases) if one in (before, after)]
    between = [one.version for one in matrix.releases[positions[0] + 1 : positions[-1]]]
    if not between:
        return ""
    return f"; {', '.join(between)} between them {'do' if len(between) > 1 else 'does'} not run here"


def _evidence(cause: ReleaseCause) -> dict[str, object]:
    return {
        "release": cause.release,
        "optimizers": list(cause.optimizers),
        "nodes": list(cause.nodes),
        "layer": cause.layer,
        "right_with": cause.switch or cause.exposed,
    }


def _cures(cause: ReleaseCause | None) -> list[Action]:
    """What makes the wrong release right."""
    if cause is not None and cause.optimizers:
        return [advise(f"create the session with disabled_optimizers={list(cause.optimizers)!r}")]
    return [advise(f"deploy with {cause.switch}")] if cause is not None and cause.switch else []


def _actions(package: str, before: Release, after: Release, cause: ReleaseCause | None) -> tuple[Action, ...]:
    actions = _cures(cause)
    good = next((release for release in (after, before) if release.outcome == ReleaseOutcome.RIGHT), None)
    if good is not None:
        actions.append(advise(f"{'or ' if actions else ''}deploy with {package}=={good.version}, which is right"))
    return tuple(actions) or (advise(f"do not deploy this file on {package} {after.version}"),)
