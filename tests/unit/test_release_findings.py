"""What RT021 says of a history of releases is true of it, also where an error went away and came back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bnexport.bundles.bisection import bisect
from bnexport.results.releases import Release, ReleaseCause, ReleaseMatrix, ReleaseOutcome
from bnexport.results.verdict import Finding, Severity
from bnexport.rules.releases import release_findings

RIGHT, WRONG = ReleaseOutcome.RIGHT, ReleaseOutcome.WRONG
REFUSED, SKIPPED = ReleaseOutcome.REFUSED, ReleaseOutcome.SKIPPED


def searched(history: Sequence[ReleaseOutcome], named: Sequence[int] = (), *, every: bool = False) -> ReleaseMatrix:
    """The releases 1.0, 1.1 ... with this history, as `verify --matrix` reports them."""
    result = bisect(len(history), lambda n: history[n] if history[n].ran else None, named, every=every)
    judged = {max(result.states), *named}
    releases = tuple(
        Release(
            f"1.{n}",
            history[n],
            answer=str(history[n]),
            max_rel=0.5,
            reason="no such operator" * (history[n] == REFUSED),
            judged=n in judged,
        )
        if n in result.states or n in result.skipped
        else Release(f"1.{n}", ReleaseOutcome.NOT_RUN)
        for n in range(len(history))
    )
    changes = tuple((f"1.{low}", f"1.{high}") for low, high in result.changes)
    return ReleaseMatrix("some", "some==1..", "some", releases, changes)


def found(matrix: ReleaseMatrix) -> list[Finding]:
    return release_findings(matrix, {})


def test_an_upgrade_that_breaks_the_answer_fails() -> None:
    """The newest release is wrong; the finding says since when."""
    [finding] = found(searched([RIGHT, RIGHT, WRONG, WRONG]))
    assert finding.severity == Severity.ERROR
    assert "some 1.2 is the first, of the 4 releases that were run, whose outputs are wrong" in finding.message
    assert "1.1 is right" in finding.message
    assert "the wrong answer is also that of 1.3" in finding.message
    assert finding.actions[0].reason == "deploy with some==1.1, which is right"


def test_an_upgrade_that_repairs_it_does_not_fail() -> None:
    """It is a warning about the older ones."""
    [finding] = found(searched([WRONG, WRONG, RIGHT]))
    assert finding.severity == Severity.WARNING
    assert finding.actions[0].reason == "deploy with some==1.2, which is right"


def test_where_all_agree_there_is_no_finding() -> None:
    """Whatever is between two that are right: it was not run, and that is said in the report, not in a finding."""
    matrix = searched([RIGHT, WRONG, RIGHT])
    assert found(matrix) == []
    assert "1.0 and 1.2 agree, both are right; the 1 between them were not run" in matrix.described


@pytest.mark.parametrize("every", [False, True])
def test_an_error_that_comes_back_is_not_called_the_first(every: bool) -> None:
    """Each sentence speaks of what was run: one change, or both."""
    history = [RIGHT, WRONG, RIGHT, RIGHT, RIGHT, RIGHT, WRONG]
    findings = found(searched(history, every=every))
    assert [finding.severity for finding in findings if finding.severity == Severity.ERROR] == [Severity.ERROR]
    messages = " ".join(finding.message for finding in findings)
    if every:
        assert "some 1.1 is the first" in messages
        assert "some 1.2 is right again" in messages
        assert "some 1.6 is wrong by 0.5 of the scale again, 1.5 is right" in messages
    else:
        assert "some 1.6 is the first, of the 5 releases that were run" in messages


def test_releases_without_a_change_are_wrong_throughout() -> None:
    """Then nothing is said about when it began."""
    [finding] = found(searched([WRONG, WRONG]))
    assert finding.severity == Severity.ERROR
    assert "1.1 is wrong" in finding.message
    assert "so is every other release that was run, from 1.0 on" in finding.message
    assert "first" not in finding.message
    cause = ReleaseCause("1.1", ("Pad_Fusion",), optimized=True)
    [finding] = release_findings(searched([WRONG, WRONG]), {("", "1.1"): cause})
    assert "without it 1.1 is right" in finding.message
    assert "Pad_Fusion" in finding.actions[0].reason


def test_what_does_not_run_between_two_is_named() -> None:
    """The change may be in one of them."""
    [finding] = found(searched([RIGHT, SKIPPED, SKIPPED, WRONG]))
    assert "1.1, 1.2 between them do not run here" in finding.message


def test_an_old_release_that_refuses_the_model_is_no_error() -> None:
    """A new one that does is; both say it in the runtime's own words."""
    [old] = found(searched([REFUSED, RIGHT]))
    [new] = found(searched([RIGHT, REFUSED]))
    assert (old.severity, new.severity) == (Severity.WARNING, Severity.ERROR)
    assert "refuses the model (no such operator)" in old.message
    assert "that refuses the model (no such operator)" in new.message


def test_a_release_that_was_named_must_be_right() -> None:
    """Also where the newest one is."""
    findings = found(searched([RIGHT, WRONG, RIGHT], named=[0, 1, 2]))
    assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.WARNING]


def test_a_cause_is_part_of_the_sentence_and_of_what_to_do() -> None:
    """An optimisation, an option, or a node."""
    matrix = searched([RIGHT, WRONG])
    causes = {
        "disabled_optimizers=['Pad_Fusion']": ReleaseCause(
            "1.1", ("Pad_Fusion",), optimized=True, nodes=("Pad a", "MaxPool b")
        ),
        "deploy with winograd=0": ReleaseCause("1.1", switch="winograd=0 (net.enableWinograd(False))"),
        "deploy with some==1.0": ReleaseCause("1.1", layer="Conv c", far=0.25),
    }
    for reason, cause in causes.items():
        [finding] = release_findings(matrix, {("1.0", "1.1"): cause})
        assert cause.described in finding.message
        assert reason in finding.actions[0].reason
