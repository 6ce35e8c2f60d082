"""What recalibrate, batch and demo print fits on one screen; -v prints everything."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bnexport.reporting import batch as batch_text
from bnexport.reporting.recalibration import lines as recalibration_lines
from bnexport.reporting.story import show_short_story, show_story
from bnexport.results.actions import Action
from bnexport.results.batched import Batch, Result
from bnexport.results.outcomes import Epoch, Recalibration, Residual
from bnexport.results.verdict import CheckReport, Finding, Severity, Side
from tests.unit.test_summary import make, side

ACTIONS = (Action("pass more images", "bnexport recalibrate a.h5 more"), Action("train for more updates"))
FINDING = Finding("IN003", Severity.INFO, "3 images are few\x1b[2J", actions=ACTIONS)
RIGHT, WRONG = (0, 1, 2), (1, 1, 1)


def recalibrated(**changes: object) -> Recalibration:
    """What came of recalibrating a small model, which answers better than before."""
    before, after = side("before", WRONG), side("after", RIGHT)
    residual = Residual(1e-7, 0.0, "bn")
    made = Recalibration(3, 5, 6, residual, 0, replace(before, correct=1), after, (FINDING,), Path("out.h5"), "")
    return replace(made, **changes)  # type: ignore[arg-type] # the fields of the record


def screen(text: str, width: int = 80) -> list[str]:
    """The lines of a terminal that is so wide."""
    return [line[n : n + width] for line in text.splitlines() for n in range(0, max(len(line), 1), width)]


def test_a_recalibration_lists_actions_where_everything_is_wanted() -> None:
    """Without -v each finding is a line; with it, what to do about it follows, commands on lines of their own."""
    short = list(recalibration_lines(recalibrated(), Path("out.h5")))
    assert short == [
        "out.h5: 6 BatchNormalization nodes recalibrated from 3 images in 5 stages",
        "largest residual: 1.0e-07 standard deviations (bn)",
        "correct before: 1 of 3, after: 3 of 3",
        "IN003 3 images are few\\x1b[2J",
        "next: bnexport check out.h5 IMAGES",
    ]
    whole = list(recalibration_lines(recalibrated(), Path("out.h5"), verbose=True))
    added = ["  -> bnexport recalibrate a.h5 more", "     pass more images", "  -> train for more updates"]
    assert whole == [*short[:4], *added, *short[4:]]


def test_a_refused_recalibration_states_its_reason_once() -> None:
    """A finding that is the reason is not repeated; nothing is said to have been written."""
    refused = recalibrated(written=None, refused=f"accuracy falls: {FINDING.message}")
    text = "\n".join(recalibration_lines(refused, Path("out.h5"), verbose=True))
    assert text.startswith("REFUSED: out.h5 was not written\naccuracy falls")
    assert text.count("images are few") == 1
    assert "next:" not in text
    assert "\x1b" not in text


def batch(count: int, failed: int) -> Batch:
    """So many checks, of which the first ones fail that passed before."""
    statuses = ["fail"] * failed + ["pass"] * (count - failed)
    results = tuple(
        Result(str(nth), f"net{nth}", (), status, 1, 1.5, 0.0, "", {"findings": []})
        for nth, status in enumerate(statuses)
    )
    return Batch(Path("out"), results, frozenset(r.name for r in results), {r.name: "pass" for r in results})


def shown(results: Batch, *, verbose: bool) -> list[str]:
    stream = io.StringIO()
    batch_text.show(results, Console(file=stream, width=80, highlight=False, soft_wrap=True), verbose=verbose)
    return stream.getvalue().splitlines()


def test_a_batch_of_many_checks_fits_on_a_screen() -> None:
    """The counts, and the first of what fails newly; -v has a line for each check, and all names."""
    results = batch(200, 50)
    short = shown(results, verbose=False)
    names = ", ".join(f"net{nth}" for nth in range(8))
    expected = ["50 fail, 150 pass of 200 checks; 200 run now", f"new failures: {names} and 42 more (-v)"]
    assert short == expected
    whole = shown(results, verbose=True)
    assert len(whole) == 202
    assert whole[0] == "[1/200] FAIL net0 (1.5 s)"
    assert whole[-1] == "new failures: " + ", ".join(f"net{nth}" for nth in range(50))


def demo_report(*, differ: bool) -> CheckReport:
    """The check of the demo's model."""

    def run(name: str, answers: tuple[int, ...]) -> Side:
        correct = sum(a == b for a, b in zip(answers, RIGHT, strict=True))
        mode = "training" if "training" in name else "inference"
        return replace(side(name, answers, mode), correct=correct)

    stale = WRONG if differ else RIGHT
    sides = (
        run("keras-inference", stale),
        run("keras-training", RIGHT),
        run("onnx-inference@cpu", stale),
        run("onnx-training@cpu", RIGHT),
    )
    report = make()
    return replace(report, sides=sides, images=replace(report.images, labels=RIGHT))


EPOCHS = [Epoch(number, 1 / 10**number, 1.0) for number in range(1, 16)]


def story(report: CheckReport, *, verbose: bool, momentum: float = 0.99) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=80, highlight=False)
    repaired = dict.fromkeys(("repaired.keras", "repaired.onnx", "folded.onnx"), report.sides[1])
    if verbose:
        show_story(EPOCHS, 5, report, console, momentum)
    else:
        show_short_story(EPOCHS, report, repaired, 1e-6, momentum, console)
    return stream.getvalue()


def test_the_demo_fits_on_a_screen() -> None:
    """At 80 columns, with the lines that name the files and the next commands; -v tells the same at length."""
    report = demo_report(differ=True)
    short, whole = story(report, verbose=False), story(report, verbose=True)
    assert len(screen(short)) + 10 <= 30, short
    assert len(screen(whole)) > 40
    rows = {line.split("  ")[0]: line.split()[-4:] for line in short.splitlines() if "/3" in line}
    assert rows["Keras, inference mode"] == ["1/3", "b", "b", "b"]
    assert rows["ONNX, training mode (cpu)"] == rows["folded.onnx"] == ["3/3", "a", "b", "c"]
    assert "after 15 updates are 86% what they started from" in short.replace("\n", " ")
    assert "86% of it is still the initial value" in whole


@pytest.mark.parametrize("verbose", [False, True])
def test_the_demo_tells_the_momentum_that_it_was_given(*, verbose: bool) -> None:
    """What is left of the initial values follows from it, and where both modes agree nothing is called stale."""
    text = story(demo_report(differ=True), verbose=verbose, momentum=0.9).replace("\n", " ")
    assert "21%" in text
    text = story(demo_report(differ=False), verbose=verbose).replace("\n", " ")
    assert "have converged" in text
    assert "initial value" not in text
